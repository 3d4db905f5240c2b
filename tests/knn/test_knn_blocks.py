"""Reading blocks of descriptors, digests of their content, and matrices that travel between processes."""

import pickle

import numpy as np
import pytest
from knn_reference import descriptors

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn.blocks import READ_BYTES, PortableMatrix, Reader, content_digest, release


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / "matrix.npy", descriptors(1, 500, 40).astype(np.float16))
    return np.load(tmp_path / "matrix.npy", mmap_mode="r")


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_without_descriptor_are_left_out(threads):
    matrix = descriptors(2, 2000, 6)
    before = matrix.tobytes()
    for source in (matrix, matrix.astype(np.float64)):
        reader = Reader(source, "rows", "float32", threads)
        block = reader.read(100, 1900, drop_empty=True)
        expected = 100 + np.flatnonzero(matrix[100:1900].any(axis=1))
        np.testing.assert_array_equal(block.rows, expected)
        np.testing.assert_array_equal(block.matrix, matrix[expected])
        np.testing.assert_allclose(block.norms, 1, rtol=1e-6)
        assert len(block) == len(expected)
        whole = reader.read(100, 1900)
        assert len(whole) == 1800 and (whole.norms == 0).sum() == 1800 - len(expected)
    assert matrix.tobytes() == before


def test_values_are_rounded_to_the_storage():
    matrix = descriptors(3, 50)
    block = Reader(matrix, "rows", "float16", 1).read(0, 50)
    np.testing.assert_array_equal(block.matrix, matrix.astype(np.float16).astype(np.float32))


def test_bad_rows_are_numbered_in_the_whole_matrix():
    matrix = descriptors(4, 50)
    matrix[7, 0] = np.nan
    with pytest.raises(LandmarkRetrievalError, match=r"^part: row 1007 "):
        Reader(matrix, "part", "float32", 1, first_row=1000).read(5, 50)


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
