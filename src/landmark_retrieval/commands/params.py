"""The option `--params` of all commands: as Kedro's, with lists."""

from __future__ import annotations

from typing import Any

import click
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

BRACKETS = {"[": "]", "{": "}"}

SPELLING = (
    "give parameters as name=value,group.option=value, and lists as name=[1,2] or name=[1;2], quoted in "
    "the shell"
)


def parse_params(text: str) -> dict[str, Any]:
    """Return parameters as nested plain values.

    Args:
        text: `name=value` with commas between; commas and semicolons in brackets stand between the parts of a
            list (`blend.weights=[0.5,0.5]`), and of a mapping (`{blend: 20, aggregated: 10}`).

    Raises:
        ValueError: says what is wrong, and how lists are spelt.
    """
    entries = [entry.strip() for entry in _entries(text) if entry.strip()]
    for entry in entries:
        if not entry.partition("=")[0].strip() or "=" not in entry:
            raise ValueError(f"'{entry}' is no name=value; {SPELLING}")
    pairs = (entry.partition("=") for entry in entries)
    try:
        parsed = OmegaConf.from_dotlist([f"{name.strip()}={value.strip()}" for name, _, value in pairs])
        return {str(name): value for name, value in OmegaConf.to_container(parsed).items()}  # type: ignore[union-attr]
    except (OmegaConfBaseException, ValueError) as error:
        raise ValueError(f"{' '.join(str(error).split())[:200]}; {SPELLING}") from error


def _entries(text: str) -> list[str]:
    """Split at the commas outside of lists; within them a semicolon becomes a comma."""
    entries, closing = [""], ""
    for sign in text:
        if sign in BRACKETS and (closing or entries[-1].rstrip().endswith("=")):
            closing += BRACKETS[sign]
        elif closing and sign == closing[-1]:
            closing = closing[:-1]
        if sign == "," and not closing:
            entries.append("")
        else:
            entries[-1] += "," if sign == ";" and closing else sign
    if closing:
        raise ValueError(f"'{entries[-1]}' has a bracket without its '{closing[-1]}'; {SPELLING}")
    return entries


def _callback(context: click.Context, _: click.Parameter, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    try:
        return parse_params(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context) from error


params_option = click.Option(
    ["--params"],
    type=click.UNPROCESSED,
    default="",
    callback=_callback,
    help="Parameters in place of those of the configuration: name=value,group.option=value; lists as "
    "'name=[1,2]' or 'name=[1;2]'.",
)
"""Option `--params`, for commands that are made of options."""
