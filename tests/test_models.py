"""fuse_lib.models: sizes, shapes, seeds."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fuse_lib import data, models
from fuse_lib.models import build, num_parameters

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 16, 16)]


@pytest.mark.parametrize(
    ("name", "in_shape", "options", "count"),
    [
        ("linear", (1, 28, 28), {}, 7_850),
        ("sigmoid-linear", (1, 28, 28), {}, 7_850),
        ("mlp", (1, 28, 28), {}, 784 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10),
        ("mlp", (1, 28, 28), {"hidden": []}, 7_850),
        ("cnn", (1, 32, 32), {}, 61_706),  # LeNet-5 on 32x32, as the textbooks count it
        ("cnn", (1, 28, 28), {}, 44_426),
        ("densenet", (3, 32, 32), {}, 4_682),
        ("densenet", (3, 32, 32), {"depth": 5, "growth": 32}, 4_682),
        ("densenet", (3, 32, 32), {"depth": 22}, 1_121_162),
        ("densenet", (3, 32, 32), {"layers": 6}, 1_121_162),
        ("densenet", (3, 32, 32), {"depth": 22, "layers": 0}, 4_682),
        ("densenet", (3, 32, 32), {"pool_first": False}, 4_682),
    ],
)
def test_number_of_parameters(name, in_shape, options, count):
    assert num_parameters(build(name, in_shape, **options)) == count


def test_only_trainable_parameters_are_counted():
    model = build("linear")
    model[1].bias.requires_grad_(False)
    assert num_parameters(model) == 7_840


@pytest.mark.parametrize("in_shape", SHAPES)
@pytest.mark.parametrize("name", models.MODELS)
def test_forward_and_backward(name, in_shape):
    model = build(name, in_shape, classes=7, seed=0)
    scores = model(torch.rand(3, *in_shape))
    assert scores.shape == (3, 7)
    F.cross_entropy(scores, torch.tensor([0, 3, 6])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("depth", "layers"), [(4, 0), (5, 0), (6, 0), (7, 1), (13, 3), (22, 6)]
)  # int((depth − 4)/3) in each of three blocks
def test_densenet_depth(depth, layers):
    model = build("densenet", (3, 8, 8), depth=depth, growth=4)
    assert sum(isinstance(m, models.DenseLayer) for m in model) == 3 * layers
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 10)


def test_a_dense_layer_keeps_its_input():
    layer, x = models.DenseLayer(5, growth=2), torch.rand(3, 5, 4, 4)
    y = layer(x)
    assert y.shape == (3, 7, 4, 4)
    assert torch.equal(y[:, :5], x)


def test_densenet_reduction_and_images_of_other_sizes():
    assert build("densenet", (1, 28, 28), reduction=1.0)[4].out_channels == 64
    assert build("densenet", (1, 9, 13))(torch.zeros(2, 1, 9, 13)).shape == (2, 10)


@pytest.mark.parametrize(("in_shape", "layers"), [((3, 32, 32), 0), ((3, 32, 32), 2), ((1, 9, 13), 0)])
@pytest.mark.parametrize("training", [True, False])
def test_pooling_and_the_1x1_convolution_commute(in_shape, layers, training):
    """pool_first is the same function: outputs, gradients and running statistics, in float64."""
    found = []
    for pool_first in (True, False):
        model = build("densenet", in_shape, seed=0, layers=layers, growth=6, pool_first=pool_first).double()
        kinds = [type(m) for m in model if isinstance(m, nn.AvgPool2d | nn.Conv2d)]
        assert kinds[1:3] == ([nn.AvgPool2d, nn.Conv2d] if pool_first else [nn.Conv2d, nn.AvgPool2d])
        x = torch.rand(4, *in_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        scores = model.train(training)(x)
        F.cross_entropy(scores, torch.arange(4)).backward()
        found.append([scores, *(p.grad for p in model.parameters()), *model.buffers()])
    assert len(found[0]) == len(found[1])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_cnn_takes_small_images_with_padding():
    assert build("cnn", (1, 8, 8), padding=2)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(ValueError, match=r"in_shape: got \(1, 15, 28\); allowed is H and W ≥ 16"):
        build("cnn", (1, 15, 28))


def test_mlp_takes_other_widths_and_activations():
    model = build("mlp", hidden=(5,), activation=nn.Tanh)
    assert [type(layer) for layer in model] == [nn.Flatten, nn.Linear, nn.Tanh, nn.Linear]
    assert model[1].out_features == 5


def test_the_floor_of_sigmoid_linear():
    """However large its weights, its cross-entropy stays above log(1 + 9/e); that of linear does not."""
    y = torch.arange(10)
    x = F.one_hot(y).float().reshape(10, 1, 1, 10)  # each class its own pixel
    losses = {}
    for name in ("linear", "sigmoid-linear"):
        model = build(name, (1, 1, 10))
        with torch.no_grad():
            model[1].weight.copy_(200 * torch.eye(10) - 100)
            model[1].bias.zero_()
        losses[name] = F.cross_entropy(model(x), y).item()
    assert losses["linear"] < 1e-6
    assert losses["sigmoid-linear"] == pytest.approx(math.log(1 + 9 / math.e), abs=1e-6)


@pytest.mark.parametrize("name", models.MODELS)
def test_a_seed_decides_the_start_and_leaves_the_random_state(name):
    before = torch.get_rng_state()
    first = build(name, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again, other = build(name, seed=3), build(name, seed=4)
    pairs = list(zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_seed_leaves_the_devices_random_state():
    before = torch.cuda.get_rng_state()
    build("mlp", seed=3)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_without_a_seed_the_random_state_decides():
    torch.manual_seed(1)
    first = build("mlp")
    second = build("mlp")
    torch.manual_seed(1)
    again = build("mlp")
    assert torch.equal(first[1].weight, again[1].weight)
    assert not torch.equal(first[1].weight, second[1].weight)


def test_the_start_is_the_same_whatever_the_default_device():
    torch.set_default_device("meta")
    try:
        model = build("mlp", seed=3)
    finally:
        torch.set_default_device(None)
    assert torch.equal(model[1].weight, build("mlp", seed=3)[1].weight)


def test_an_error_leaves_the_random_state():
    before = torch.get_rng_state()
    with pytest.raises(ValueError):
        build("cnn", (1, 8, 8), seed=3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"name": "resnet"}, "name: got 'resnet'; allowed is one of linear, sigmoid-linear, mlp, cnn, densenet"),
        ({"name": "mlp", "widht": 3}, "options: got 'widht'; allowed is hidden, activation for 'mlp'"),
        ({"name": "linear", "depth": 3}, "options: got 'depth'; allowed is none for 'linear'"),
        ({"name": "mlp", "hidden": (64, 0)}, "hidden: got"),
        ({"name": "mlp", "hidden": 64}, "hidden: got 64"),
        ({"name": "cnn", "padding": -1}, "padding: got -1"),
        ({"name": "densenet", "depth": 3}, "depth: got 3; allowed is an integer ≥ 4"),
        ({"name": "densenet", "growth": 0}, "growth: got 0"),
        ({"name": "densenet", "layers": -1}, "layers: got -1; allowed is None or an integer ≥ 0"),
        ({"name": "densenet", "pool_first": 1}, "pool_first: got 1; allowed is True or False"),
        ({"name": "densenet", "growth": 1, "reduction": 0.1}, "reduction: got 0.1"),
        ({"name": "densenet", "reduction": 1.5}, "reduction: got 1.5"),
        ({"name": "densenet", "in_shape": (1, 3, 28)}, "in_shape: got"),
        ({"name": "linear", "in_shape": (28, 28)}, "in_shape: got"),
        ({"name": "linear", "in_shape": (0, 28, 28)}, "in_shape: got"),
        ({"name": "linear", "classes": 0}, "classes: got 0"),
        ({"name": "linear", "seed": "1"}, "seed: got '1'"),
        ({"name": "linear", "seed": True}, "seed: got True"),
    ],
)
def test_what_is_not_allowed(arguments, match):
    with pytest.raises(ValueError, match=match):
        build(**arguments)


def test_models_fit_the_bundled_sets():
    for name, options in (("linear", {}), ("mlp", {}), ("cnn", {"padding": 2}), ("densenet", {})):
        for d in (data.load().take(8), data.load("digits").take(8)):
            model = build(name, d.in_shape, len(d.classes), **options)
            assert F.cross_entropy(model(d.x_train), d.y_train).isfinite()
