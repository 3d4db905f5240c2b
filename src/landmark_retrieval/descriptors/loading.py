"""Reading images ahead of the network: decoded and resized in threads, joined in batches of one shape."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from landmark_retrieval.descriptors.config import GlobalDescriptorConfig
from landmark_retrieval.images import Source, UnreadableImageError, load_image
from landmark_retrieval.runtime.devices import batch_size, choose_device
from landmark_retrieval.runtime.threads import thread_count

MIN_SIDE = 32
"""Shortest side in pixels that a network gets."""

PENDING_BATCHES = 8
"""Images held back at most, in batches, waiting for others of their shape."""

Pixels = NDArray[np.uint8]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageBatch:
    """Images of one shape.

    Attributes:
        positions: positions of the images in the sequence of paths.
        scales: one uint8 array `[b, h, w, 3]` a scale.
    """

    positions: tuple[int, ...]
    scales: tuple[Pixels, ...]


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be used, why, and whether that may pass."""

    position: int
    reason: str
    passing: bool = False


def target_sizes(width: int, height: int, config: GlobalDescriptorConfig) -> tuple[tuple[int, int], ...]:
    """Return the sizes (width, height) in pixels at which an image is described, one a scale.

    The sizes follow from the rounded size at scale 1, so images that agree there agree at all scales.

    Args:
        width: width of the image in pixels.
        height: height of the image in pixels.
        config: `max_side`, `scales` and `size_multiple`.
    """
    step = config.size_multiple
    shortest = -(-MIN_SIDE // step) * step

    def rounded(side: float) -> int:
        return max(shortest, round(side / step) * step)

    ratio = min(1.0, config.max_side / max(width, height))
    base = rounded(width * ratio), rounded(height * ratio)
    return tuple((rounded(base[0] * scale), rounded(base[1] * scale)) for scale in config.scales)


def load_scales(path: Source, config: GlobalDescriptorConfig) -> tuple[Pixels, ...] | UnreadableImageError:
    """Return an image at all scales, each uint8 RGB `[h, w, 3]`, or why it cannot be read.

    Args:
        path: path of the image file, or of a part of one.
        config: sizes, as in `target_sizes`.
    """
    try:
        image = load_image(path, at_least=round(config.max_side * max(1.0, *config.scales)))
    except UnreadableImageError as error:
        return error
    pixels = np.asarray(image)
    return tuple(_resize(pixels, size) for size in target_sizes(image.width, image.height, config))


def _resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize `[h, w, 3]` to (width, height): by area averages when shrinking, cubic when enlarging.

    OpenCV takes a third of Pillow's time for this, which counts where two cores also run the network.
    """
    height, width = pixels.shape[:2]
    if (width, height) == size:
        return pixels
    shrinks = size[0] * size[1] <= width * height
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation), dtype=np.uint8)


def loader_threads(config: GlobalDescriptorConfig) -> int:
    """Return how many threads decode and resize ahead of the network.

    One a core beside a GPU (at most 16); as many as the network has on a CPU, with which they take turns.
    """
    if choose_device(config.device).type == "cpu":
        return torch.get_num_threads()  # the network rests meanwhile; one in each of several workers
    return min(16, thread_count(0))


def iterate_batches(
    paths: Sequence[Source],
    config: GlobalDescriptorConfig,
    join: Callable[[Sequence[Pixels]], Pixels] = np.stack,
) -> Iterator[ImageBatch | Unreadable]:
    """Read images ahead of the network and yield them in batches of one shape.

    The batches depend on the paths and the parameters alone, not on the speed of the threads.

    Args:
        paths: image files.
        config: sizes, batch size and threads.
        join: makes one array of the images of a batch.

    Yields:
        Batches as soon as one shape has enough images; the fullest one when many shapes are waiting; the rest
        at the end.
    """
    full, held = batch_size(config), 0
    waiting: dict[tuple[tuple[int, ...], ...], list[tuple[int, tuple[Pixels, ...]]]] = {}
    for position, loaded in enumerate(_load(paths, config)):
        if isinstance(loaded, UnreadableImageError):
            yield Unreadable(position, str(loaded), loaded.passing)
            continue
        shape = tuple(pixels.shape for pixels in loaded)
        bucket = waiting.setdefault(shape, [])
        bucket.append((position, loaded))
        held += 1
        if len(bucket) == full:
            held -= full
            yield _batch(waiting.pop(shape), join)
        elif held > PENDING_BATCHES * full:
            largest = max(waiting, key=lambda key: len(waiting[key]))
            held -= len(waiting[largest])
            yield _batch(waiting.pop(largest), join)
    for bucket in waiting.values():
        yield _batch(bucket, join)


def _batch(
    bucket: list[tuple[int, tuple[Pixels, ...]]], join: Callable[[Sequence[Pixels]], Pixels]
) -> ImageBatch:
    positions = tuple(position for position, _ in bucket)
    return ImageBatch(positions, tuple(join(pixels) for pixels in zip(*(p for _, p in bucket), strict=True)))


def page_locked(pixels: Sequence[Pixels]) -> Pixels:
    """Join images in memory from which a GPU copies, with black ones up to the next power of two.

    The number of images is part of the shape that a GPU prepares for when it meets it first.
    """
    count = 1 << (len(pixels) - 1).bit_length()
    locked = torch.empty((count, *pixels[0].shape), dtype=torch.uint8, pin_memory=True).numpy()
    for number, image in enumerate(pixels):
        locked[number] = image
    locked[len(pixels) :] = 0
    return locked


def _load(
    paths: Sequence[Source], config: GlobalDescriptorConfig
) -> Iterator[tuple[Pixels, ...] | UnreadableImageError]:
    """Yield what `load_scales` returns, in order, reading at most two batches ahead.

    A network on a GPU is read for in the background. One on the CPU takes turns with the readers, each with
    all cores: a core that also reads makes all others wait for it at the end of each layer.
    """
    ahead = 2 * max(loader_threads(config), batch_size(config))
    in_turns = choose_device(config.device).type == "cpu"
    with ThreadPoolExecutor(loader_threads(config), thread_name_prefix="image-loader") as pool:
        load = partial(load_scales, config=config)
        yield from (in_windows if in_turns else in_background)(pool, load, paths, ahead)


def drawn_ahead(items: Iterator[Item], ahead: int) -> Iterator[Item]:
    """Yield what an iterator gives, drawn from it by another thread, at most `ahead` early."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        waiting = deque(pool.submit(next, items, end) for _ in range(ahead))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]


def in_windows(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Sequence[Item], ahead: int
) -> Iterator[Result]:
    """Yield the function's results in order; while one of them is out, nothing is computed."""
    for start in range(0, len(items), ahead):
        yield from list(pool.map(function, items[start : start + ahead]))


def in_background(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Sequence[Item], ahead: int
) -> Iterator[Result]:
    """Yield the function's results in order, while at most `ahead` more are computed."""
    futures: deque[Future[Result]] = deque()
    try:
        for item in items:
            futures.append(pool.submit(function, item))
            if len(futures) >= ahead:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    finally:
        for future in futures:
            future.cancel()
