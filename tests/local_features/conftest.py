import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from landmark_retrieval.images import load_image
from landmark_retrieval.local_features.config import LocalFeaturesConfig


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def photo(demo_root):
    """A photo of 800x600 pixels."""
    return load_image(demo_root / "images" / "berlin_portal_00.jpg")


@pytest.fixture
def make_config():
    def make(name, max_side=256, max_keypoints=200, shard_size=3, **options):
        return LocalFeaturesConfig(
            extractor={"name": name, **options},
            max_side=max_side,
            max_keypoints=max_keypoints,
            shard_size=shard_size,
        )

    return make


@pytest.fixture(scope="session")
def warp():
    """Return a function that applies a homography of pixel centres, independently of the package."""

    def apply(image, homography, size):
        pixels = cv2.warpPerspective(
            np.asarray(image), homography, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
        )
        return Image.fromarray(pixels)

    return apply
