from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from landmark_retrieval.cli import cli

GOLDENS = Path(__file__).parent / "conformance"
CASES = [
    pytest.param(folder, queries, path, id=f"{folder}-{path.stem}")
    for folder, queries in (("egt_ip", 100), ("egt_inl", 80))
    for path in sorted((GOLDENS / folder).glob("ranking_t*.txt"))
]


def egt(graph: Path, output: Path, queries: int, t: str, *options: str) -> Result:
    arguments = ["egt", str(graph), "--num-queries", str(queries), "--t", t, "--output", str(output)]
    return CliRunner().invoke(cli, [*arguments, *options])


@pytest.mark.parametrize("option", ["--symmetrize", "--no-symmetrize"])
@pytest.mark.parametrize(("folder", "queries", "path"), CASES)
def test_goldens_line_for_line(folder: str, queries: int, path: Path, option: str, tmp_path: Path) -> None:
    t = path.stem.removeprefix("ranking_t")
    result = egt(GOLDENS / folder / "graph.txt", tmp_path / "out.txt", queries, t, "--p", "100", option)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out.txt").read_bytes() == path.read_bytes()
    assert "load: " in result.output
    assert "ms a query" in result.output


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "q,x y\n"),
        (("--no-symmetrize",), "q,x\n"),
        (("--p", "1"), "q,x\n"),
        (("--k", "1", "--threads", "1"), "q,x y\n"),
    ],
)
def test_options(options: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    graph = tmp_path / "graph.txt"
    graph.write_text("q,x 3\nx,\ny,x 2\n")
    assert egt(graph, tmp_path / "out.txt", 1, "inf", *options).exit_code == 0
    assert (tmp_path / "out.txt").read_text() == expected


def test_edges_to_queries_are_reported(tmp_path: Path) -> None:
    graph = tmp_path / "graph.txt"
    graph.write_text("q,x 3\nx,q 3 x 1\n")
    assert "left out: 1 edges that lead to queries" in egt(graph, tmp_path / "out.txt", 1, "-inf").output


def test_errors_are_one_line(tmp_path: Path) -> None:
    graph = tmp_path / "graph.txt"
    graph.write_text("q,x 3\nx,y 3\n")
    result = egt(graph, tmp_path / "out.txt", 1, "0")
    assert result.exit_code == 1
    assert result.output == f"Error: {graph}: line 2 names the neighbour 'y', which has no line of its own\n"
    assert not (tmp_path / "out.txt").exists()
    assert egt(graph, tmp_path / "out.txt", 1, "nan").output.startswith("Error: option 't' should")
    assert egt(tmp_path / "none.txt", tmp_path / "out.txt", 1, "0").exit_code == 2
