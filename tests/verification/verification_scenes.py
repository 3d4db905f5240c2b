"""Small feature sets with a known answer, and a stand-in for the store of local features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from landmark_retrieval.local_features import LocalFeatures, LocalFeatureStore, StoredFeatures
from landmark_retrieval.runtime.store import Request, Store

SIZE = (640, 480)
"""Width and height of every scene."""


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def make_features(keypoints, descriptors, scores=None, dtype=np.float16):
    count = len(keypoints)
    return LocalFeatures(
        np.asarray(keypoints, np.float32),
        np.asarray(descriptors, dtype),
        np.linspace(1, 0.5, count, dtype=np.float32) if scores is None else np.asarray(scores, np.float32),
        np.ones(count, np.float32),
        SIZE,
    )


def carry(homography, points):
    carried = np.c_[points, np.ones(len(points))] @ np.asarray(homography).T
    return carried[:, :2] / carried[:, 2:]


def photo(seed, count=120, dimensions=32, size=SIZE):
    """Return features of a random scene."""
    random = np.random.default_rng(seed)
    return make_features(
        random.uniform(0, 1, (count, 2)) * size, unit(random.normal(size=(count, dimensions)))
    )


def view(features, homography, seed, share=0.6, noise=0.5, size=SIZE):
    """Return another view of a scene: a share of its features carried by a homography, the rest new."""
    random = np.random.default_rng(seed)
    other = photo(seed + 1000, len(features.keypoints), features.descriptors.shape[1], size)
    kept = random.permutation(len(features.keypoints))[: int(share * len(features.keypoints))]
    keypoints, descriptors = other.keypoints.copy(), other.descriptors.copy()
    keypoints[kept] = carry(homography, features.keypoints[kept]) + random.normal(size=(len(kept), 2)) * noise
    shaken = features.descriptors[kept] + random.normal(size=descriptors[kept].shape) * 0.03
    descriptors[kept] = unit(shaken)
    order = random.permutation(len(keypoints))
    return make_features(keypoints[order], descriptors[order])


@dataclass(frozen=True)
class Stack:
    """The computation of some features, as extraction would give them."""

    features: tuple[LocalFeatures, ...]

    def __call__(self):
        parts = {
            f"parts.{name}": np.concatenate([getattr(one, name) for one in self.features])
            for name in ("keypoints", "descriptors", "scores", "scales")
        }
        offsets = np.cumsum([0, *map(len, self.features)], dtype=np.int64)
        sizes = np.array([one.size for one in self.features], np.int32)
        return {**parts, "offsets": offsets, "image_size": sizes}


def keys_of(numbers):
    """Return keys that are not in the order of the numbers."""
    return np.array([f"{(7919 * (number + 3)) % 10007:016x}" for number in numbers])


def store_features(root, features, keys=None, extractor="aliked"):
    """Store features as those of photos and return their reader."""
    keys = keys_of(range(len(features))) if keys is None else keys
    namespace = Store(str(root)).namespace("local_features", {"extractor": extractor})
    request = Request("features", "photo", lambda rows: Stack(tuple(features[row] for row in rows)), 2)
    namespace.fill(keys, request)
    nothing = np.zeros(0, np.int64), np.zeros(0, str)
    return LocalFeatureStore(
        StoredFeatures(keys, namespace.folder.url, extractor, 32, *nothing, parameters="{}")
    )


HOMOGRAPHIES = [
    np.array([[0.9, 0.1, 30], [-0.05, 1.1, -20], [1e-4, -5e-5, 1]]),
    np.array([[0.7, -0.3, 150], [0.3, 0.7, 20], [0, 0, 1]]),
]
