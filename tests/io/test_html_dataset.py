from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from kedro.io import DatasetError

from landmark_retrieval.io import (
    ArrayBundleDataset,
    HtmlDataset,
    ImageFolderDataset,
    MlflowVariantRunDataset,
    ShardedDataset,
)

PAGE = "<!doctype html><title>Größe</title>"


def test_round_trip(tmp_path: Path) -> None:
    entry = HtmlDataset(filepath=str(tmp_path / "deep" / "page.html"))
    assert not entry.exists()
    entry.save("old")
    entry.save(PAGE)
    assert entry.exists() and entry.load() == PAGE and entry.preview() == PAGE
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["page.html"]
    assert "page.html" in str(entry)


def test_a_missing_or_damaged_page_is_named(tmp_path: Path) -> None:
    entry = HtmlDataset(filepath=str(tmp_path / "page.html"))
    with pytest.raises(DatasetError, match=r"page\.html: not stored yet"):
        entry.load()
    (tmp_path / "page.html").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(DatasetError, match=r"page\.html: damaged .* run its pipeline again"):
        entry.load()


def test_only_text_is_taken(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected HTML text"):
        HtmlDataset(filepath=str(tmp_path / "page.html")).save(b"bytes")  # type: ignore[arg-type]


def test_a_large_page_is_only_pointed_to(tmp_path: Path) -> None:
    entry = HtmlDataset(filepath=str(tmp_path / "page.html"), preview_mib=0.001)
    entry.save("x" * 5000)
    assert "page.html" in entry.preview() and len(entry.preview()) < 500


@pytest.mark.parametrize(
    ("dataset", "kind"),
    [
        (ArrayBundleDataset, "TablePreview"),
        (HtmlDataset, "HTMLPreview"),
        (ImageFolderDataset, "TablePreview"),
        (MlflowVariantRunDataset, "JSONPreview"),
        (ShardedDataset, "TablePreview"),
    ],
)
def test_kedro_viz_knows_the_previews_by_their_annotation(dataset: type, kind: str) -> None:
    annotation = inspect.signature(dataset.preview).return_annotation  # type: ignore[attr-defined]
    assert getattr(annotation, "__name__", str(annotation)) == kind
