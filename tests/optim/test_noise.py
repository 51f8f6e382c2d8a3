"""The rounding error of a loss: what is known at once, and what is computed when it is asked for."""

import math

import pytest
import torch

from fuse_lib.optim.noise import Noise, wanted
from fuse_lib.optim.point import Point
from fuse_lib.optim.vectors import Gradient, Vectors

EPS = 1e-7


def noise_at(x, g, f=0.0, on_host=True):
    vectors = Vectors([{"params": [torch.nn.Parameter(x.clone())]}])
    vectors.on_host = on_host
    point = Point(x, gradient=Gradient(g, None), f=f, gg=float(g.dot(g)))
    return Noise(vectors, point, EPS, float(wanted(vectors, g, x)[0]))


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e12, 1e25])
@pytest.mark.parametrize("f", [0.0, 1e3])
def test_the_bound_is_above_the_noise_and_the_noise_is_the_sum(scale, f):
    generator = torch.Generator().manual_seed(0)
    x, g = scale * torch.randn(2, 1000, generator=generator)
    exact = EPS * max(f, float((x.double() * g.double()).norm()))
    noise = noise_at(x, g, f)
    assert noise() <= noise.at_most
    assert noise() == noise_at(x, g, f, on_host=False)() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("g", [1.0, 1e-3])
def test_the_bound_holds_where_it_is_sharp(g):
    noise = noise_at(torch.ones(1), torch.full((1,), g))
    assert noise() == pytest.approx(EPS * g)
    assert noise() <= noise.at_most <= 2.1 * noise()


def test_where_the_host_would_have_to_wait_the_noise_is_known_at_once():
    noise = noise_at(torch.ones(3), torch.ones(3), on_host=False)
    assert noise.at_most == noise() == pytest.approx(EPS * math.sqrt(3))
