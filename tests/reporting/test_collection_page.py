from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.collection.doubts import NO_PARTNER
from landmark_retrieval.collection.groups import Groups
from landmark_retrieval.io import CollectionPageDataset
from landmark_retrieval.reporting.collection import (
    PICTURES,
    CollectionContent,
    render_collection,
)
from pictures import render

NAMES = ("a", "b", "c", "d<script>", "broken")


def content(folder: Path, landmarks: tuple[str, ...] = ("",) * 5) -> CollectionContent:
    for number in range(4):
        render(number, 0).save(folder / f"{number}.png")
    audit = pd.DataFrame(
        {
            "path": ["0.png", "1.png", "2.png", "3.png", "4.png", "x & y.txt"],
            "what": ["used"] * 4 + ["cannot be decoded", "not a picture"],
            "other": "",
            "why": ["", "", "", "", "truncated", ""],
            "image_id": [*NAMES, ""],
        }
    )
    return CollectionContent(
        data_set="mine",
        image_ids=NAMES,
        sources=[str(folder / f"{number}.png") for number in range(5)],
        contents=np.array(["00", "01", "02", "03", "04"]),
        landmarks=landmarks,
        audit=audit,
        groups=Groups(np.array([4, 4, -1, -1, -1]), np.array([0.99, 0.99, 0, 0, 0], np.float32)),
        links=pd.DataFrame({"row_a": [0], "row_b": [1], "probability": [0.99], "inliers": [44]}),
        duplicates=pd.DataFrame(
            {"keep": ["a"], "other": ["b"], "kind": "nearly the same picture", "overlap": 0.9, "inliers": 44}
        ),
        doubts=pd.DataFrame(
            {"kind": [NO_PARTNER], "row_a": [1], "row_b": [0], "probability": [0.99], "inliers": [44]}
        ),
    )


def test_the_page_shows_groups_duplicates_and_the_lonely(tmp_path: Path) -> None:
    page = render_collection(content(tmp_path, ("mill", "tower", "", "", "")))
    text = page.html
    assert ">Group 4</h3>" in text and "44</b> inliers, 99.0 %" in text
    assert "no photo of its label backs the first" in text
    assert text.count('loading="lazy"') == text.count("<img")
    assert "x &amp; y.txt" in text and "<script>" not in text.split("</article>")[0].split("<body>")[1]
    assert "d&lt;script&gt;" in text
    alone = text.split('id="alone"')[1]
    assert alone.count("<li class=") == 2, "a photo that cannot be decoded is not lonely"
    assert sorted(page.pictures) == [f"{row:02d}-240.jpg" for row in range(4)]


def test_a_page_without_labels_doubts_nothing(tmp_path: Path) -> None:
    plain = content(tmp_path)
    text = render_collection(replace(plain, doubts=plain.doubts.head(0))).html
    assert "doubtful" not in text and 'id="doubts"' not in text


def test_ids_of_headings_are_unique_and_links_lead_somewhere(tmp_path: Path) -> None:
    text = render_collection(content(tmp_path, ("mill", "tower", "", "", ""))).html
    ids = [part.split('"')[0] for part in text.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
    assert {part.split('"')[0] for part in text.split('href="#')[1:]} <= set(ids)
    assert all(' alt="' in tag.split(">")[0] for tag in text.split("<img")[1:])


def test_thumbnails_are_made_once_and_removed_when_gone(tmp_path: Path) -> None:
    page = render_collection(content(tmp_path), thumbnail_side=40)
    entry = CollectionPageDataset(filepath=str(tmp_path / "out" / "collection.html"))
    assert not entry.exists()
    entry.save(page)
    pictures = tmp_path / "out" / PICTURES
    made = {file.name: file.stat().st_mtime_ns for file in pictures.iterdir()}
    assert set(made) == set(page.pictures) and entry.load() == page.html
    (pictures / "99-40.jpg").write_bytes(b"of a photo that is gone")
    (pictures / ".left.jpg.0.tmp").write_bytes(b"of a run that was killed")
    os.utime(pictures / ".left.jpg.0.tmp", (0, 0))
    busy = pictures / ".busy.jpg.0.tmp"
    busy.write_bytes(b"of a run that goes on")
    entry.save(page)
    assert busy.exists()
    busy.unlink()
    assert {file.name: file.stat().st_mtime_ns for file in pictures.iterdir()} == made


@pytest.mark.parametrize("number", [0, 1])
def test_a_collection_of_nothing_found(tmp_path: Path, number: int) -> None:
    few = content(tmp_path)
    nothing = CollectionContent(
        "mine",
        few.image_ids[:number],
        few.sources[:number],
        few.contents[:number],
        few.landmarks[:number],
        few.audit,
        Groups(np.full(number, -1), np.zeros(number, np.float32)),
        few.links.head(0),
        few.duplicates.head(0),
        few.doubts.head(0),
    )
    assert "No two photos were found" in render_collection(nothing).html
