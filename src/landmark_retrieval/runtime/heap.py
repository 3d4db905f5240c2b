"""Keeping freed memory for the next layer instead of handing it back to the system after every layer."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEEP_ALL = 2**31 - 1


@contextlib.contextmanager
def retained_heap() -> Iterator[None]:
    """Let the C allocator reuse large blocks while the context lasts (glibc; elsewhere nothing happens).

    By default glibc maps every activation of a network anew and unmaps it after use, so that each layer
    first waits for the system to hand out zeroed pages. That costs a CPU as much time as the arithmetic
    once activations outgrow 32 MB. On leaving, glibc's usual limits hold again and free memory is returned.
    """
    allocator = _allocator()
    if allocator is None:
        yield
        return
    allocator.mallopt(_MMAP_MAX, 0)
    allocator.mallopt(_TRIM_THRESHOLD, _KEEP_ALL)
    try:
        yield
    finally:
        allocator.mallopt(_MMAP_MAX, 65536)
        allocator.mallopt(_MMAP_THRESHOLD, 32 * 2**20)
        allocator.mallopt(_TRIM_THRESHOLD, 64 * 2**20)
        allocator.malloc_trim(0)


def _allocator() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
        return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
    except OSError:
        return None
