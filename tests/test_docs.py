"""The documentation: its examples run, its commands and files exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md"], key=str)


def examples(page: Path) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S))


def with_examples() -> list[Path]:
    return [page for page in PAGES if examples(page)]


@pytest.mark.parametrize("page", with_examples(), ids=lambda page: page.stem)
def test_examples_run(page: Path) -> None:
    """The examples of a page are one program, and assert what the page says."""
    exec(compile(examples(page), str(page), "exec"), {})


def test_there_are_examples() -> None:
    assert "algorithm" in {page.stem for page in with_examples()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_linked_files_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_targets_of_make_that_are_mentioned_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    for page in PAGES:
        for target in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.M):
            assert target in targets, f"{page.name}: make {target}"


def test_pipelines_that_are_mentioned_exist() -> None:
    from landmark_retrieval.pipeline_registry import register_pipelines

    known = register_pipelines()
    for page in PAGES:
        for names in re.findall(r"--pipelines ([a-z_,]+)", page.read_text(encoding="utf-8")):
            assert set(names.split(",")) <= known.keys(), f"{page.name}: --pipelines {names}"
