"""Reading blocks of descriptors, digests of their content, and matrices that travel between processes."""

import pickle

import numpy as np
import pytest
import torch
from knn_reference import descriptors

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn import matrix as matrix_module
from landmark_retrieval.knn.matrix import (
    READ_BYTES,
    PortableMatrix,
    as_tensor,
    content_digest,
    read_rows,
    release,
    row_norms,
)


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / "matrix.npy", descriptors(1, 500, 40).astype(np.float16))
    return np.load(tmp_path / "matrix.npy", mmap_mode="r")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_rows_are_rounded_and_measured(monkeypatch, dtype):
    monkeypatch.setattr(matrix_module, "READ_BYTES", 1000)
    whole = descriptors(2, 2000, 6).astype(dtype)
    before = whole.tobytes()
    for storage in (np.float32, np.float16):
        rows = read_rows(whole, 100, 1900, np.float32, storage)
        norms = row_norms(as_tensor(rows), "rows", 0).numpy()
        expected = whole[100:1900].astype(storage).astype(np.float32)
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_allclose(norms, np.linalg.norm(expected, axis=1), rtol=1e-5)
        np.testing.assert_array_equal(norms == 0, ~expected.any(axis=1))
    assert whole.tobytes() == before


def test_tiny_rows_are_no_empty_rows():
    assert (row_norms(torch.full((3, 2), 1e-30), "rows", 0) > 0).all()


def test_bad_rows_are_numbered_in_the_whole_matrix():
    matrix = descriptors(4, 50)
    matrix[7, 0] = np.nan
    with pytest.raises(LandmarkRetrievalError, match=r"^part: row 1007 "):
        row_norms(torch.from_numpy(matrix[5:]), "part", 1005)


def test_digest_sees_every_value_shape_and_type():
    wide = 1000
    matrix = np.zeros((3 * READ_BYTES // (4 * wide), wide), np.float32)
    digests = {content_digest(matrix), content_digest(matrix.astype(np.float16)), content_digest(matrix[:-1])}
    digests.add(content_digest(matrix.reshape(-1, wide // 2)))
    for row in (0, len(matrix) // 2, len(matrix) - 1):
        matrix[row, -1] = 1
        digests.add(content_digest(matrix))
        matrix[row, -1] = 0
    swapped = matrix.copy()
    swapped[0, 0] = 1
    digests.add(content_digest(swapped))
    assert len(digests) == 8


def test_digest_does_not_depend_on_where_the_values_are(mapped):
    in_memory = np.array(mapped)
    assert content_digest(mapped) == content_digest(in_memory) == content_digest(np.asfortranarray(in_memory))
    assert content_digest(mapped[3:9]) == content_digest(in_memory[3:9])
    assert content_digest(in_memory[:0]) == content_digest(mapped[:0])


@pytest.mark.parametrize("part", [slice(None), slice(0, 1), slice(123, 456), slice(499, 500)])
def test_mapped_matrices_travel_as_the_name_of_their_file(mapped, part):
    sent = pickle.dumps(PortableMatrix(mapped[part]))
    assert len(sent) < 1000
    received = pickle.loads(sent).matrix
    assert isinstance(received, np.memmap) and not received.flags.writeable
    np.testing.assert_array_equal(received, mapped[part])
    again = pickle.loads(pickle.dumps(PortableMatrix(received[0:1]))).matrix
    np.testing.assert_array_equal(again, mapped[part][0:1])


def test_other_matrices_travel_as_they_are(mapped):
    for matrix in (np.array(mapped), mapped[::2], mapped[:, :5], mapped[[4, 2]]):
        received = pickle.loads(pickle.dumps(PortableMatrix(matrix))).matrix
        np.testing.assert_array_equal(received, matrix)


def test_release_keeps_the_values_and_takes_any_array(tmp_path, mapped):
    before = mapped.tobytes()
    private = np.load(tmp_path / "matrix.npy", mmap_mode="c")
    private[0] = 7  # lives in memory only
    for matrix in (mapped, mapped[4:], private, np.array(mapped)):
        release(matrix)
    assert mapped.tobytes() == before
    assert (private[0] == 7).all()
