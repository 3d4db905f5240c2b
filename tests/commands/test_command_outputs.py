"""What commands write: never over what they read or did not write, whole or not at all."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import click
import pytest
from click.testing import CliRunner, Result

from landmark_retrieval.cli import cli
from landmark_retrieval.commands.output import check_output, writing
from landmark_retrieval.errors import LandmarkRetrievalError

GRAPH = "q,x 3\nx,y 1\ny,x 1\n"
RANKING = "q,x y\n"


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    file = tmp_path / "graph.txt"
    file.write_text(GRAPH)
    return file


def egt(graph: Path, output: Path | str, *options: str) -> Result:
    arguments = ["egt", str(graph), "--num-queries", "1", "--t", "inf", "--output", str(output), *options]
    return CliRunner().invoke(cli, arguments)


def all_commands(group: click.Group, name: str = "") -> Iterator[tuple[str, click.Command]]:
    for part, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, f"{name}{part} ")
        else:
            yield name + part, command


def test_every_command_that_writes_a_file_has_force() -> None:
    writers = {
        name: command
        for name, command in all_commands(cli)
        if name != "run" and {"output", "page"} & {option.name for option in command.params}
    }
    assert {"egt", "search", "certify", "convert-checkpoint"} <= set(writers)
    for name, command in writers.items():
        assert "force" in {option.name for option in command.params}, name


@pytest.mark.parametrize("link", ["", "symbolic", "hard"])
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_the_graph_is_never_replaced(graph: Path, tmp_path: Path, link: str, force: tuple[str, ...]) -> None:
    output = graph if not link else tmp_path / "output.txt"
    if link == "symbolic":
        output.symlink_to(graph)
    elif link == "hard":
        os.link(graph, output)
    result = egt(graph, output, *force)
    assert result.exit_code == 1
    assert (
        result.output
        == f"Error: {output}: is also what is read ({graph}); choose another name for the output\n"
    )
    assert graph.read_text() == GRAPH


def test_other_files_are_replaced_by_force_only(graph: Path, tmp_path: Path) -> None:
    output = tmp_path / "notes.txt"
    for text in ("my notes\n", "r,x y\n", GRAPH, "q,x\nq2,x\n"):
        output.write_text(text)
        result = egt(graph, output)
        assert result.exit_code == 1
        assert "exists, and this command has not written it" in result.output
        assert output.read_text() == text
    assert egt(graph, output, "--force").exit_code == 0
    assert output.read_text() == RANKING
    assert egt(graph, output, "--p", "1").exit_code == 0  # a ranking of the same queries
    output.write_text("")
    assert egt(graph, output).exit_code == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["graph.txt", "notes.txt"]


@pytest.mark.parametrize(
    ("output", "message"),
    [("none/out.txt", "there is no folder"), ("/proc/out.txt", "nothing can be written in /proc")],
)
def test_folders_are_looked_at_before_the_work(
    graph: Path, tmp_path: Path, output: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with mock.patch("landmark_retrieval.graph.text_format.read_text_graph", side_effect=AssertionError):
        result = egt(graph, output)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {output}: {message}"), result.output


def test_links_are_followed_and_devices_written(graph: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text(RANKING)
    link.symlink_to(target)
    assert egt(graph, link, "--p", "1").exit_code == 0
    assert link.is_symlink()
    assert target.read_text() == "q,x\n"
    assert egt(graph, "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()


def test_a_full_disk_leaves_the_old_file(graph: Path, tmp_path: Path) -> None:
    assert egt(graph, "/dev/full").output.endswith(
        "Error: /dev/full: cannot be written: No space left on device\n"
    )


def test_a_writer_that_runs_out_of_space_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "out.txt"
    file.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with (
            pytest.raises(LandmarkRetrievalError, match=r"out\.txt: cannot be written: "),
            writing(file) as new,
        ):
            new.write_text("new" * 4096)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_an_interrupted_writer_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "out.txt"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt), writing(file) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_default_belongs_to_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = check_output("data/page.html", [], lambda _: False, default="data/page.html")
    with writing(file) as temporary:
        temporary.write_text("page")
    assert check_output("data/page.html", [], lambda _: False, default="data/page.html") == file
    with pytest.raises(LandmarkRetrievalError, match="has not written it"):
        check_output("data/page.html", [], lambda _: False)


@pytest.mark.parametrize("text", ["my notes", "[1, 2]", json.dumps({"format": 3})])
def test_certificates_replace_certificates_only(text: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.json"
    file.write_text(text)
    with mock.patch("landmark_retrieval.commands.certify.make_certificate", side_effect=AssertionError):
        result = CliRunner().invoke(cli, ["certify", "--output", str(file)])
    assert "exists, and this command has not written it" in result.output
    assert file.read_text() == text


def test_checkpoints_stay(tmp_path: Path) -> None:
    file, other = tmp_path / "network.pth", tmp_path / "photo.jpg"
    file.write_bytes(b"weights")
    other.write_bytes(b"photo")
    for output, message in ((file, "is also what is read"), (other, "has not written it")):
        result = CliRunner().invoke(cli, ["convert-checkpoint", str(file), str(output)])
        assert result.exit_code == 1
        assert message in result.output
    assert (file.read_bytes(), other.read_bytes()) == (b"weights", b"photo")
