"""The attention head of DELF: how much each cell of a feature map tells landmarks apart."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from landmark_retrieval.errors import LandmarkRetrievalError

HIDDEN = 512
"""Channels between the two convolutions (Noh et al., section 4.2, as published by the authors)."""

OPTION = "local_features.extractor.attention"


class AttentionHead(nn.Module):
    """Two 1x1 convolutions with a ReLU between them and a softplus at the end.

    Noh et al.: "Large-Scale Image Retrieval with Attentive Deep Local Features", 2017, section 4.2. The state
    dict has `hidden.weight` [h, c, 1, 1], `hidden.bias` [h], `score.weight` [1, h, 1, 1], `score.bias` [1].

    Args:
        channels: channels of the feature map.
        hidden: channels between the convolutions.
    """

    def __init__(self, channels: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, hidden, 1)
        self.score = nn.Conv2d(hidden, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return positive scores `[b, 1, h, w]` of features `[b, c, h, w]`."""
        scores: Tensor = functional.softplus(self.score(functional.relu(self.hidden(features))))
        return scores


def save_attention(head: AttentionHead, file: str | Path) -> None:
    """Write the weights of a head for `load_attention`."""
    torch.save({name: value.detach().cpu() for name, value in head.state_dict().items()}, file)


def load_attention(file: str | Path, channels: int | None = None) -> AttentionHead:
    """Read a head without ever unpickling code.

    Args:
        file: state dict as `save_attention` writes it; the hidden width is taken from it.
        channels: channels of the feature map that the head is for; None takes what the file says.

    Raises:
        LandmarkRetrievalError: the file is missing, damaged, or of a head for other features.
    """
    if not Path(file).is_file():
        raise LandmarkRetrievalError(f"{OPTION}: '{file}' does not exist; train a head or set it to null")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives raise many types
        raise LandmarkRetrievalError(
            f"{OPTION}: '{file}' is not a state dict of plain tensors ({type(error).__name__})"
        ) from error
    weight = state.get("hidden.weight") if isinstance(state, dict) else None
    if not isinstance(weight, Tensor) or weight.ndim != 4:
        raise LandmarkRetrievalError(
            f"{OPTION}: '{file}' does not hold an attention head (hidden.weight, hidden.bias, score.weight, "
            "score.bias)"
        )
    if channels is not None and weight.shape[1] != channels:
        raise LandmarkRetrievalError(
            f"{OPTION}: '{file}' is a head for {weight.shape[1]} channels but the backbone's stage gives "
            f"{channels}; take the backbone and stage it was trained on"
        )
    head = AttentionHead(weight.shape[1], weight.shape[0])
    try:
        head.load_state_dict(state)
    except RuntimeError as error:
        raise LandmarkRetrievalError(
            f"{OPTION}: '{file}' does not hold an attention head: {' '.join(str(error).split())}"
        ) from error
    return head.eval()
