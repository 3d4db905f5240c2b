"""`kedro store size` and `kedro store prune`."""

from __future__ import annotations

import pandas as pd
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from kedro_project import Project
from landmark_retrieval.cli import cli


def invoke(project: Project, *arguments: str, fails: bool = False) -> str:
    with project.entered():
        bootstrap_project(project.root)
        result = CliRunner().invoke(cli, ["store", *arguments, "--env", "test"])
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def test_size_and_prune(project_with_results: Project) -> None:
    project, root = project_with_results, project_with_results.root / "data/03_primary/store"
    old = project.root / "data/03_primary/tiny/gem/raw_descriptors"
    old.mkdir(parents=True)
    (old / "global-00000000-0123.npz").write_bytes(bytes(3 << 20))
    output = invoke(project, "size")
    assert "local_features/" in output and "14 results" in output and "extractor.name=sift" in output
    assert "3.0 MiB of an earlier version, of no use" in output
    before = sorted(root.rglob("*.npz"))
    output = invoke(project, "prune", "--keep-last", "0", "--dry-run")
    assert "would delete" in output and sorted(root.rglob("*.npz")) == before and old.exists()
    invoke(project, "prune", "--older-than", "1")
    assert sorted(root.rglob("*.npz")) == before and not old.exists()
    # Without the queries: their results and pairs go, and a run computes them again.
    table = pd.read_csv(next(project.root.glob("data/02_intermediate/*/image_table.csv")), dtype=str)
    table[table["split"] != "query"].to_csv(project.root / "some.csv", index=False)
    output = invoke(project, "prune", "--unused-by", str(project.root / "some.csv"))
    assert "local_features" in output and "deleted 3 results" in output
    project.succeed("--pipelines", "features")
    assert invoke(project, "size").count("14 results") >= 4
    invoke(project, "prune", "--keep-last", "0")
    assert not list(root.rglob("*.npz"))


def test_what_prune_refuses(project_with_results: Project) -> None:
    project = project_with_results
    assert "at a time" in invoke(project, "prune", "--keep-last", "1", "--older-than", "3", fails=True)
    (project.root / "bad.csv").write_text("path\nnowhere.jpg\n")
    output = invoke(project, "prune", "--unused-by", str(project.root / "bad.csv"), fails=True)
    assert "1 of its photos cannot be read" in output and "nothing was deleted" in output
