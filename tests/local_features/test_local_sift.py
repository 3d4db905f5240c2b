import cv2
import numpy as np
import pytest

from landmark_retrieval.local_features.config import SiftConfig
from landmark_retrieval.local_features.sift import Sift, root_sift


def test_root_sift_is_hellingers_kernel():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 200, (20, 128)).astype(np.float32)
    x[3] = 0
    rooted = root_sift(x)
    for i in range(20):
        for j in range(128):
            expected = (x[i, j] / x[i].sum()) ** 0.5 if i != 3 else 0
            assert rooted[i, j] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(np.delete(np.linalg.norm(rooted, axis=1), 3), 1, rtol=1e-6)
    p, q = x[0] / x[0].sum(), x[1] / x[1].sum()
    assert rooted[0] @ rooted[1] == pytest.approx(np.sqrt(p * q).sum(), rel=1e-5)


@pytest.mark.parametrize("clahe", [True, False])
def test_a_blob_lies_at_its_centre(clahe):
    y, x = np.mgrid[:160, :200]
    for centre in ((100.0, 80.0), (61.3, 70.75)):
        blob = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 6.0**2))
        pixels = np.uint8(40 + 180 * blob)
        found = Sift(SiftConfig(clahe=clahe)).extract(_rgb(pixels), 10)
        nearest = np.linalg.norm(found.keypoints - centre, axis=1).min()
        assert nearest < (0.5 if clahe else 0.1)


def test_clahe_finds_more_in_the_dark(photo):
    dark = photo.resize((400, 300)).point(lambda value: value // 12)
    counts = [len(Sift(SiftConfig(clahe=clahe)).extract(dark, 1000)) for clahe in (False, True)]
    assert counts[1] > 1.5 * max(counts[0], 1)


def test_a_higher_contrast_threshold_finds_less(photo):
    small = photo.resize((400, 300))
    counts = [len(Sift(SiftConfig(contrast_threshold=t)).extract(small, 5000)) for t in (0.01, 0.04, 0.1)]
    assert counts[0] > counts[1] > counts[2]


def _rgb(pixels):
    from PIL import Image

    return Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB))
