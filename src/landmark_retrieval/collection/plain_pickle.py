"""Reading of pickle files that hold plain data only; nothing in them is ever executed."""

from __future__ import annotations

import pickle
from codecs import encode
from pathlib import Path
from typing import Any

import numpy as np

from landmark_retrieval.errors import LandmarkRetrievalError

_NDARRAY = "numpy.ndarray"
"""Stands for the class, which must not be called."""

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for `codecs.encode`, by which old protocols write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return encode(text, "latin1")


def _no_bytes() -> bytes:
    """Stand in for `bytes`, by which old protocols write empty ones."""
    return b""


def _scalar(dtype: np.dtype[Any], value: object = b"") -> Any:
    """Stand in for numpy's `scalar`, without the pickled objects inside that it would take."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(value, bytes | str):
        raise pickle.UnpicklingError("a scalar that is no number")
    return np.frombuffer(value if isinstance(value, bytes) else value.encode("latin1"), dtype)[0]


def _array(kind: object, shape: tuple[int, ...], dtype: object) -> np.ndarray[Any, Any]:
    """Stand in for numpy's `_reconstruct`: an empty array, filled by its state."""
    if kind != _NDARRAY:
        raise pickle.UnpicklingError(f"array of type {kind}")
    return np.ndarray((0,), "b")


def _from_buffer(buffer: object, dtype: object, shape: tuple[int, ...], order: str, *_: object) -> Any:
    """Stand in for numpy's `_frombuffer`, by which protocol 5 writes arrays."""
    if not isinstance(buffer, bytes | bytearray) or not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError("an array that is not of numbers")
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order="F" if order == "F" else "C")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
    **{(module, "bytes"): _no_bytes for module in ("__builtin__", "builtins")},
    **{(module, "_reconstruct"): _array for module in _MULTIARRAY},
    **{(module, "scalar"): _scalar for module in _MULTIARRAY},
    **{(module, "_frombuffer"): _from_buffer for module in ("numpy.core.numeric", "numpy._core.numeric")},
}


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that knows numpy arrays and otherwise builds containers, texts and numbers only."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def read_plain_pickle(path: str | Path) -> Any:
    """Read a pickle of dictionaries, lists, texts, numbers and numpy arrays.

    Args:
        path: the file, also one written by Python 2.

    Raises:
        LandmarkRetrievalError: the file is missing, damaged, or holds anything else.
    """
    try:
        with Path(path).open("rb") as file:
            return _PlainUnpickler(file, encoding="latin1").load()
    except FileNotFoundError:
        raise LandmarkRetrievalError(f"{path}: no such file; check the path") from None
    except Exception as error:  # damaged pickles raise many types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise LandmarkRetrievalError(
            f"{path}: refused, as it is damaged or holds more than plain data ({reason}); get the file again "
            "from its publisher"
        ) from None
