"""`kedro search` and `kedro serve` on the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner, Result

from kedro_project import Project
from landmark_retrieval.cli import cli

QUERY = "photos/images/sacre_coeur_00.jpg"


def invoke(project: Project, *arguments: str) -> Result:
    with project.entered():
        return CliRunner().invoke(cli, [*arguments, "--env", "test"])


def test_ranking_with_reasons_and_a_page(project_with_results: Project) -> None:
    result = invoke(project_with_results, "search", QUERY, "--results", "3")
    assert result.exit_code == 0, result.output
    head, *lines = [line for line in result.output.splitlines() if re.match(r"photos|\s+\d ", line)]
    assert head.startswith(f"{QUERY}: 3 results in ")
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert all("similarity" in line or "path photo -(" in line for line in lines)
    page = (project_with_results.root / "data" / "08_reporting" / "search.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 4
    assert "http" not in page.split("<body>")[1]


def test_json_and_an_unreadable_photo(
    project_with_results: Project, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("no photo")
    page = tmp_path / "page.html"
    result = invoke(
        project_with_results, "search", str(broken), QUERY, "--json", "--page", str(page), "--results", "2"
    )
    assert result.exit_code == 1
    answers = json.loads(result.stdout[result.stdout.index("{\n") : result.stdout.rindex("}") + 1])
    assert "cannot be decoded" in answers[str(broken)]["error"]
    assert len(answers[QUERY]["results"]) == 2
    assert f"Error: 1 of 2 photos could not be read: {broken} (cannot be decoded" in result.output
    assert sum("broken.jpg" in line for line in result.stderr.splitlines()) == 1
    assert "broken.jpg" not in caplog.text
    assert "cannot be read" in page.read_text()


def test_without_an_index(project: Project) -> None:
    result = invoke(project, "search", QUERY)
    assert result.exit_code == 1
    assert "Error: there is no index to search: 'image_table' is missing; build it with" in result.output


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("/proc/page.html", "/proc/page.html: nothing can be written in /proc"),
        ("none/page.html", "none/page.html: there is no folder "),
        (QUERY, f"{QUERY}: is also what is read ({QUERY})"),
        ("pyproject.toml", "pyproject.toml: exists, and this command has not written it"),
    ],
)
def test_pages_that_cannot_be_written_are_refused_before_the_search(
    project_with_results: Project, page: str, message: str
) -> None:
    with mock.patch("landmark_retrieval.commands.search.open_index", side_effect=AssertionError):
        result = invoke(project_with_results, "search", QUERY, "--page", page)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {message}"), result.output


def test_the_page_of_an_earlier_search_is_replaced(project_with_results: Project, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for results in ("1", "2"):
        done = invoke(project_with_results, "search", QUERY, "--page", str(page), "--results", results)
        assert done.exit_code == 0, done.output
    assert not list(tmp_path.glob(".*"))


def test_mlflow_is_not_spoken_to(project_with_results: Project) -> None:
    with (
        mock.patch("kedro_mlflow.config.kedro_mlflow_config.MlflowClient", side_effect=AssertionError),
        mock.patch("landmark_retrieval.io.tracking.why_unreachable", side_effect=AssertionError),
    ):
        for command in (("search", QUERY, "--results", "1"), ("store", "size")):
            result = invoke(project_with_results, *command)
            assert result.exit_code == 0, result.output
    result = invoke(project_with_results, "search", QUERY, "--params", "knn.kk=3")
    assert "Parameter 'knn': unknown option 'kk': did you mean 'k'?" in result.output


def test_serve_listens_on_loopback_only(project_with_results: Project) -> None:
    with mock.patch("uvicorn.Server") as server:
        result = invoke(project_with_results, "serve", "--port", "8765")
    assert result.exit_code == 0, result.output
    assert "http://127.0.0.1:8765" in result.output
    config = server.call_args.args[0]
    assert (config.host, config.port) == ("127.0.0.1", 8765)
    server.return_value.run.assert_called_once_with()
