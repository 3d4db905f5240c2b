"""The ablation as data: what each variant adds, and what it ranks.

This is the only place that names a variant. Artifacts, nodes, the table, the runs in MLflow, the report and
`kedro search` follow from the fields. A rival is one more entry, and a node where it needs an artifact of its
own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from landmark_retrieval.configuration import unknown_option
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.ranking import Ranking
from landmark_retrieval.graph import Traversal
from landmark_retrieval.knn import NeighborLists
from landmark_retrieval.retrieval.stages import (
    Searched,
    traverse,
    traverse_similarities,
    traverse_with_labels,
)


@dataclass(frozen=True)
class Variant:
    """One row of the ablation.

    Attributes:
        name: namespace of its artifacts.
        adds: the stage that it adds, for people.
        graph: name of the variant whose graph of neighbours (and descriptors) it ranks; a variant that
            searches for itself names itself.
        expansion: for a variant that searches for itself, the parameters by which it expands the descriptors
            of the first one, after their candidates were verified; None searches the descriptors as they are.
        rank: makes its ranking of these neighbours; None takes them as they are.
        traverses: whether `rank` gives a `Traversal`, whose trusted paths explain each result.
        uses_labels: whether `rank` uses the labels of the train images.
        beside: name of the variant whose stage it does in another way; both are compared with the one before
            that. None for a stage of its own.
    """

    name: str
    adds: str
    graph: str
    expansion: str | None = None
    rank: Callable[[Searched], NeighborLists | Traversal | Ranking] | None = None
    traverses: bool = False
    uses_labels: bool = False
    beside: str | None = None


def rival(kind: str, **options: float) -> Callable[[Searched], Ranking]:
    """Return what ranks by a re-ranker of the literature, with the options that its paper recommends.

    Args:
        kind: of the re-ranker, as in `experiments.rivals.config`.
        **options: its parameters; the pipeline `rivals` measures others.
    """

    def rank_by_rival(found: Searched) -> Ranking:
        """Rank the index by a rival."""
        from landmark_retrieval.experiments.rivals.rank import rank_searched  # brings SciPy's solvers

        return rank_searched(found, {"kind": kind, **options})

    return rank_by_rival


BLEND = Variant("blend", "nearest neighbours of blended descriptors", graph="blend")

BLEND_QE_SV = Variant(
    "blend_qe_sv", "+ spatially verified query expansion", graph="blend_qe_sv", expansion="expansion"
)

BLEND_QE_SV_EGT = Variant(
    "blend_qe_sv_egt",
    "+ explore-exploit graph traversal",
    graph=BLEND_QE_SV.name,
    rank=traverse,
    traverses=True,
)

BLEND_QE_SV_SEMISUP_EGT = Variant(
    "blend_qe_sv_semisup_egt",
    "+ label bridges",
    graph=BLEND_QE_SV.name,
    rank=traverse_with_labels,
    traverses=True,
    uses_labels=True,
)

BLEND_QE_SV_PAPER_EGT = Variant(
    "blend_qe_sv_paper_egt",
    "the paper's traversal, over similarities by t, whatever egt.weights says",
    graph=BLEND_QE_SV.name,
    rank=traverse_similarities,
    traverses=True,
    beside=BLEND_QE_SV_EGT.name,
)

ALPHA_QE = Variant(
    "alpha_qe",
    "alpha query expansion, unverified (Radenović et al., 2018)",
    graph=BLEND.name,
    rank=rival("expansion", query_images=50, alpha=3.0),
    beside=BLEND_QE_SV.name,
)

DBA_QE = Variant(
    "dba_qe",
    "augmented database and average query expansion, unverified (Gordo et al., 2017)",
    graph=BLEND.name,
    rank=rival("expansion", query_images=1, alpha=0.0, database_images=20),
    beside=BLEND_QE_SV.name,
)

DIFFUSION = Variant(
    "diffusion",
    "diffusion on the graph of mutual neighbours (Iscen et al., 2017)",
    graph=BLEND.name,
    rank=rival("diffusion", neighbors=50),
    beside=BLEND_QE_SV.name,
)

K_RECIPROCAL = Variant(
    "k_reciprocal",
    "k-reciprocal re-ranking (Zhong et al., 2017)",
    graph=BLEND.name,
    rank=rival("k_reciprocal", k1=20, k2=6, weight=0.3),
    beside=BLEND_QE_SV.name,
)

VARIANTS: tuple[Variant, ...] = (
    BLEND,
    BLEND_QE_SV,
    BLEND_QE_SV_EGT,
    BLEND_QE_SV_SEMISUP_EGT,
    BLEND_QE_SV_PAPER_EGT,
    ALPHA_QE,
    DBA_QE,
    DIFFUSION,
    K_RECIPROCAL,
)
"""All variants in the order of the table; each is compared with the one before, see `compared_with`."""


def variant_of(name: str) -> Variant:
    """Return the variant of a name.

    Raises:
        LandmarkRetrievalError: there is none; says which there are.
    """
    known = {variant.name: variant for variant in VARIANTS}
    if name not in known:
        raise LandmarkRetrievalError(unknown_option(name, list(known), kind="variant"))
    return known[name]


def choose_variants(names: Sequence[str] | None) -> tuple[Variant, ...]:
    """Return the variants of a run, in the order of the table.

    Args:
        names: the parameter `variants`; None chooses all.

    Raises:
        LandmarkRetrievalError: a name is not known, or none is given.
    """
    if names is None:
        return VARIANTS
    chosen = {variant_of(name).name for name in names}
    if not chosen:
        raise LandmarkRetrievalError("option 'variants' is empty: name at least one variant, or null for all")
    return tuple(variant for variant in VARIANTS if variant.name in chosen)


def graphs_of(variants: Sequence[Variant]) -> tuple[Variant, ...]:
    """Return the variants that search for themselves and whose neighbours these variants rank."""
    names = {variant.graph for variant in variants}
    return tuple(variant for variant in VARIANTS if variant.name in names)


def last_stage(variants: Sequence[Variant]) -> Variant:
    """Return the variant with most stages: the last one that does not stand beside another."""
    return next((variant for variant in reversed(variants) if variant.beside is None), variants[-1])


def compared_with(names: Sequence[str]) -> dict[str, str]:
    """Return for each row of a table, but the first, the row that it is compared with: the one before.

    One that stands beside another is compared with what that one is compared with.

    Args:
        names: of the rows, in their order; those that name no variant stand beside nothing.
    """
    rows = list(names)
    beside = {variant.name: variant.beside for variant in VARIANTS}
    result = {}
    for place, name in enumerate(rows):
        other = beside.get(name)
        before = (rows.index(other) if other in rows else place) - 1
        if before >= 0:
            result[name] = rows[before]
    return result


def stage_rows(names: Sequence[str]) -> list[int]:
    """Return which rows of a table are stages, each on top of the one before; the others stand beside one."""
    beside = {variant.name for variant in VARIANTS if variant.beside is not None}
    return [place for place, name in enumerate(names) if name not in beside] or list(range(len(names)))


def stages_in_words() -> dict[str, str]:
    """Return by the name of each variant what it adds, for people."""
    return {variant.name: variant.adds for variant in VARIANTS}
