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
from landmark_retrieval.graph import Traversal
from landmark_retrieval.knn import NeighborLists
from landmark_retrieval.retrieval.stages import Searched, traverse, traverse_with_labels


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
    """

    name: str
    adds: str
    graph: str
    expansion: str | None = None
    rank: Callable[[Searched], NeighborLists | Traversal] | None = None
    traverses: bool = False
    uses_labels: bool = False


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

VARIANTS: tuple[Variant, ...] = (BLEND, BLEND_QE_SV, BLEND_QE_SV_EGT, BLEND_QE_SV_SEMISUP_EGT)
"""All variants in the order of the table; each is compared with the one before."""


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


def stages_in_words() -> dict[str, str]:
    """Return by the name of each variant what it adds, for people."""
    return {variant.name: variant.adds for variant in VARIANTS}
