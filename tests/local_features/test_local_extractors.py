"""What every extractor promises, on a real photo and on images without content."""

import numpy as np
import pytest
from PIL import Image

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.local_features import LocalFeaturesConfig, build_extractor, extract_features
from landmark_retrieval.verification.matching import MatchingConfig, match
from landmark_retrieval.verification.ransac import RansacConfig, estimate_homography

EXTRACTORS = ("aliked", "disk", "xfeat", "sift", "delf")
WIDTHS = {"aliked": 128, "disk": 128, "xfeat": 64, "sift": 128, "delf": 120}
pytestmark = pytest.mark.parametrize("name", EXTRACTORS)


def check(features, image, config):
    m = len(features)
    assert m <= config.max_keypoints
    assert features.size == image.size
    assert features.keypoints.shape == (m, 2) and features.keypoints.dtype == np.float32
    assert features.descriptors.shape == (m, WIDTHS[config.extractor.name])
    assert features.descriptors.dtype == np.float16
    assert features.scores.shape == (m,) and features.scores.dtype == np.float32
    assert features.scales.shape == (m,) and features.scales.dtype == np.float32
    assert (features.keypoints >= -0.5).all()
    assert (features.keypoints <= np.array(image.size) - 0.5).all()
    assert (np.diff(features.scores) <= 0).all()
    assert (features.scales > 0).all()
    norms = np.linalg.norm(features.descriptors.astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-3)


def test_features_of_a_photo(name, photo, make_config):
    config = make_config(name, max_keypoints=100)
    features = extract_features(photo, config)
    check(features, photo, config)
    assert len(features) == 100
    spread = np.ptp(features.keypoints, axis=0)
    assert (spread > 0.5 * np.array(photo.size)).all()  # in pixels of the photo, not of the shrunk one


def test_the_strongest_are_kept(name, photo, make_config):
    many = extract_features(photo, make_config(name, max_keypoints=120))
    few = extract_features(photo, make_config(name, max_keypoints=40))
    np.testing.assert_allclose(few.scores, many.scores[:40], rtol=1e-6)


def test_extraction_is_deterministic(name, photo, make_config):
    config = make_config(name)
    first = extract_features(photo, config)
    build_extractor(make_config("sift").extractor)  # drops the model that is kept
    second = extract_features(photo.copy(), config)
    for field in ("keypoints", "descriptors", "scores", "scales"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (1, 1), "red"),
        Image.new("RGB", (300, 200), (90, 90, 90)),
        Image.new("RGB", (5000, 40)),
        Image.new("RGB", (33, 47), "white"),
    ],
    ids=["pixel", "grey", "strip", "white"],
)
def test_blank_images_have_no_features(name, image, make_config):
    config = make_config(name)
    features = extract_features(image, config)
    check(features, image, config)
    assert len(features) == 0


@pytest.mark.parametrize("size", [(20000, 50), (50, 3000), (33, 33), (2, 2), (17, 301)], ids=str)
def test_odd_sizes(name, size, photo, make_config):
    config = make_config(name, max_keypoints=50)
    image = photo.resize(size)
    check(extract_features(image, config), image, config)


def test_low_contrast(name, make_config):
    step = np.full((100, 200, 3), 100, np.uint8)
    step[:, 100:] = 101
    config = make_config(name)
    check(extract_features(Image.fromarray(step), config), Image.fromarray(step), config)


def test_a_grey_photo_has_the_features_of_the_coloured_one(name, photo, make_config):
    grey = photo.convert("L").convert("RGB")
    config = make_config(name)
    a, b = extract_features(photo, config), extract_features(grey, config)
    check(b, grey, config)
    matched = match(a, b, MatchingConfig(ratio=0.98))
    distance = np.linalg.norm(a.keypoints[matched[:, 0]] - b.keypoints[matched[:, 1]], axis=1)
    assert np.median(distance) < 3


# A turn by 8 degrees, a zoom of 0.8, perspective and a shift; pixels of 800x600 to pixels of 700x560.
ANGLE = np.deg2rad(8)
TRUTH = np.array(
    [
        [0.8 * np.cos(ANGLE), -0.8 * np.sin(ANGLE), 70.0],
        [0.8 * np.sin(ANGLE), 0.8 * np.cos(ANGLE), -20.0],
        [6e-5, 4e-5, 1.0],
    ]
)

