"""Groups of photos of one place, from pairs and what each of them proves.

Not connected components: one wrong link would weld two places. Links of one photo are no independent evidence
either, because what makes one of them wrong (a dome, a row of windows) makes others wrong too. So components
are divided into biconnected components (Hopcroft and Tarjan, 1973; networkx), which no single photo holds
together; a photo that lies in several goes where its strongest link leads. These are divided into communities
by the Louvain method (Blondel et al., 2008; networkx), which again no single photo may hold together.

This cuts too often for photos that were compared with their nearest only. So two parts are put together again
where at least `JOINING` links without a photo in common lead from one to the other, or where one of them is a
mere chain, or a single photo, and the link to it is no weaker than its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from landmark_retrieval.configuration import Configuration, Seed

JOINING = 2
"""Links without a common photo that make one place of two communities: a single one may be wrong."""

NO_GROUP = -1


class GroupsConfig(Configuration):
    """How photos are put into groups.

    Attributes:
        min_probability: P(same place) of a pair from which it links two photos; also the share of pairs in a
            group that should show one place.
        seed: of the order in which the Louvain method visits photos.
    """

    min_probability: float = Field(default=0.95, gt=0, lt=1)
    seed: Seed = 0


@dataclass(frozen=True, eq=False)
class Groups:
    """The group of every photo.

    Attributes:
        group: int64 `[n]`, from 1; `NO_GROUP` for a photo without a partner.
        probability: float32 `[n]` P(same place) of the strongest link to another photo of the group; 0
            without a group.
    """

    group: NDArray[np.int64]
    probability: NDArray[np.float32]

    def members(self) -> dict[int, NDArray[np.int64]]:
        """Return the rows of each group, the largest group first, then by number."""
        numbers, counts = np.unique(self.group[self.group != NO_GROUP], return_counts=True)
        order = np.lexsort((numbers, -counts))
        return {int(number): np.flatnonzero(self.group == number) for number in numbers[order]}


def group_photos(
    rows: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    n: int,
    config: GroupsConfig | None = None,
    known: Sequence[int] | None = None,
) -> Groups:
    """Put photos of one place together.

    Args:
        rows: int64 `[m, 2]` photos of each pair.
        probabilities: float32 `[m]` P(same place) of each pair.
        n: number of photos.
        config: parameters; the defaults when None.
        known: group of each photo before, 0 or less for none: a group keeps the number that most of its
            photos had, if no other group has more of them; new groups get higher numbers.

    Returns:
        Groups of at least two photos, numbered from the largest on where nothing was known.
    """
    config = config or GroupsConfig()
    strong = probabilities >= config.min_probability
    links: nx.Graph[int] = nx.Graph()
    for (a, b), probability in zip(rows[strong].tolist(), probabilities[strong].tolist(), strict=True):
        links.add_edge(a, b, weight=probability)
    found = []
    for component in nx.connected_components(links):
        found += _divide(links.subgraph(sorted(component)), config.seed)
    found.sort(key=lambda members: (-len(members), min(members)))
    group = np.full(n, NO_GROUP, np.int64)
    best = np.zeros(n, np.float32)
    for number, members in zip(_numbers(found, known), found, strict=True):
        group[list(members)] = number
    for a, b, probability in links.edges(data="weight"):
        if group[a] == group[b] != NO_GROUP:
            best[[a, b]] = np.maximum(best[[a, b]], probability)
    return Groups(group, best)


def _divide(links: nx.Graph[int], seed: int) -> list[set[int]]:
    """Return the groups of one connected component, each with two photos or more."""
    if links.number_of_nodes() < 4:
        return [set(links)]
    parts = [
        part
        for held in _held_by_several(links)
        for community in nx.community.louvain_communities(links.subgraph(held), weight="weight", seed=seed)
        for part in _held_by_several(links.subgraph(community))
    ]
    of = {photo: number for number, part in enumerate(parts) for photo in part}
    while True:
        between: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for a, b in links.edges:
            one, two = sorted((of[a], of[b]))
            if one != two:
                between.setdefault((one, two), []).append((a, b))
        joined = {ends: _independent(edges) for ends, edges in between.items()}
        enough = {number: _needed(links, part) for number, part in enumerate(parts) if part}
        strongest = {
            ends: max(links.edges[edge]["weight"] for edge in edges) for ends, edges in between.items()
        }
        allowed = [
            (count, strongest[ends], -ends[0], -ends[1])
            for ends, count in joined.items()
            if count >= JOINING or strongest[ends] >= min(enough[end] for end in ends)
        ]
        if not allowed:
            return [part for part in parts if len(part) > 1]
        _, _, one, two = max(allowed)
        for photo in parts[-two]:
            of[photo] = -one
        parts[-one] |= parts[-two]
        parts[-two] = set()


def _held_by_several(links: nx.Graph[int]) -> list[set[int]]:
    """Divide photos until no part hangs together by a single one of them; every photo is in one part."""
    parts: list[set[int]] = []
    left = [set(part) for part in nx.connected_components(links)]
    while left:
        part = left.pop()
        blocks = sorted(map(sorted, nx.biconnected_components(links.subgraph(part))))
        if len(blocks) < 2:
            parts.append(part)
            continue
        home = _homes(links, blocks)
        for number in range(len(blocks)):
            kept = [photo for photo in part if home[photo] == number]
            left += [set(piece) for piece in nx.connected_components(links.subgraph(kept))]
    return sorted(parts, key=min)


def _homes(links: nx.Graph[int], blocks: Sequence[Sequence[int]]) -> dict[int, int]:
    """Return for every photo the block that holds its strongest link.

    A block of two is a single link: between two photos that both have others to vouch for them it counts for
    nothing.
    """
    vouched = {photo for block in blocks if len(block) > 2 for photo in block}
    strongest: dict[int, tuple[float, int]] = {}
    for number, block in enumerate(blocks):
        counts = len(block) > 2 or not vouched.issuperset(block)
        for a, b, weight in links.subgraph(block).edges(data="weight"):
            for photo in (a, b):
                strongest[photo] = max(strongest.get(photo, (0.0, 0)), (weight * counts, -number))
    return {photo: -number for photo, (_, number) in strongest.items()}


def _independent(edges: Sequence[tuple[int, int]]) -> int:
    """Return how many of some links have no photo in common."""
    return len(nx.max_weight_matching(nx.Graph(edges), maxcardinality=True))


def _needed(links: nx.Graph[int], part: set[int]) -> float:
    """Return how strong a single link to a part must be: no weaker than the links that hold a chain together.

    Where photos vouch for each other (a circle of links) no single link is enough.
    """
    own = [weight for _, _, weight in links.subgraph(part).edges(data="weight")]
    return math.inf if len(own) >= len(part) else min(own, default=0.0)


def _numbers(found: Sequence[set[int]], known: Sequence[int] | None) -> list[int]:
    """Return a number for each group; those that persist keep theirs."""
    numbers: dict[int, int] = {}
    if known is not None:
        shared = Counter((known[photo], place) for place, part in enumerate(found) for photo in part)
        taken: set[int] = set()
        for (number, place), _ in sorted(shared.items(), key=lambda item: (-item[1], item[0])):
            if number > 0 and number not in taken and place not in numbers:
                numbers[place] = number
                taken.add(number)
    free = max([0, *numbers.values(), *(known or ())]) + 1
    for place in range(len(found)):
        if place not in numbers:
            numbers[place], free = free, free + 1
    return [numbers[place] for place in range(len(found))]


def known_groups(numbers: Mapping[str, int], ids: Sequence[str]) -> list[int]:
    """Return the number that each photo's group had before, 0 for none."""
    return [int(numbers.get(image_id, 0)) for image_id in ids]
