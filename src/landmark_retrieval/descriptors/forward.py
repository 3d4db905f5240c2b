"""The forward pass of a network on its device, in the arithmetic that is fastest there.

A GPU computes convolutions fastest in float16 with the channels last, but a shape of input that it has not
met in that arithmetic costs up to a second (EfficientNet on an H100), thirty times as much as in tf32 with
the channels first. Photos come in many shapes, so that a small collection is described fastest in tf32 and a
large one in float16. Both multiply numbers with ten bits after the leading one and add in float32.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from landmark_retrieval.descriptors.backbones import Backbone

logger = logging.getLogger(__name__)

TRIAL_BATCHES = 8
"""Batches of one shape after which the two ways of computing are measured against each other."""


class Forward:
    """A network ready for inference.

    Args:
        backbone: on its device.
        precision: `float32`, `float16`, `bfloat16`, or `auto` for tf32 or float16, whichever is faster, on a
            GPU.
        device: of the network.
    """

    def __init__(self, backbone: Backbone, precision: str, device: torch.device) -> None:
        self._backbone, self._device = backbone, device
        self._choice: ArithmeticChoice | None = None
        self._reduced: Backbone | None = None
        if precision != "float32" and device.type == "cuda":
            dtype = torch.bfloat16 if precision == "bfloat16" else torch.float16
            self._reduced = copy.deepcopy(backbone).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._autocast: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if precision in ("float16", "bfloat16") and device.type != "cuda":
            self._autocast = torch.autocast(device.type, dtype=getattr(torch, precision))
        if precision == "auto" and self._reduced is not None:
            self._choice = ArithmeticChoice(self._whole, self._half, torch.cuda.synchronize)

    def __call__(self, images: Tensor) -> Tensor:
        """Map normalised images `[b, 3, h, w]` to features `[b, c, h', w']`."""
        if self._choice is not None:
            return self._choice(images)
        if self._reduced is not None:
            return self._half(images)
        with self._autocast:
            features: Tensor = self._backbone(images)
            return features

    def _whole(self, images: Tensor) -> Tensor:
        features: Tensor = self._backbone(images.contiguous())
        return features

    def _half(self, images: Tensor) -> Tensor:
        assert self._reduced is not None
        dtype = next(self._reduced.parameters()).dtype
        features: Tensor = self._reduced(images.to(dtype, memory_format=torch.channels_last))
        return features


@lru_cache(maxsize=4)
def forward_of(backbone: Backbone, precision: str, device: torch.device) -> Forward:
    """Return the forward pass of a network, once per process: what it has measured stays known."""
    return Forward(backbone, precision, device)


class ArithmeticChoice:
    """Chooses for every shape between a way that starts at once and one that is faster later.

    A shape is computed the first way until that has lost as much time as the second takes to start; so no
    collection, whatever its shapes, takes more than twice as long as with the better choice.

    Args:
        prompt: maps images to features; new shapes cost little.
        later: the same; new shapes cost much, shapes that were met cost less than with `prompt`.
        wait: waits until the device has computed everything.
        clock: gives seconds.
    """

    def __init__(
        self,
        prompt: Callable[[Tensor], Tensor],
        later: Callable[[Tensor], Tensor],
        wait: Callable[[], object],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._prompt, self._later, self._wait, self._clock = prompt, later, wait, clock
        self._met: Counter[torch.Size] = Counter()
        self._started: set[torch.Size] = set()
        self._gain = 0.0  # seconds a value
        self._price: float | None = None  # seconds a shape; None until measured

    def __call__(self, images: Tensor) -> Tensor:
        """Map images to features."""
        shape = images.shape
        if shape in self._started:
            return self._later(images)
        self._met[shape] += 1
        if self._met[shape] > TRIAL_BATCHES:
            if self._price is None:
                self._measure(images)
            if self._price is not None and self._gain * images.numel() * self._met[shape] > self._price:
                self._started.add(shape)
        return self._prompt(images)

    def _measure(self, images: Tensor) -> None:
        prompt = self._seconds(self._prompt, images)
        first, again = (self._seconds(self._later, images) for _ in range(2))
        self._gain, self._price = (prompt - again) / images.numel(), first - again
        logger.info(
            "network: a batch of %s takes %.1f ms, in float16 %.1f ms and %.0f ms when its shape is new",
            "x".join(map(str, images.shape)),
            1e3 * prompt,
            1e3 * again,
            1e3 * first,
        )

    def _seconds(self, way: Callable[[Tensor], Tensor], images: Tensor) -> float:
        self._wait()
        start = self._clock()
        way(images)
        self._wait()
        return self._clock() - start
