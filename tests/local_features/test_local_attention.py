import numpy as np
import pytest
import torch

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.local_features import (
    AttentionHead,
    LocalFeaturesConfig,
    extract_features,
    load_attention,
    local_parameters,
    save_attention,
)

TINY = {"name": "test_resnet", "weights": "random", "stage": 2}


def delf(file=None, **options):
    extractor = {"name": "delf", "backbone": TINY, "attention": file and str(file), **options}
    return LocalFeaturesConfig(extractor=extractor, max_side=160, max_keypoints=50)


@pytest.fixture
def channels(photo):
    return extract_features(photo, delf()).descriptors.shape[1]


def test_scores_are_two_convolutions_and_a_softplus():
    torch.manual_seed(0)
    head = AttentionHead(7, 5)
    x = torch.randn(2, 7, 3, 4)
    w1, b1, w2, b2 = (value.detach().double().numpy() for value in head.state_dict().values())
    hidden = np.einsum("hc,bcyx->bhyx", w1[:, :, 0, 0], x.double().numpy()) + b1[:, None, None]
    score = np.einsum("oh,bhyx->boyx", w2[:, :, 0, 0], np.maximum(hidden, 0)) + b2
    np.testing.assert_allclose(head(x).detach(), np.log1p(np.exp(score)), atol=1e-5)


def test_a_head_round_trips_and_scores_the_features(photo, channels, tmp_path):
    torch.manual_seed(1)
    head = AttentionHead(channels, 24)
    save_attention(head, tmp_path / "head.pt")
    again = load_attention(tmp_path / "head.pt", channels)
    x = torch.randn(1, channels, 2, 2)
    torch.testing.assert_close(again(x), head(x))
    config = delf(tmp_path / "head.pt", nms_radius=0, scales=(1.0,))
    config = config.model_copy(update={"max_keypoints": 10_000})
    by_head = extract_features(photo, config)
    by_norm = extract_features(
        photo, config.model_copy(update={"extractor": delf(nms_radius=0, scales=(1.0,)).extractor})
    )
    assert len(by_head) == len(by_norm)  # every cell, in another order
    order_a, order_b = (np.lexsort(f.keypoints.T) for f in (by_head, by_norm))
    np.testing.assert_array_equal(by_head.descriptors[order_a], by_norm.descriptors[order_b])
    assert not np.allclose(by_head.scores[order_a], by_norm.scores[order_b])


def test_another_head_in_the_same_file_is_noticed(photo, channels, tmp_path):
    file = tmp_path / "head.pt"
    _table(tmp_path)
    scores, fingerprints = [], []
    for seed, hidden in ((1, 8), (2, 9)):
        torch.manual_seed(seed)
        save_attention(AttentionHead(channels, hidden), file)
        scores.append(extract_features(photo, delf(file)).scores[:5])
        fingerprints.append(local_parameters(delf(file)))
    assert not np.allclose(*scores)
    assert fingerprints[0] != fingerprints[1]


def _table(folder):
    import pandas as pd

    return pd.DataFrame({"image_id": ["a"], "path": [str(folder / "a.png")]})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"not torch", "not a state dict of plain tensors"),
        ({"weight": torch.zeros(3)}, "does not hold an attention head"),
        ([1, 2], "does not hold an attention head"),
        ({"hidden.weight": torch.zeros(4, 6, 1, 1)}, r"does not hold an attention head: .*hidden\.bias"),
        ({"hidden.weight": torch.zeros(4, 9, 1, 1)}, "for 9 channels but the backbone's stage gives 6"),
    ],
)
def test_a_wrong_file_is_named(content, message, tmp_path):
    file = tmp_path / "head.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(LandmarkRetrievalError, match=message) as error:
        load_attention(file, 6)
    assert str(file) in str(error.value) and "\n" not in str(error.value)
