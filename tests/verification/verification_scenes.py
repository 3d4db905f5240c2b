"""Small feature sets with a known answer, and a stand-in for the store of local features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from landmark_retrieval.local_features import LocalFeatures
from landmark_retrieval.runtime.sharding import ShardPlan, ShardStore, ShardTask

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
    """A shard of features; called like the computation of any shard."""

    features: tuple[LocalFeatures, ...]

    def __call__(self):
        return {
            f"{name}{i}": getattr(one, name)
            for i, one in enumerate(self.features)
            for name in ("keypoints", "descriptors", "scores", "scales")
        }


class FeatureStore(ShardStore):
    """Local features in shards of two images, with the interface that verification asks for."""

    SIZE = 2

    def save(self, features, fingerprints=None, extractor="aliked"):
        tasks = [
            ShardTask(
                f"features-{start}",
                fingerprints[start // self.SIZE] if fingerprints else "f",
                Stack(tuple(features[start : start + self.SIZE])),
            )
            for start in range(0, len(features), self.SIZE)
        ]
        self.run(ShardPlan("features", tasks, metadata={"extractor": extractor}))
        return self

    def get(self, row):
        shard = self.read(self.manifest()["shards"][row // self.SIZE])
        return LocalFeatures(
            *(shard[f"{name}{row % self.SIZE}"] for name in ("keypoints", "descriptors", "scores", "scales")),
            size=SIZE,
        )

    def fingerprint_of(self, row):
        return self.manifest()["shards"][row // self.SIZE]


HOMOGRAPHIES = [
    np.array([[0.9, 0.1, 30], [-0.05, 1.1, -20], [1e-4, -5e-5, 1]]),
    np.array([[0.7, -0.3, 150], [0.3, 0.7, 20], [0, 0, 1]]),
]
