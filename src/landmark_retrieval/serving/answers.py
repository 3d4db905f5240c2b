"""What was found, in plain values for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from landmark_retrieval.graph import Step
from landmark_retrieval.retrieval.search import Found


def as_json(found: Found, ids: Sequence[str]) -> dict[str, Any]:
    """Return what was found in plain values; trusted paths name images by id.

    Args:
        found: for one photo.
        ids: image ids of all table rows.
    """
    results = []
    for rank, result in enumerate(found.results, start=1):
        values = dataclasses.asdict(result)
        del values["row"]
        values["region"] = None if result.region is None else result.region.tolist()
        values["path"] = [
            {
                "image_id": ids[step.row],
                "kind": _kind(step),
                "similarity": step.weight if _kind(step) == "similarity" else None,
                "probability": step.weight if step.verified else None,
                "label": step.label or None,
                "train_images": [ids[row] for row in step.train_rows],
                "train_similarities": list(step.similarities),
            }
            for step in result.path
        ]
        results.append({"rank": rank, **values})
    return {"seconds": round(found.seconds, 4), "label": found.label or None, "results": results}


def _kind(step: Step) -> str:
    if step.label_bridge:
        return "label"
    return "verified" if step.verified else "similarity"
