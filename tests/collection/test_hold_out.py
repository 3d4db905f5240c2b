import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.collection import SOURCE_ROW, hold_out_train, prepare_image_table, split_counts
from landmark_retrieval.errors import LandmarkRetrievalError

SHARES = {"seed": 3, "query_fraction": 0.25, "train_fraction": 0.4, "max_landmarks": 10}


def table(train_images):
    rows = [("q", "query", 1), ("i", "index", 1)]
    rows += [(f"t{label}_{i}", "train", label) for label, count in train_images for i in range(count)]
    frame = pd.DataFrame(rows, columns=["image_id", "split", "landmark_id"])
    return prepare_image_table(frame.assign(path=frame["image_id"] + ".jpg"))


def test_only_train_images_are_divided_and_rows_lead_back():
    images = table([(1, 8), (2, 10), (3, 2)])
    held_out = hold_out_train(images, **SHARES)
    assert sorted(held_out["image_id"]) == sorted(images["image_id"][images["split"] == "train"])
    np.testing.assert_array_equal(
        images["image_id"].to_numpy()[held_out[SOURCE_ROW]], held_out["image_id"].to_numpy()
    )
    counts = held_out.groupby(["landmark_id", "split"]).size()
    assert counts[1, "query"] == 2 and counts[1, "train"] == 3 and counts[1, "index"] == 3
    # Too few to be divided: a distractor.
    assert counts[3].to_dict() == {"index": 2}
    assert list(held_out["split"]) == sorted(held_out["split"], key=["query", "index", "train"].index)


def test_the_draw_depends_on_the_seed_alone():
    images = table([(label, 6) for label in range(1, 7)])
    few = {**SHARES, "max_landmarks": 2}
    first = hold_out_train(images, **few)
    pd.testing.assert_frame_equal(first, hold_out_train(images, **few))
    assert first["landmark_id"].nunique() == 2
    others = [set(hold_out_train(images, **{**few, "seed": seed})["landmark_id"]) for seed in range(8)]
    assert any(other != set(first["landmark_id"]) for other in others)


def test_too_small_a_train_split_is_refused():
    with pytest.raises(LandmarkRetrievalError, match=r"no landmark with 4 images \(the largest has 3\)"):
        hold_out_train(table([(1, 3), (2, 2)]), **SHARES)
    with pytest.raises(
        LandmarkRetrievalError, match=r"without images\.csv: a larger data_set\.train_fraction"
    ):
        hold_out_train(table([(1, 3)]), **SHARES)
    with pytest.raises(LandmarkRetrievalError, match="the largest has 0"):
        hold_out_train(table([]), **SHARES)
    assert split_counts(table([])) == {"query": 1, "index": 1, "train": 0}


def test_some_landmarks_are_absent_from_the_labels():
    images = table([(label, 10) for label in range(1, 6)] + [(9, 2)])
    plain = hold_out_train(images, **SHARES)
    held_out = hold_out_train(images, **SHARES, absent_fraction=0.4)
    labelled = set(held_out.loc[held_out["split"] == "train", "landmark_id"])
    assert set(plain.loc[plain["split"] == "train", "landmark_id"]) == {1, 2, 3, 4, 5}
    assert len(labelled) == 3
    # They still are asked for, and what would have voted is to be found.
    for split in ("query", "index"):
        assert set(held_out.loc[held_out["split"] == split, "landmark_id"]) >= {1, 2, 3, 4, 5}
    assert len(held_out) == len(plain)


def test_train_images_without_a_landmark_are_distractors():
    images = table([(1, 8), (2, 8), (None, 5)])
    held_out = hold_out_train(images, **SHARES)
    unlabelled = held_out[held_out["landmark_id"].isna()]
    assert len(unlabelled) == 5
    assert set(unlabelled["split"]) == {"index"}
