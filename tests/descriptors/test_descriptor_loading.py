import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from landmark_retrieval.descriptors import GlobalDescriptorConfig
from landmark_retrieval.descriptors.loading import drawn_ahead, in_background, in_windows, loader_threads


class Calls:
    """A function that remembers what it was called with, and with 3 fails."""

    def __init__(self):
        self.seen, self.lock = [], threading.Lock()

    def __call__(self, item):
        with self.lock:
            self.seen.append(item)
        time.sleep(0.002 * (item % 3))  # the threads end in another order than they begin
        if item == 3:
            raise KeyError(item)
        return 10 * item


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.mark.parametrize("way", [in_windows, in_background])
@pytest.mark.parametrize("ahead", [1, 4, 100])
def test_results_come_in_order(pool, way, ahead):
    items = list(range(10, 40))
    assert list(way(pool, Calls(), items, ahead)) == [10 * item for item in items]
    assert list(way(pool, Calls(), [], ahead)) == []


@pytest.mark.parametrize("way", [in_windows, in_background])
def test_errors_come_through(pool, way):
    with pytest.raises(KeyError):
        list(way(pool, Calls(), range(9), 2))


@pytest.mark.parametrize("way", [in_windows, in_background])
def test_no_more_than_asked_for_is_read_ahead(pool, way):
    function = Calls()
    results = way(pool, function, range(10, 40), 5)
    for taken in range(1, 11):
        next(results)
        assert len(function.seen) <= taken + 5


def test_in_windows_rests_while_the_caller_works(pool):
    function = Calls()
    for count, _ in enumerate(in_windows(pool, function, range(10, 22), 4)):
        before = len(function.seen)
        assert before == 4 * (count // 4 + 1)
        time.sleep(0.01)
        assert len(function.seen) == before


@pytest.mark.usefixtures("three_threads")
def test_the_readers_of_a_network_on_the_cpu_are_as_many_as_its_threads():
    assert loader_threads(GlobalDescriptorConfig(device="cpu")) == torch.get_num_threads() == 3


def test_an_iterator_is_drawn_ahead_in_order_and_no_further():
    drawn = []

    def items():
        for number in range(20):
            drawn.append(number)
            yield number

    results = drawn_ahead(items(), 3)
    for taken in range(20):
        assert next(results) == taken
        time.sleep(0.001)
        assert len(drawn) <= taken + 4
    assert list(results) == []
    assert list(drawn_ahead(iter([]), 3)) == []


def test_errors_of_an_iterator_that_is_drawn_ahead_come_through():
    def items():
        yield 1
        raise KeyError("lost")

    results = drawn_ahead(items(), 3)
    assert next(results) == 1
    with pytest.raises(KeyError, match="lost"):
        next(results)
