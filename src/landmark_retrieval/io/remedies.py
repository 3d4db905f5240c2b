"""What is said of artifacts that cannot be used, and the one command that makes them again."""

from __future__ import annotations

from collections.abc import Sequence

from landmark_retrieval.io.chain import Chain, Fault

NAMED = 3
"""Causes that are named, and artifacts of each; of damaged files all are."""

ORDER = (
    *("own_features", "features", "training", "knn_graph", "nearest_expansion", "spatial_verification"),
    *("egt_sweep", "egt", "evaluation", "collection", "qe_variants", "rivals"),
)
"""Pipelines as they follow each other."""


def in_words(faults: Sequence[Fault], chain: Chain) -> str:
    """Return one line that names what is wrong, and the command that mends it.

    Args:
        faults: at least one, causes first.
        chain: of their artifacts.
    """
    damaged = [fault for fault in faults if fault.kind == "damaged"]
    causes: dict[str, list[str]] = {}
    for fault in faults:
        if fault not in damaged and not fault.indirect:
            causes.setdefault(fault.why, []).append(fault.artifact)
    said = [f"{fault.artifact} is damaged ({fault.why})" for fault in damaged]
    said += [f"{_named(names)}: {why}" for why, names in list(causes.items())[:NAMED]]
    rest = len(faults) - len(damaged) - sum(len(names) for names in list(causes.values())[:NAMED])
    if rest:
        said.append(f"{rest} more artifacts come from these")
    return (
        f"{'; '.join(said)}. Make {'it' if len(faults) == 1 else 'them'} again with {command(faults, chain)}"
    )


def command(faults: Sequence[Fault], chain: Chain) -> str:
    """Return the command that makes artifacts again, and then what the present run was asked for."""
    needed = {pipeline_of(fault.artifact, chain) for fault in faults} - {""}
    if not needed:
        return "`kedro run`"
    wanted = needed | (set(chain.asked) - {"__default__"})
    return (
        f"`kedro run --pipelines {','.join(sorted(wanted, key=_place))}` (with the same --env and --params)"
    )


def pipeline_of(name: str, chain: Chain) -> str:
    """Return the pipeline that makes an artifact, "" where none does."""
    record = chain.record(name)
    return record.pipeline if record is not None and record.pipeline else maker_of(name)


def maker_of(name: str) -> str:
    """Return the first pipeline that makes an artifact, "" where none does."""
    from kedro.framework.project import pipelines

    return next(
        (known for known in ORDER if known in pipelines and name in pipelines[known].all_outputs()), ""
    )


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _place(pipeline: str) -> int:
    return ORDER.index(pipeline) if pipeline in ORDER else len(ORDER)
