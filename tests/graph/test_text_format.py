from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import from_csr

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.graph import text_format
from landmark_retrieval.graph.text_format import read_text_graph, write_text_ranking

IDS = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters=","), min_size=1, max_size=9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("text")


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "graph.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@st.composite
def files(draw: st.DrawFn) -> tuple[list[str], int, list[list[tuple[int, str]]]]:
    """Ids, number of queries, and lists of (index row, weight as text)."""
    ids = draw(st.lists(IDS, unique=True, min_size=2, max_size=10))
    queries = draw(st.integers(1, len(ids) - 1))
    number = st.one_of(
        st.floats(allow_nan=False).map(repr),
        st.floats(-1, 1).map("{:.6f}".format),
        st.integers(-(10**25), 10**25).map(str),
        st.tuples(st.integers(0, 10**19), st.integers(0, 25)).map(lambda x: f"{x[0]}e-{x[1]}"),
        st.decimals(-1000, 1000, places=17).map("{:f}".format),
    )
    edge = st.tuples(st.integers(0, len(ids) - queries - 1), number)
    return ids, queries, draw(st.lists(st.lists(edge, max_size=5), min_size=len(ids), max_size=len(ids)))


@settings(max_examples=200, deadline=None)
@given(files(), st.sampled_from(["\n", "\r\n", "\n\n"]), st.sampled_from([" ", "  ", "\t"]), st.booleans())
def test_reads_what_was_written(
    folder: Path, file: tuple, newline: str, blank: str, last_newline: bool
) -> None:
    ids, queries, lists = file
    lines = [
        f"{name},{blank.join(f'{ids[queries + u]}{blank}{w}' for u, w in near)}"
        for name, near in zip(ids, lists, strict=True)
    ]
    graph = read_text_graph(write(folder, newline.join(lines) + newline * last_newline), queries, threads=1)
    assert (graph.query_ids, graph.index_ids, graph.dropped) == (ids[:queries], ids[queries:], 0)
    expected = [[(u, float(w)) for u, w in near] for near in lists]  # every bit of every weight
    assert from_csr(graph.queries) == expected[:queries]
    assert from_csr(graph.index) == expected[queries:]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**18 - 1), st.integers(0, 22))
def test_decimal_numbers_are_read_as_the_nearest_double(folder: Path, digits: int, places: int) -> None:
    text = str(digits).zfill(places + 1)
    text = f"{text[: len(text) - places]}.{text[len(text) - places :]}" if places else text
    graph = read_text_graph(write(folder, f"q,x {text} x -{text}\nx,\n"), 1, threads=1)
    assert graph.queries.weights.tolist() == [float(text), -float(text)]


def test_many_lines_in_many_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_format, "BLOCK", 50_000)
    random = np.random.default_rng(0)
    neighbors, weights = random.integers(0, 9_000, (10_000, 3)), random.random((10_000, 3)).round(6)
    lines = [
        f"image{i}," + " ".join(f"image{u + 1000} {w:.6f}" for u, w in zip(n, x, strict=True))
        for i, (n, x) in enumerate(zip(neighbors, weights, strict=True))
    ]
    graph = read_text_graph(write(folder, "\n".join(lines)), 1000, threads=3)
    np.testing.assert_array_equal(np.append(graph.queries.indices, graph.index.indices), neighbors.ravel())
    np.testing.assert_array_equal(np.append(graph.queries.weights, graph.index.weights), weights.ravel())
    first_two = read_text_graph(folder / "graph.txt", 1000, neighbors=2)
    np.testing.assert_array_equal(first_two.queries.indices.reshape(-1, 2), neighbors[:1000, :2])


@pytest.mark.parametrize("block", [1, 8, 1000])
def test_blocks_change_nothing_and_errors_name_their_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(text_format, "BLOCK", block)
    text = "q,x 1\n\n\nx,y 2 q 3\ny,x 4\n \n"
    graph = read_text_graph(write(folder, text), 1)
    assert from_csr(graph.index) == [[(1, 2.0), (-1, 3.0)], [(0, 4.0)]]
    with pytest.raises(LandmarkRetrievalError, match="line 7 names the neighbour 'w'"):
        read_text_graph(write(folder, text + "z,x 1 w 2\n"), 1)
    with pytest.raises(LandmarkRetrievalError, match="line 7 has an odd number"):
        read_text_graph(write(folder, text + "z,x 1 x\n"), 1)


def test_edges_to_queries_are_left_out_and_counted(folder: Path) -> None:
    graph = read_text_graph(write(folder, "q,p 3 x 2\np,x 1\nx,q 5 y 4\ny,x 4\n"), 2)
    assert graph.dropped == 2
    assert graph.queries.indices.tolist() == [-1, 0, 0]
    assert graph.index.indices.tolist() == [-1, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("q,x 1\n\nx y 1\n", "line 3 has no comma after the id"),
        ("q,x 1\n,q 1\n", "line 2 has no id before the comma"),
        ("q,x 1 y\nx,\n", "line 1 has an odd number of entries"),
        ("q,x 1\nx,\ny,\nx,\n", "line 4 has the id 'x' of line 2; ids must differ"),
        ("q,x 1\nx,y 1\n", "line 2 names the neighbour 'y', which has no line of its own"),
        ("q,x 1 x one\nx,\n", "line 1 has the weight 'one', which is not a number"),
        ("q,x nan\nx,\n", "line 1 has the weight 'nan', which is not a number"),
        ("q,x 1.2.3\nx,\n", "line 1 has the weight '1.2.3', which is not a number"),
        ("q,x -\nx,\n", "line 1 has the weight '-', which is not a number"),
        ("q,x .\nx,\n", "line 1 has the weight '.', which is not a number"),
        ("q,\n", "has 1 lines, which is too few for 1 queries"),
        (b"q,x\xff 1\nx,\n", "line 1 names the neighbour"),
    ],
)
def test_malformed_files_are_refused_by_line(folder: Path, text: str | bytes, message: str) -> None:
    path = write(folder, text)
    with pytest.raises(LandmarkRetrievalError, match=message) as error:
        read_text_graph(path, 1)
    assert str(error.value).startswith(str(path))


def test_missing_file_is_refused(folder: Path) -> None:
    with pytest.raises(LandmarkRetrievalError, match="cannot be read: No such file"):
        read_text_graph(folder / "none.txt", 1)


def test_writes_rankings_and_keeps_ids_of_any_encoding(folder: Path) -> None:
    graph = read_text_graph(write(folder, b"q\xe9,x\xff 1\nx\xff,\ny,\n"), 1)
    output = folder / "out.txt"
    write_text_ranking(output, [*graph.query_ids, "r"], graph.index_ids, np.array([[1, 0, -1], [-1, -1, -1]]))
    assert output.read_bytes() == b"q\xe9,y x\xff\nr,\n"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_byte_order_mark_is_no_part_of_the_first_id(folder: Path, newline: str) -> None:
    text = newline.join(["q,x 1", "x,y 1", "y,x 1"])
    plain = read_text_graph(write(folder, text), 1)
    marked = read_text_graph(write(folder, "\ufeff" + text), 1)
    assert marked.query_ids == plain.query_ids == ["q"]
    assert from_csr(marked.queries) == from_csr(plain.queries)
    assert from_csr(marked.index) == from_csr(plain.index)
    with pytest.raises(LandmarkRetrievalError, match="has no line of its own"):
        read_text_graph(write(folder, "\ufeffq,\ufeffx 1\nx,"), 1)  # elsewhere it is part of a name
