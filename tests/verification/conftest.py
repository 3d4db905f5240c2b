"""Photos shared by the tests of verification."""

import numpy as np
import pytest
from verification_scenes import HOMOGRAPHIES, make_features, photo, store_features, view


@pytest.fixture(scope="session")
def album():
    """Eight photos: 0 and 4 show scene A, 1, 5 and 6 scene B, the rest nothing in common; 7 is empty."""
    a, b = photo(1), photo(2)
    empty = make_features(np.zeros((0, 2)), np.zeros((0, 32)))
    return [
        a,
        b,
        photo(3),
        photo(4),
        view(a, HOMOGRAPHIES[0], 5),
        view(b, HOMOGRAPHIES[1], 6),
        view(b, HOMOGRAPHIES[0], 7, share=0.4),
        empty,
    ]


@pytest.fixture
def feature_store(tmp_path, album):
    return store_features(tmp_path / "features", album)
