"""Nodes of the collection pipeline."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from landmark_retrieval.collection import DataSetConfig, ImageContents, SplitRows, landmark_of
from landmark_retrieval.collection.doubts import doubtful_labels
from landmark_retrieval.collection.duplicates import DuplicatesConfig, find_alike, near_duplicates
from landmark_retrieval.collection.groups import Groups, GroupsConfig, group_photos, known_groups
from landmark_retrieval.collection.growth import growth_in_words
from landmark_retrieval.images import image_sources, source_contents, upright_size
from landmark_retrieval.reporting.collection import (
    CollectionContent,
    CollectionPage,
    render_collection,
)
from landmark_retrieval.retrieval.index import PARAMETER_MODELS
from landmark_retrieval.verification import VerificationConfig
from landmark_retrieval.verification.calibration import fit_inliers, from_plain, pair_probabilities

logger = logging.getLogger(__name__)


def judge_pairs(
    pairs: pd.DataFrame,
    probabilities: pd.DataFrame,
    fits: dict[str, dict[str, Any]],
    images: pd.DataFrame,
    config: VerificationConfig,
) -> pd.DataFrame:
    """Say of every tried pair what it proves: `row_a`, `row_b`, `inliers`, `probability`.

    A side with too few pairs for a fit of its own takes that of all pairs: a bare floor would link too much.
    """
    judged = pairs[["row_a", "row_b", "inliers"]].assign(probability=probabilities["probability"])
    sides = from_plain(fits)
    floors = [fit.start for fit in sides.values() if not fit.fitted]
    if not floors or config.min_inliers is not None or not config.calibration.enabled:
        return judged
    together = fit_inliers(pairs["inliers"].to_numpy(), max(floors), config.calibration.min_pairs)
    if not together.fitted:
        return judged
    mended = {side: fit if fit.fitted else together for side, fit in sides.items()}
    queries = SplitRows.from_table(images).query.stop
    return judged.assign(probability=pair_probabilities(pairs, queries, mended))


def count_growth(images: pd.DataFrame, contents: ImageContents, known: dict[str, Any]) -> dict[str, Any]:
    """Remember what the photos hold, and say how many are new, known and gone since the last run."""
    digests = sorted(set(contents.digests.tolist()) - {""})
    logger.info("%s", growth_in_words(digests, known.get("contents")))
    return {"contents": digests}


def make_groups(
    links: pd.DataFrame, images: pd.DataFrame, known: dict[str, Any], config: GroupsConfig
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Put photos of one place together; return their table, and the numbers that groups are to keep."""
    ids = images["image_id"].astype(str).tolist()
    rows = links[["row_a", "row_b"]].to_numpy(np.int64)
    probabilities = links["probability"].to_numpy(np.float32)
    groups = group_photos(rows, probabilities, len(ids), config, known_groups(known, ids))
    members = groups.members()
    logger.info(
        "%d groups of one place hold %d of %d photos", len(members), (groups.group > 0).sum(), len(ids)
    )
    table = pd.DataFrame({"image_id": ids, "group": groups.group, "probability": groups.probability.round(4)})
    table["group"] = table["group"].astype("Int64").where(groups.group > 0)
    return table, {ids[row]: number for number, rows in members.items() for row in rows.tolist()}


def find_near_duplicates(
    pairs: pd.DataFrame,
    links: pd.DataFrame,
    images: pd.DataFrame,
    contents: ImageContents,
    config: DuplicatesConfig,
) -> pd.DataFrame:
    """Find photos that repeat another, and say which to keep."""
    sources = image_sources(images)
    candidates = pairs.assign(probability=links["probability"])
    alike, pixels = find_alike(candidates, lambda row: upright_size(sources[row]), len(sources), config)
    parts = source_contents(sources, contents.digests)
    known = np.array(["" if not part[0] else "/".join(map(str, part)) for part in parts], dtype=str)
    ids, paths = images["image_id"].astype(str).tolist(), images["path"].astype(str).tolist()
    return near_duplicates(ids, paths, known, pixels, alike)


def find_doubts(links: pd.DataFrame, images: pd.DataFrame, config: GroupsConfig) -> pd.DataFrame:
    """Find pairs that verify strongly but carry different labels."""
    found = doubtful_labels(links, landmark_of(images), config.min_probability)
    ids = images["image_id"].astype(str).to_numpy()
    found.insert(1, "image_a", ids[found["row_a"]])
    found.insert(2, "image_b", ids[found["row_b"]])
    return found


def make_collection_page(
    images: pd.DataFrame,
    contents: ImageContents,
    audit: pd.DataFrame,
    groups: pd.DataFrame,
    links: pd.DataFrame,
    duplicates: pd.DataFrame,
    doubts: pd.DataFrame,
    data_set: DataSetConfig,
    config: GroupsConfig,
) -> CollectionPage:
    """Show what was read, the groups, what repeats, and the labels to doubt."""
    rows = SplitRows.from_table(images)
    content = CollectionContent(
        data_set=data_set.name,
        image_ids=images["image_id"].astype(str).tolist(),
        sources=image_sources(images),
        contents=contents.digests,
        landmarks=images["landmark"].fillna(images["landmark_id"].astype("str")).fillna("").tolist(),
        audit=audit.fillna(""),
        groups=Groups(
            groups["group"].fillna(-1).to_numpy(np.int64), groups["probability"].to_numpy(np.float32)
        ),
        links=links[links["probability"] >= config.min_probability],
        duplicates=duplicates,
        doubts=doubts,
        uncompared=rows.train.stop - rows.train.start,
        min_probability=config.min_probability,
    )
    return render_collection(content)


def keep_search_options(**options: Any) -> dict[str, Any]:
    """Keep the parameters by which a new photo is described and found, so that a search needs no Kedro."""
    models = {name: PARAMETER_MODELS[name].model_validate(options[name]) for name in PARAMETER_MODELS}
    return options | {name: model.model_dump(mode="json") for name, model in models.items()}
