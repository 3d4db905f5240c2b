"""The forward pass of a network, and the choice of its arithmetic on a device that is slow at first."""

import numpy as np
import pytest
import torch
from torch import nn

from landmark_retrieval.descriptors.forward import TRIAL_BATCHES, ArithmeticChoice, Forward

CPU = torch.device("cpu")


class Device:
    """Two ways to compute with a clock of their own: the second is dear when a shape is new, cheap later."""

    def __init__(self, prompt=0.010, later=0.004, new=1.0):
        self.now, self.costs, self.prepared = 0.0, (prompt, later, new), set()
        self.calls = []

    def prompt(self, images):
        self.now += self.costs[0]
        self.calls.append("prompt")
        return images

    def later(self, images):
        self.now += self.costs[1] + (self.costs[2] if images.shape not in self.prepared else 0)
        self.prepared.add(images.shape)
        self.calls.append("later")
        return images

    def choice(self):
        return ArithmeticChoice(self.prompt, self.later, lambda: None, lambda: self.now)


def images(height=2):
    return torch.zeros(1, 3, height, 2)


def test_few_batches_of_many_shapes_never_pay_for_a_new_shape():
    device = Device()
    choice = device.choice()
    for height in range(1, 30):
        for _ in range(TRIAL_BATCHES):
            choice(images(height))
    assert set(device.calls) == {"prompt"}


@pytest.mark.parametrize("batches", [20, 165, 170, 1000, 5000])
def test_no_number_of_batches_takes_much_more_than_twice_the_better_way(batches):
    device = Device()
    choice = device.choice()
    for _ in range(batches):
        choice(images())
    best = min(0.010 * batches, 1.0 + 0.004 * batches)
    trial = 1.0 + 0.010 + 2 * 0.004
    assert device.now <= 2 * best + trial
    assert (device.calls[-1] == "later") == (batches > 167)  # 0.006 s a batch saved, 1 s to start


def test_a_second_way_that_is_no_faster_is_never_taken():
    device = Device(later=0.010)
    choice = device.choice()
    for _ in range(500):
        choice(images())
    assert device.calls.count("later") == 2, "measured, once new and once known"


def test_what_is_measured_on_one_shape_holds_for_others():
    device = Device()
    choice = device.choice()
    for _ in range(200):
        choice(images())
    measured = device.calls.count("later")
    for _ in range(200):
        choice(images(4))  # twice the pixels: the gain is counted by pixels
    assert device.calls.count("later") - measured > 100
    with torch.inference_mode():
        assert choice(images(7)).shape == (1, 3, 7, 2)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_precision_on_a_cpu(precision, dtype):
    network = nn.Conv2d(3, 4, 3).eval()
    with torch.inference_mode():
        features = Forward(network, precision, CPU)(torch.rand(2, 3, 8, 8))
    assert features.dtype == dtype and features.shape == (2, 4, 6, 6)


def test_auto_is_the_network_itself_on_a_cpu():
    network, pixels = nn.Conv2d(3, 4, 3).eval(), torch.rand(2, 3, 8, 8)
    with torch.inference_mode():
        np.testing.assert_array_equal(Forward(network, "auto", CPU)(pixels).numpy(), network(pixels).numpy())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_both_arithmetics_of_a_gpu_agree():
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3)).eval().cuda()
    forward, pixels = Forward(network, "auto", torch.device("cuda")), torch.rand(2, 3, 32, 32).cuda()
    with torch.inference_mode():
        expected = network.double()(pixels.double()).cpu().numpy()
        network.float()
        for way in (forward._whole, forward._half):
            np.testing.assert_allclose(way(pixels).float().cpu().numpy(), expected, atol=5e-3)
