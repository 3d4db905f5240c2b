from __future__ import annotations

import dataclasses

import pytest

from landmark_retrieval.reporting import VariantRun


def test_optional_parts_are_empty_and_the_run_is_frozen() -> None:
    run = VariantRun("blend", {"knn": {"k": 100}}, {"mAP_at_100": 0.5})
    assert run.tags == run.tables == run.figures == run.texts == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.name = "other"  # type: ignore[misc]
