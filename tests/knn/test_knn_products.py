"""Matrix products on the CPU: the same up to rounding, at full precision."""

import warnings

import numpy as np
import pytest
import torch

from landmark_retrieval.knn.products import PRODUCTS, as_tensor, fastest_product, full_precision


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_read_only_rows_are_written_where_asked(name):
    random = np.random.default_rng(0)
    rows, columns = (
        random.normal(size=(5, 7)).astype(np.float32),
        random.normal(size=(11, 7)).astype(np.float32),
    )
    rows.flags.writeable = columns.flags.writeable = False
    memory = np.zeros(100, np.float32)
    PRODUCTS[name](rows, columns, memory[:55].reshape(5, 11))
    expected = rows.astype(float) @ columns.T.astype(float)
    np.testing.assert_allclose(memory[:55].reshape(5, 11), expected, rtol=1e-5, atol=1e-6)
    assert (memory[55:] == 0).all()


def test_the_fastest_is_one_of_them_and_chosen_once():
    assert fastest_product(1) in PRODUCTS.values()
    assert fastest_product(1) is fastest_product(1)


def test_read_only_memory_becomes_a_tensor_without_warning():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = as_tensor(array)
    assert tensor.data_ptr() == array.ctypes.data and tensor.tolist() == array.tolist()
    del array
    assert tensor.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_precision_is_full_and_comes_back():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(KeyError), full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
            raise KeyError
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
