"""Parameters of the rivals; every default is what the method's paper recommends."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from landmark_retrieval.configuration import Configuration


class ExpansionRivalConfig(Configuration):
    """Average and alpha query expansion, and augmentation of the database.

    Attributes:
        kind: of the rival.
        query_images: neighbours that expand a query; 0 expands none.
        alpha: a neighbour weighs its similarity to this power: 0 the plain average (Chum et al., 2007), 3
            alpha query expansion (Radenović et al., 2018).
        database_images: neighbours that expand every index image, weighed from 1 for the first in equal steps
            towards 0 (Gordo et al., 2017); 0 expands none.
    """

    kind: Literal["expansion"] = "expansion"
    query_images: int = Field(default=10, ge=0, le=1000)
    alpha: float = Field(default=3.0, ge=0, le=100)
    database_images: int = Field(default=0, ge=0, le=1000)


class DiffusionConfig(Configuration):
    """Diffusion on the graph of mutual neighbours (Iscen et al., 2017).

    Attributes:
        kind: of the rival.
        neighbors: of each index image in the graph (the paper: 50).
        query_neighbors: of the query from which the diffusion starts (the paper: 10).
        gamma: an edge weighs its similarity to this power (the paper: 3).
        alpha: share that goes on along edges in each step (the paper: 0.99).
    """

    kind: Literal["diffusion"] = "diffusion"
    neighbors: int = Field(default=50, ge=1, le=10_000)
    query_neighbors: int = Field(default=10, ge=1, le=10_000)
    gamma: float = Field(default=3.0, gt=0, le=100)
    alpha: float = Field(default=0.99, gt=0, lt=1)


class KReciprocalConfig(Configuration):
    """k-reciprocal re-ranking (Zhong et al., 2017).

    Attributes:
        kind: of the rival.
        k1: neighbours among which reciprocal ones are looked for (the paper: 20).
        k2: neighbours over which the encoding of an image is averaged (the paper: 6).
        weight: of the original distance beside the Jaccard distance (the paper: 0.3).
    """

    kind: Literal["k_reciprocal"] = "k_reciprocal"
    k1: int = Field(default=20, ge=2, le=10_000)
    k2: int = Field(default=6, ge=1, le=10_000)
    weight: float = Field(default=0.3, ge=0, le=1)


RivalConfig = Annotated[
    ExpansionRivalConfig | DiffusionConfig | KReciprocalConfig, Field(discriminator="kind")
]


class ChosenRival(Configuration):
    """One rival by its kind.

    Attributes:
        rival: and its parameters.
    """

    rival: RivalConfig
