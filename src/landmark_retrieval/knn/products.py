"""Matrix products on the CPU by the library that is fastest there.

PyTorch and NumPy come with BLAS libraries of their own, and which of them is faster, by up to 1.5 times,
depends on the processor. Their rounding differs, which the search does not care about (`kernel`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landmark_retrieval.runtime.threads import library_threads

logger = logging.getLogger(__name__)

LARGE = 2e10
"""Operations from which on it pays to find out which library is faster."""

TRIAL = 512, 4096, 512
"""Rows, columns and dimensions of the product that is timed."""

ROUNDS = 3

Product = Callable[[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]], None]
"""Writes the inner products of rows `[b, d]` and rows `[w, d]` to float32 `[b, w]`."""


class _Writable:
    """The memory of an array for libraries that read it but have no notion of read-only arrays."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def as_tensor(array: NDArray[np.float32]) -> torch.Tensor:
    """Return a tensor on the memory of an array that may be read-only; it must not be written to."""
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Writable(array)))


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Multiply float32 matrices as float32, whatever the process has allowed PyTorch to do instead."""
    precision = torch.get_float32_matmul_precision()
    half = torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction
    try:
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        yield
    finally:
        if precision != "highest":
            torch.set_float32_matmul_precision(precision)
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = half


def torch_product(
    rows: NDArray[np.float32], columns: NDArray[np.float32], target: NDArray[np.float32]
) -> None:
    """Multiply by PyTorch; a `Product`."""
    with full_precision():
        torch.mm(as_tensor(rows), as_tensor(columns).T, out=torch.from_numpy(target))


def numpy_product(
    rows: NDArray[np.float32], columns: NDArray[np.float32], target: NDArray[np.float32]
) -> None:
    """Multiply by NumPy; a `Product`."""
    np.matmul(rows, columns.T, out=target)


PRODUCTS: dict[str, Product] = {"PyTorch": torch_product, "NumPy": numpy_product}


@lru_cache(maxsize=4)
def fastest_product(threads: int) -> Product:
    """Return the product that was fastest with so many threads, timed once in a process (0.2 s)."""
    count, width, dimensions = TRIAL
    random = np.random.default_rng(0)
    rows = random.standard_normal((count, dimensions), np.float32)
    columns = random.standard_normal((width, dimensions), np.float32)
    target = np.empty((count, width), np.float32)
    seconds = dict.fromkeys(PRODUCTS, float("inf"))
    with library_threads(threads):
        for _ in range(ROUNDS + 1):  # of the first, only what is not warm-up counts
            for name, product in PRODUCTS.items():
                start = time.perf_counter()
                product(rows, columns, target)
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    fastest = min(seconds, key=seconds.__getitem__)
    rates = ", ".join(f"{name} {2e-9 * count * width * dimensions / s:.0f}" for name, s in seconds.items())
    logger.debug("matrix products, GFLOP/s: %s; taking %s", rates, fastest)
    return PRODUCTS[fastest]
