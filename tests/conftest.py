"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from pictures import render

pytest_plugins = ("kedro_project",)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def demo_root() -> Path:
    """The bundled demo photos."""
    return ROOT / "data" / "01_raw" / "demo"


@pytest.fixture(scope="session")
def shared_data_sets() -> Path:
    """Larger sets of photos beside the checkout; they are not part of the project."""
    folder = ROOT.parent / "shared" / "data_sets"
    if not folder.is_dir():
        pytest.skip("no shared/data_sets beside the checkout")
    return folder


@pytest.fixture
def three_threads() -> Iterator[None]:
    """A process in which PyTorch and FAISS have been told how many threads to take."""
    import faiss
    import torch

    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    torch.set_num_threads(3)
    faiss.omp_set_num_threads(3)
    yield
    torch.set_num_threads(before[0])
    faiss.omp_set_num_threads(before[1])


@pytest.fixture
def tiny_data_set(tmp_path: Path) -> Callable[..., Path]:
    """Factory of a folder with rendered pictures and `images.csv`.

    `tiny_data_set(landmarks=3, splits=("query", "index", "index", "train", "train"), distractors=2,
    size=(96, 72), name="photos")` makes one picture per landmark and entry of `splits`, and distractors in
    the index, and returns the folder.
    """

    def make(
        landmarks: int = 3,
        splits: Sequence[str] = ("query", "index", "index", "train", "train"),
        distractors: int = 2,
        size: tuple[int, int] = (96, 72),
        name: str = "photos",
    ) -> Path:
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        rows = []
        for landmark in range(landmarks):
            for view, split in enumerate(splits):
                rows.append((f"landmark{landmark}_{view}", split, landmark, f"landmark{landmark}"))
                render(landmark, view, size).save(folder / "images" / f"{rows[-1][0]}.png")
        for number in range(distractors):
            rows.append((f"distractor_{number}", "index", None, None))
            render(500 + number, 0, size).save(folder / "images" / f"{rows[-1][0]}.png")
        table = pd.DataFrame(rows, columns=["image_id", "split", "landmark_id", "landmark"])
        table.insert(1, "path", "images/" + table["image_id"] + ".png")
        table["landmark_id"] = table["landmark_id"].astype("Int64")
        table.to_csv(folder / "images.csv", index=False)
        return folder

    return make
