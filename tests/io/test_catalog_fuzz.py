"""A few trials of `benchmarks/catalog_fuzz.py` in a small finished project."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from benchmarks.catalog_fuzz import DAMAGES, Trial, a_file, artifacts, digests, judge

from kedro_project import Project


@pytest.mark.parametrize("seed", range(6))
def test_one_bad_artifact_gives_the_right_result_or_is_named(
    finished_project: Project, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    project = finished_project.copy(tmp_path / "project")
    place, pipeline = rng.choice(artifacts(project.root)), rng.choice(["egt", "evaluation", "collection"])
    damage = rng.choice(list(DAMAGES))
    DAMAGES[damage](a_file(project.root / place, rng))
    result = project.run("--pipelines", pipeline)
    outcome = judge(
        result.exit_code, result.output, place, digests(finished_project.root), digests(project.root)
    )
    assert not Trial(place, damage, pipeline, outcome).is_fault, (place, damage, pipeline, outcome)
    shutil.rmtree(project.root)
