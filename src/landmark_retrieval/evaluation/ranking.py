"""The ranking of one variant: what every evaluation starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from landmark_retrieval.configuration import Configuration


class RankingConfig(Configuration):
    """How rankings are cut.

    Attributes:
        length: results per query; the challenge asks for 100.
    """

    length: int = Field(default=100, ge=1, le=1_000_000)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Results of all queries, best first.

    Attributes:
        rows: int32 `[q, length]`, index rows without repeats, -1 padded at the end.
    """

    rows: NDArray[np.int32]


def cut(rows: NDArray[np.int32], length: int) -> Ranking:
    """Return the first `length` columns of a `[q, k]` result matrix, -1 padded where it is narrower."""
    ranking = np.full((len(rows), length), -1, dtype=np.int32)
    kept = rows[:, :length]
    ranking[:, : kept.shape[1]] = kept
    return Ranking(ranking)
