import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch.nn import functional

from landmark_retrieval.descriptors.pooling import RMAC, GeM, PoolingConfig, build_pooling, gem, region_grid


def features(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random(shape, dtype=np.float32))


def gem_by_loops(x, p):
    result = np.zeros(x.shape[:2])
    for b in range(x.shape[0]):
        for c in range(x.shape[1]):
            total = 0.0
            for row in x[b, c].tolist():
                for value in row:
                    total += max(value, 1e-6) ** p
            result[b, c] = (total / x[b, c].numel()) ** (1 / p)
    return result


@pytest.mark.parametrize("power", [1.0, 1.5, 3.0, 7.0])
def test_gem_equals_the_loops_of_its_formula(power):
    x = features(2, 3, 4, 5)
    np.testing.assert_allclose(gem(x, power).numpy(), gem_by_loops(x, power), rtol=1e-5)


def test_gem_goes_from_the_average_to_the_maximum():
    x = features(2, 8, 6, 6)
    torch.testing.assert_close(gem(x, torch.tensor(1.0)), x.mean((2, 3)))
    torch.testing.assert_close(gem(x, None), x.amax((2, 3)))
    assert torch.allclose(gem(x, 200.0), gem(x, None), atol=0.02)
    assert (gem(x, 2.0) <= gem(x, 3.0) + 1e-6).all()


def test_power_of_gem_is_trainable_and_its_gradient_is_right():
    module = GeM(3.0)
    x = features(1, 4, 5, 5).double()
    assert torch.autograd.gradcheck(
        lambda p: gem(x.float(), p).double(),
        module.power.detach().double().requires_grad_(),
        atol=1e-2,
        eps=1e-2,
    )
    module(x.float()).sum().backward()
    assert module.power.grad is not None and module.power.grad != 0
    assert not list(GeM(3.0, trainable=False).parameters())
    assert not list(GeM(None).parameters())


def published_grid(height, width, levels):
    """Regions of the authors' program, read from its vectorised form, centres first, in exact arithmetic."""
    side = min(width, height)
    overlaps = {}
    for m in (2, 3, 4, 5, 6, 7):
        b = Fraction(max(height, width) - side, m - 1)
        overlaps[m] = abs((side**2 - side * b) / side**2 - Fraction(2, 5))
    best = min(overlaps, key=lambda m: (overlaps[m], m))
    extra_w = best - 1 if width > height else 0
    extra_h = best - 1 if height > width else 0
    result = []
    for level in range(1, levels + 1):
        wl = math.floor(2 * side / (level + 1))
        if wl == 0:
            continue
        wl2 = math.floor(wl / 2 - 1)
        b = 0 if level + extra_w == 1 else Fraction(width - wl, level + extra_w - 1)
        xs = [math.floor(wl2 + i * b) - wl2 for i in range(level - 1 + extra_w + 1)]
        b = 0 if level + extra_h == 1 else Fraction(height - wl, level + extra_h - 1)
        ys = [math.floor(wl2 + i * b) - wl2 for i in range(level - 1 + extra_h + 1)]
        result += [(int(y), int(x), wl, wl) for y in ys for x in xs]
    return result


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 5))
def test_region_grid_is_the_published_one_and_stays_inside(height, width, levels):
    grid = region_grid(height, width, levels)
    assert [tuple(region) for region in grid] == published_grid(height, width, levels)
    for top, left, h, w in grid:
        assert top >= 0 and top + h <= height and left >= 0 and left + w <= width


def test_square_map_has_one_four_and_nine_regions():
    sizes = [region.height for region in region_grid(12, 12)]
    assert sizes == [12] + [8] * 4 + [6] * 9


def test_level_one_covers_a_long_map():
    grid = region_grid(10, 16, levels=1)
    assert {(r.left, r.left + r.width) for r in grid} == {(0, 10), (6, 16)}
    assert region_grid(10, 16) is region_grid(10, 16), "the grid is computed once"


@pytest.mark.parametrize("shape", [(9, 9), (7, 13), (14, 6), (1, 5), (1, 1)])
def test_rmac_equals_slow_loops(shape):
    x = features(2, 5, *shape)
    expected = np.zeros((2, 5))
    for b in range(2):
        for top, left, h, w in published_grid(*shape, 3):
            vector = np.array([x[b, c, top : top + h, left : left + w].max().item() for c in range(5)])
            expected[b] += vector / np.linalg.norm(vector)
    np.testing.assert_allclose(RMAC()(x).numpy(), expected, rtol=1e-5)


def test_rmac_of_a_uniform_map_is_its_value_in_every_region():
    regions = RMAC(power=2.0).regions(torch.ones(1, 3, 8, 8))
    torch.testing.assert_close(regions, torch.ones(1, 14, 3))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_a_batch_is_pooled_like_its_images(seed):
    x = features(3, 4, 6, 9, seed=seed)
    for module in (GeM(2.5), RMAC(), RMAC(power=1.0)):
        together = module.regions(x)
        alone = torch.cat([module.regions(image[None]) for image in x])
        torch.testing.assert_close(together, alone)


def test_build_pooling_follows_the_configuration():
    rmac = build_pooling(PoolingConfig(kind="rmac", power=None))
    assert isinstance(rmac, RMAC) and rmac.levels == 3 and rmac.power is None
    average = build_pooling(PoolingConfig(power=1.0), trainable=False)
    x = features(1, 2, 3, 3)
    torch.testing.assert_close(average(x), functional.avg_pool2d(x, 3)[..., 0, 0])
