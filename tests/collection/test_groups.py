from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from landmark_retrieval.collection.groups import NO_GROUP, GroupsConfig, group_photos, known_groups


def groups_of(links: dict[tuple[int, int], float], n: int, known: list[int] | None = None) -> list[set[int]]:
    rows = np.array(list(links), np.int64).reshape(-1, 2)
    found = group_photos(rows, np.array(list(links.values()), np.float32), n, known=known)
    return [set(rows.tolist()) for rows in found.members().values()]


def clique(*photos: int, p: float = 0.99) -> dict[tuple[int, int], float]:
    return dict.fromkeys(combinations(photos, 2), p)


@pytest.mark.parametrize(("one", "two"), [(3, 3), (3, 8), (4, 4), (10, 12)])
@pytest.mark.parametrize("wrong", [0.96, 1.0])
def test_one_wrong_link_does_not_weld_two_places(one: int, two: int, wrong: float) -> None:
    left, right = range(one), range(one, one + two)
    links = {**clique(*left), **clique(*right), (0, one): wrong}
    assert sorted(map(min, groups_of(links, one + two))) == [0, one]


def test_a_weaker_link_does_not_join_two_pairs() -> None:
    links = {(0, 1): 0.999, (2, 3): 0.999, (1, 2): 0.96}
    assert groups_of(links, 4) == [{0, 1}, {2, 3}]


def test_two_links_without_a_common_photo_join() -> None:
    links = {**clique(0, 1, 2, 3), **clique(4, 5, 6, 7), (0, 4): 0.97, (1, 5): 0.97}
    assert groups_of(links, 8) == [set(range(8))]
    links = {**clique(0, 1, 2, 3), **clique(4, 5, 6, 7), (0, 4): 0.97, (0, 5): 0.97}
    assert len(groups_of(links, 8)) == 2, "both rest on one photo"


@pytest.mark.parametrize("own", [0.9999, 1.0])
def test_links_of_one_photo_do_not_weld_two_places(own: float) -> None:
    church, capitol = range(10), (10, 11)
    wrong = {(0, 10): 0.998, (1, 10): 0.979, (2, 10): 0.96}
    links = {**clique(*church), **clique(*capitol, p=own), **wrong}
    assert groups_of(links, 12) == [set(church), set(capitol)]
    capitol = range(10, 15)
    links = {**clique(*church), **clique(*capitol, p=own), **wrong}
    assert groups_of(links, 15) == [set(church), set(capitol)]


def test_a_photo_between_two_places_goes_where_its_strongest_link_leads() -> None:
    links = {**clique(0, 1, 2, 3), **clique(4, 5, 6, 7)}
    links |= {(8, 0): 0.96, (8, 1): 0.96, (8, 2): 0.97, (8, 4): 0.98, (8, 5): 0.999}
    assert groups_of(links, 9) == [{4, 5, 6, 7, 8}, {0, 1, 2, 3}]


def test_photos_seen_from_one_photo_alone_stay_with_it() -> None:
    star = {(0, photo): 0.99 for photo in range(1, 6)}
    assert groups_of(star, 6) == [set(range(6))]


def test_a_walk_along_a_street_stays_together() -> None:
    links = {(photo, photo + 1): 0.99 for photo in range(9)}
    assert groups_of(links, 10) == [set(range(10))]


def test_weak_pairs_do_not_link() -> None:
    assert groups_of({(0, 1): 0.94, (1, 2): 0.96}, 4) == [{1, 2}]
    assert groups_of({}, 3) == []


def test_probability_is_that_of_the_strongest_link_inside() -> None:
    links = {**clique(0, 1, 2, p=0.97), (1, 2): 0.99, **clique(3, 4, 5, p=0.98), (2, 3): 1.0}
    rows, p = np.array(list(links)), np.array(list(links.values()), np.float32)
    found = group_photos(rows, p, 7)
    assert found.probability.tolist() == pytest.approx([0.97, 0.99, 0.99, 0.98, 0.98, 0.98, 0.0])
    assert found.group[6] == NO_GROUP


def test_groups_that_persist_keep_their_number() -> None:
    links = {**clique(0, 1, 2), **clique(4, 5, 6, 7, 8)}
    rows, p = np.array(list(links)), np.array(list(links.values()), np.float32)
    assert group_photos(rows, p, 10).group.tolist() == [2, 2, 2, -1, 1, 1, 1, 1, 1, -1], "largest first"
    numbers = {"b": 3, "c": 3, "e": 7, "f": 7, "z": 9}
    known = known_groups(numbers, list("abcdefghij"))
    assert group_photos(rows, p, 10, known=known).group.tolist() == [3, 3, 3, -1, 7, 7, 7, 7, 7, -1]
    grown = {**links, **clique(3, 9)}
    rows, p = np.array(list(grown)), np.array(list(grown.values()), np.float32)
    assert group_photos(rows, p, 10, known=known).group.tolist() == [3, 3, 3, 8, 7, 7, 7, 7, 7, 8]


def test_the_order_of_pairs_does_not_matter() -> None:
    random = np.random.default_rng(1)
    rows = np.unique(np.sort(random.integers(0, 60, (150, 2)), axis=1), axis=0)
    rows = rows[rows[:, 0] < rows[:, 1]]
    p = random.uniform(0.9, 1, len(rows)).astype(np.float32)
    expected = group_photos(rows, p, 60, GroupsConfig(seed=3)).group
    for _ in range(3):
        order = random.permutation(len(rows))
        found = group_photos(rows[order], p[order], 60, GroupsConfig(seed=3)).group
        np.testing.assert_array_equal(found, expected)
