from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

from landmark_retrieval.runtime.run_facts import run_facts


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_versions_and_machine() -> None:
    facts = run_facts(Path(__file__).parent)
    assert facts["numpy"] == version("numpy") and facts["kedro"] == version("kedro")
    assert int(facts["cores"]) >= 1 and facts["gpu"]
    assert all(isinstance(value, str) for value in facts.values())


def test_the_commit_and_whether_files_were_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert run_facts(tmp_path)["commit"] == commit[:12]
    (tmp_path / "untracked").write_text("a")
    assert run_facts(tmp_path)["commit"] == commit[:12]
    (tmp_path / "file").write_text("b")
    assert run_facts(tmp_path)["commit"] == f"{commit[:12]} with changes"


def test_no_repository(tmp_path: Path) -> None:
    assert run_facts(tmp_path)["commit"] == "unknown"
