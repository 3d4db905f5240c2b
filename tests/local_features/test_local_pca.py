import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from landmark_retrieval.descriptors.whitening import apply_whitening
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import image_sources, load_image, photo_keys, resize_long_side
from landmark_retrieval.local_features import (
    LocalFeaturesConfig,
    build_extractor,
    extract_features,
    fit_local_pca,
    learn_local_pca,
)
from landmark_retrieval.local_features import (
    pca as pca_module,
)
from landmark_retrieval.runtime.store import Store

TINY = {"name": "test_resnet", "weights": "random", "stage": 2}


def tiny(**options):
    delf = {"name": "delf", "backbone": TINY, "scales": (1.0, 1.4), "dimensions": 16, **options}
    return LocalFeaturesConfig(extractor=delf, max_side=160, max_keypoints=100)


@pytest.fixture
def table(demo_root):
    rows = pd.read_csv(demo_root / "images.csv")
    rows["path"] = [str(demo_root / path) for path in rows["path"]]
    return pd.concat(
        [rows[rows["split"] == split].head(3) for split in ("query", "index", "train")]
    ).reset_index(drop=True)


def raw(table, rows, config):
    model = build_extractor(config.extractor)
    images = [resize_long_side(load_image(table["path"].iloc[row]), config.max_side) for row in rows]
    return np.concatenate([model.extract(image, config.max_keypoints).descriptors for image in images])


def test_pca_is_that_of_sklearn_on_the_training_images(table):
    config = tiny()
    pca = fit_local_pca(table, config)
    features = raw(table, (6, 7, 8), config).astype(np.float64)
    reference = PCA(16, svd_solver="full").fit(features)
    np.testing.assert_allclose(pca.mean, reference.mean_, atol=1e-5)
    agreement = np.abs((pca.projection.T * reference.components_).sum(axis=1))
    np.testing.assert_allclose(agreement, 1, atol=1e-3)
    expected = reference.transform(features[:20])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    signs = np.sign((pca.projection.T * reference.components_).sum(axis=1))
    np.testing.assert_allclose(
        apply_whitening(features[:20].astype(np.float32), pca), expected * signs, atol=2e-3
    )


def test_without_training_images_it_learns_on_the_index(table):
    config = tiny()
    table = table[table["split"] != "train"].reset_index(drop=True)
    features = raw(table, (3, 4, 5), config)
    np.testing.assert_allclose(fit_local_pca(table, config).mean, features.mean(axis=0), atol=1e-5)


def test_pca_images_bounds_the_images_read(table):
    config = tiny(pca_images=1)
    np.testing.assert_allclose(
        fit_local_pca(table, config).mean, raw(table, (6,), config).mean(axis=0), atol=1e-5
    )


def test_unreadable_training_images_are_passed_over(table, tmp_path):
    config = tiny()
    table.loc[7, "path"] = str(tmp_path / "missing.jpg")
    expected = raw(table, (6, 8), config).mean(axis=0)
    np.testing.assert_allclose(fit_local_pca(table, config).mean, expected, atol=1e-5)
    table.loc[[6, 8], "path"] = str(tmp_path / "missing.jpg")
    with pytest.raises(LandmarkRetrievalError, match=r"0 DELF features on 3 images of the train split"):
        fit_local_pca(table, config)


def test_only_delf_has_a_pca(table):
    assert fit_local_pca(table, LocalFeaturesConfig()).is_none


def test_projected_features_are_normalised(table):
    config = tiny()
    image = load_image(table["path"].iloc[0])
    pca = fit_local_pca(table, config)
    found = extract_features(image, config, pca)
    assert found.descriptors.shape[1] == 16
    np.testing.assert_allclose(np.linalg.norm(found.descriptors.astype(float), axis=1), 1, atol=1e-3)
    np.testing.assert_array_equal(found.keypoints, extract_features(image, config).keypoints)
    assert extract_features(image.resize((40, 40)).point(lambda _: 7), config, pca).descriptors.shape == (
        0,
        16,
    )


def test_it_is_learned_once_for_the_same_photos_and_options(table, tmp_path, monkeypatch):
    store, learned = Store(str(tmp_path)), []
    fit = pca_module.fit_local_pca
    monkeypatch.setattr(pca_module, "fit_local_pca", lambda *args: learned.append(1) or fit(*args))

    def learn(config):
        return learn_local_pca(table, photo_keys(image_sources(table)), store, config)

    for _ in range(2):
        pca, expected = learn(tiny()), fit(table, tiny())
        np.testing.assert_array_equal(pca.mean, expected.mean)
        np.testing.assert_array_equal(pca.projection, expected.projection)
    assert len(learned) == 1
    for number, other in enumerate(
        (tiny(dimensions=8), tiny(pca_images=2), tiny().model_copy(update={"max_side": 96}))
    ):
        learn(other)
        assert len(learned) == 2 + number
    table.loc[7, "path"] = table.loc[0, "path"]
    learn(tiny())
    assert len(learned) == 5
    assert learn(LocalFeaturesConfig()).is_none
