"""Validated configuration: every parameter group is a frozen pydantic model that refuses unknown names."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from landmark_retrieval.errors import OptionError

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""Start of random numbers, as every library takes it."""

Scale = Annotated[float, Field(ge=0.05, le=8)]
"""Factor of a picture's long side."""

ShardSize = Annotated[int, Field(ge=1, le=1_000_000)]
"""Units of work in a shard, what a kill loses at most."""

Threads = Annotated[int, Field(ge=0, le=4096)]
"""Threads, 0 for all cores."""


def _a_number(value: float) -> float:
    if math.isnan(value):
        raise ValueError("should be a number, .inf or -.inf")
    return value


Threshold = Annotated[float, Field(allow_inf_nan=True), AfterValidator(_a_number)]
"""Threshold that may be infinite."""


class Configuration(BaseModel):
    """Base of all parameter models: immutable, hashable, and loud about misspelt options.

    Numbers must be finite unless their field says otherwise, and every number has a range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise OptionError(bad_values(error, values, type(self))) from error

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined] # groups in groups: all faults at once

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Return the model of plain values, as pydantic does; refuse bad values in one line.

        Args:
            obj: values by option.
            options: as of `pydantic.BaseModel.model_validate`.

        Raises:
            OptionError: says of every bad value which option it is of, and what it should be.
        """
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise OptionError(bad_values(error, obj, cls)) from error

    def read_files(self) -> dict[str, str]:
        """Return the files that a run with these options reads, by the names of the options."""
        return {
            f"{name}.{option}": file
            for name, value in self
            if isinstance(value, Configuration)
            for option, file in value.read_files().items()
        }

    def fingerprint(self) -> str:
        """Return a hexadecimal digest of all values, equal for equal configurations."""
        return digest(self.model_dump(mode="json"))


class OpenConfiguration(Configuration):
    """A model whose options may be left open (None): then what measurement chose, else the default."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {}
    """Values of options that nothing else settles."""

    def settled(self, chosen: Mapping[str, Any] | None = None) -> Self:
        """Return the model without open options: what is given wins over what is chosen, that over defaults.

        Args:
            chosen: values by option.

        Raises:
            OptionError: an option that was chosen does not exist.
        """
        given = {name: value for name, value in self if value is not None}
        return type(self)(**{**self.DEFAULTS, **(chosen or {}), **given})


def unknown_option(name: str, options: Sequence[str], kind: str = "option") -> str:
    """Return the message for a misspelt name: the closest existing one, and all that exist.

    Args:
        name: as it was given.
        options: names that exist.
        kind: what the names are of, in the singular.
    """
    close = difflib.get_close_matches(name, options, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"unknown {kind} '{name}': {hint}{kind}s here are {', '.join(options)}"


def bad_values(error: ValidationError, values: Any, model: type[BaseModel]) -> str:
    """Return the message for values that a model refuses: each option, what it should be, and what it is.

    Args:
        error: error of the model.
        values: that it was given.
        model: itself.
    """
    wanted: dict[str, list[str]] = {}
    given: dict[str, Any] = {}
    for problem in error.errors(include_url=False):
        path, context = _option_path(problem["loc"], values), problem.get("ctx", {})
        value, text = problem["input"], problem["msg"]
        if problem["type"] == "union_tag_invalid":
            tag = context["discriminator"].strip("'")
            path, value = (*path, tag), context["tag"]
            text = f"Input should be one of {context['expected_tags']}"
        elif problem["type"] == "extra_forbidden":
            *groups, name = problem["loc"]
            text = unknown_option(str(name), _options_of(model, groups))
        elif problem["type"] == "model_type":
            text = "Input should be a group of options"
        wanted.setdefault(".".join(path), []).append(_in_words(text))
        given[".".join(path)] = value
    lines = []
    for option, texts in wanted.items():
        text = " or ".join(dict.fromkeys(texts)).replace(" or should be ", " or ")
        unknown = texts[0].startswith("unknown ")
        name = f"option '{option}'" if option and not unknown else ""
        # pydantic's own messages go on from the value, others say all there is to say.
        value = json.dumps(given[option], default=str)[:60]
        line = f"{name} {text}, got {value}" if text.startswith("should ") else f"{name}: {text}"
        lines.append(line.lstrip(" :"))
    return "; ".join(lines)


def _options_of(model: type[BaseModel], groups: Iterable[int | str]) -> list[str]:
    """Return the options of a group within a model, by the names that lead to it."""
    models = [model]
    for part in groups:
        inner = [found for one in models if part in one.model_fields for found in _models_of(one, str(part))]
        tagged = [one for one in models if part in {field.default for field in one.model_fields.values()}]
        models = inner or tagged or models
    return list(models[0].model_fields)


def _models_of(model: type[BaseModel], field: str) -> list[type[BaseModel]]:
    """Return the models that a field may hold, within unions, lists and mappings."""
    waiting, found = [model.model_fields[field].annotation], []
    while waiting:
        annotation = waiting.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.append(annotation)
        waiting += get_args(annotation)
    return found


def _option_path(location: Iterable[int | str], values: Any) -> tuple[str, ...]:
    """Return the names of an option and its groups, without the names of types that pydantic tried."""
    path: list[str] = []
    for part in location:
        if isinstance(values, Mapping):
            if part not in values and part in values.values():
                continue  # the name of a member of a tagged union
            values = values.get(part)
        elif isinstance(values, (list, tuple)) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            break
        path.append(str(part))
    return tuple(path)


def _in_words(text: str) -> str:
    """Return what pydantic says of a value, without how it tried to read it and in words of YAML."""
    text = re.sub(r", unable to .*", "", text.removeprefix("Value error, "))
    return text.replace("Input should", "should").replace("a valid tuple", "a list")


def digest(*parts: Any) -> str:
    """Return a 16-character hexadecimal SHA-256 digest of JSON-serialisable parts."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
