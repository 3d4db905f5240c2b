"""The rule for floors, and where the values of the defaults come in."""

import numpy as np
import pytest

from landmark_retrieval.verification import RansacConfig, VerificationConfig
from landmark_retrieval.verification.floors import MIN_INLIERS, default_floor, floor_from_unrelated


@pytest.mark.parametrize(
    ("counts", "floor"),
    [
        ([4] * 1000, 6),
        ([4] * 999 + [30], 6),  # one in a thousand is the percentile itself
        ([4] * 998 + [30, 30], 32),
        (np.arange(10_000), 9989 + 2),
        ([0], 2),
    ],
)
def test_floor_is_two_above_what_one_pair_in_a_thousand_exceeds(counts, floor):
    assert floor_from_unrelated(counts) == floor
    assert (np.asarray(counts) >= floor).mean() <= 0.001


def test_no_pairs_give_no_floor():
    with pytest.raises(ValueError, match="unrelated"):
        floor_from_unrelated([])


def test_open_floors_depend_on_extractor_and_method():
    assert VerificationConfig().resolve("aliked").min_inliers == MIN_INLIERS["aliked"]
    usac = VerificationConfig(ransac=RansacConfig(method="opencv_usac"))
    assert (
        usac.resolve("aliked").min_inliers == default_floor("aliked", "opencv_usac") > MIN_INLIERS["aliked"]
    )
    assert VerificationConfig(min_inliers=7).resolve("aliked").min_inliers == 7
    assert default_floor("unheard of") == default_floor(None) >= max(MIN_INLIERS.values()) - 1
