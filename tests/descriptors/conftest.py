import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def save_image(tmp_path):
    """Return a function that writes a smooth random photo and returns its path."""

    def save(name, width=90, height=60, seed=0):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
        path = tmp_path / name
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(path)
        return str(path)

    return save