TOLERANCE = {"aliked": 2.0, "disk": 2.0, "xfeat": 3.0, "sift": 2.0, "delf": 12.0}
"""Largest median error in pixels of the 700x560 image, which the extractor sees shrunk to 384."""


def mapped(homography, points):
    image = np.c_[points, np.ones(len(points))] @ homography.T
    return image[:, :2] / image[:, 2:]


def test_a_known_homography_is_recovered(name, photo, make_config, warp):
    other = warp(photo, TRUTH, (700, 560))
    config = make_config(name, max_side=384, max_keypoints=500)
    a, b = extract_features(photo, config), extract_features(other, config)
    matched = match(a, b, MatchingConfig(ratio=0.95))
    threshold = 15.0 if name == "delf" else 4.0
    homography, inliers = estimate_homography(
        a.keypoints[matched[:, 0]], b.keypoints[matched[:, 1]], RansacConfig(threshold=threshold), seed=0
    )
    assert inliers.sum() >= 20
    grid = np.stack(np.meshgrid(np.linspace(150, 700, 6), np.linspace(120, 500, 6)), -1).reshape(-1, 2)
    errors = np.linalg.norm(mapped(homography, grid) - mapped(TRUTH, grid), axis=1)
    assert np.median(errors) < TOLERANCE[name]


def test_keypoints_are_in_pixels_of_the_original(name, photo, make_config):
    # Each pixel becomes 3x3 equal ones, and extraction shrinks them back: centres move by (x + 1/2) 3 - 1/2.
    small = photo.resize((250, 190))
    large = small.resize((750, 570), Image.Resampling.NEAREST)
    config = make_config(name, max_side=250)
    a, b = extract_features(small, config), extract_features(large, config)
    expected = (a.keypoints + 0.5) * 3 - 0.5
    apart = np.linalg.norm(expected[:, None] - b.keypoints[None], axis=2)
    nearest = apart.min(axis=1)
    assert (nearest < 0.5).mean() > 0.7  # bicubic shrinking sharpens a little
    np.testing.assert_allclose(
        (expected - b.keypoints[apart.argmin(axis=1)])[nearest < 3].mean(axis=0), 0, atol=0.2
    )
    np.testing.assert_allclose(np.median(b.scales) / np.median(a.scales), 3, rtol=0.05)


def test_keypoints_of_a_mirrored_photo_are_mirrored(name, photo, make_config):
    # Mirroring maps pixel centre x to width - 1 - x: an error in the origin shows up twice.
    if name not in ("sift", "delf"):
        pytest.skip("learned detectors answer on one side of an edge")
    image = photo.resize((309, 233))  # no multiple of a stride
    config = make_config(name, max_side=309, max_keypoints=300)
    for axis, method in enumerate((Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM)):
        a = extract_features(image, config)
        b = extract_features(image.transpose(method), config)
        mirrored = b.keypoints.copy()
        mirrored[:, axis] = image.size[axis] - 1 - mirrored[:, axis]
        alike = np.abs(np.log(a.scales[:, None] / b.scales[None])) < 0.05
        apart = np.where(alike, np.linalg.norm(a.keypoints[:, None] - mirrored[None], axis=2), np.inf)
        nearest = apart.argmin(axis=1)
        near = (apart.argmin(axis=0)[nearest] == np.arange(len(a))) & (apart.min(axis=1) < 8)
        assert near.sum() >= 100
        shift = (a.keypoints[near] - mirrored[nearest[near]])[:, axis] / 2
        assert abs(shift.mean()) < (0.5 if name == "delf" else 0.05)


def test_an_unused_or_misspelt_option_is_named(name):
    with pytest.raises(LandmarkRetrievalError, match=r"unknown option 'max_keypoint'.*max_keypoints"):
        LocalFeaturesConfig(extractor={"name": name}, max_keypoint=3)
    with pytest.raises(LandmarkRetrievalError, match=r"unknown option 'clahee'"):
        LocalFeaturesConfig(extractor={"name": name, "clahee": 3})
