"""The models of the course, by name. `build("mlp", in_shape=data.in_shape, classes=len(data.classes), seed=0)`.

All take images (N, C, H, W) and return one score per class, (N, classes), for `F.cross_entropy`:

    linear          softmax regression: the convex one. Also called logistic regression, of many classes
    sigmoid-linear  the same through a sigmoid, as FUSE's reference code has it; its loss has a floor
    mlp             fully connected, 784-64-32-10, ReLU
    cnn             after LeNet: two 5x5 convolutions, three linear layers
    densenet        each layer sees the outputs of all layers before it in its block

The sizes are those of the experiments in the FUSE paper's reference code, so far as it tells them.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, int, int]  # (C, H, W) of one image


def build(name: str, in_shape: Shape = (1, 28, 28), classes: int = 10, seed: int | None = None, **options) -> nn.Module:
    """The model of that name, in float32 on the CPU; move it with `.to(device)`.

    seed: decides the initial parameters, the same on every device, and leaves torch's own random
        state as it was. None: they come from that state, as everywhere in torch.
    options: what the model's own function takes: mlp: hidden, activation; cnn: padding;
        densenet: depth, growth, reduction, layers, pool_first.

    Raises:
        ValueError: an unknown name or option, images too small, or a value that is not allowed.

    >>> model = build("mlp", seed=0)
    >>> model(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    >>> num_parameters(model)
    52650
    >>> build("densenet", in_shape=(3, 32, 32), depth=10, growth=12)(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 10])
    """
    if name not in MODELS:
        raise ValueError(f"name: got {name!r}; allowed is one of {', '.join(MODELS)}")
    make = MODELS[name]
    allowed = list(inspect.signature(make).parameters)[2:]  # after in_shape and classes
    for option in options:
        _check(option in allowed, "options", option, f"{', '.join(allowed) or 'none'} for {name!r}")
    whole = isinstance(in_shape, Sequence) and len(in_shape) == 3 and all(map(_positive, in_shape))
    _check(whole, "in_shape", in_shape, "three integers ≥ 1, (C, H, W)")
    _check(_positive(classes), "classes", classes, "an integer ≥ 1")
    _check(seed is None or (isinstance(seed, int) and not isinstance(seed, bool)), "seed", seed, "an integer or None")

    with torch.device("cpu"), contextlib.ExitStack() as stack:
        if seed is not None:
            stack.enter_context(torch.random.fork_rng(devices=[]))  # puts the CPU's random state back at the end
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
        return make(tuple(in_shape), classes, **options)


def num_parameters(model: nn.Module) -> int:
    """How many numbers the optimizer sees: the trainable parameters' elements.

    >>> num_parameters(build("linear"))
    7850
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def linear(in_shape: Shape, classes: int) -> nn.Module:
    """W x + b. With cross-entropy this is softmax regression, the convex problem among these."""
    c, h, w = in_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(c * h * w, classes))


def sigmoid_linear(in_shape: Shape, classes: int) -> nn.Module:
    """σ(W x + b), which the reference code calls logistic regression and puts into cross-entropy.

    That applies the softmax to numbers in (0, 1). The best it can say is 1 for the right class and 0
    for the other nine, so the loss cannot go below log(1 + 9/e), and the problem is no longer convex:

    >>> import math
    >>> round(math.log(1 + 9 / math.e), 3)
    1.461
    """
    return nn.Sequential(*linear(in_shape, classes), nn.Sigmoid())


def mlp(
    in_shape: Shape, classes: int, hidden: Sequence[int] = (64, 32), activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Module:
    """Fully connected: C·H·W → hidden[0] → hidden[1] → … → classes, an activation after each but the last.

    activation: a module class. ReLU has kinks, where a second derivative says nothing; nn.Tanh,
        nn.Softplus or nn.GELU have none, which a quasi-Newton method may like.
    """
    _check(isinstance(hidden, Sequence) and all(map(_positive, hidden)), "hidden", hidden, "a list of integers ≥ 1")
    c, h, w = in_shape
    layers: list[nn.Module] = [nn.Flatten()]  # (N, C, H, W) → (N, C·H·W)
    for wide, narrow in itertools.pairwise([c * h * w, *hidden]):
        layers += [nn.Linear(wide, narrow), activation()]
    return nn.Sequential(*layers, nn.Linear(layers[-2].out_features if hidden else c * h * w, classes))


def cnn(in_shape: Shape, classes: int, padding: int = 0) -> nn.Module:
    """After LeNet-5: 5x5 convolutions of 6 and 16 channels, each halved by pooling, then 120-84-classes.

    The images must be 16x16 or larger; with padding=2 a convolution keeps the size, and 4x4 will do.
    """
    c, h, w = in_shape
    _check(isinstance(padding, int) and padding >= 0, "padding", padding, "an integer ≥ 0")

    def shrunk(size: int) -> int:
        for _ in range(2):
            size = (size + 2 * padding - 4) // 2  # a 5x5 convolution takes 4 off, the pooling halves
        return size

    _check(min(shrunk(h), shrunk(w)) >= 1, "in_shape", in_shape, "H and W ≥ 16, or smaller ones with padding=2")
    return nn.Sequential(  # for 28x28 images:
        nn.Conv2d(c, 6, 5, padding=padding),  # (N, 6, 24, 24)
        nn.ReLU(),
        nn.MaxPool2d(2),  # (N, 6, 12, 12)
        nn.Conv2d(6, 16, 5, padding=padding),  # (N, 16, 8, 8)
        nn.ReLU(),
        nn.MaxPool2d(2),  # (N, 16, 4, 4)
        nn.Flatten(),  # (N, 256)
        nn.Linear(16 * shrunk(h) * shrunk(w), 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )


class DenseLayer(nn.Module):
    """Batch norm, ReLU, 3x3 convolution to `growth` channels, put beside the input's channels."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv(F.relu(self.norm(x)))  # (N, growth, H, W)
        return torch.cat([x, new], dim=1)  # (N, channels + growth, H, W)


def densenet(
    in_shape: Shape,
    classes: int,
    depth: int = 5,
    growth: int = 32,
    reduction: float = 0.5,
    layers: int | None = None,
    pool_first: bool = True,
) -> nn.Module:
    """DenseNet without bottleneck (Huang et al., 2017, arXiv 1608.06993): three blocks of dense layers.

    A first convolution gives 2·growth channels; each block has int((depth − 4)/3) layers; between the
    blocks a 1x1 convolution keeps `reduction` of the channels and pooling halves the image.
    depth=5 is the reference code's setting. It gives int(1/3) = 0 layers in each block, so that nothing
    dense is left: one 3x3 convolution, two 1x1, a linear layer. depth=22 has 6 layers a block.

    layers: of each block, in the place of what depth gives; 6 makes it dense.
    pool_first: the pooling between the blocks comes before the 1x1 convolution, which then has a quarter
        of the work. Both are linear, one over pixels and one over channels, so they commute: the same
        function but for rounding. False: as it is usually written.

    Batch norm makes a row's loss depend on its batch, and evaluating it changes the running means.

    >>> num_parameters(build("densenet", in_shape=(3, 32, 32)))
    4682
    """
    c, h, w = in_shape
    _check(isinstance(depth, int) and depth >= 4, "depth", depth, "an integer ≥ 4")
    _check(_positive(growth), "growth", growth, "an integer ≥ 1")
    thinnest = int(int(2 * growth * reduction) * reduction)
    _check(0 < reduction <= 1 and thinnest >= 1, "reduction", reduction, "a number in (0, 1] that keeps a channel")
    _check(min(h, w) >= 4, "in_shape", in_shape, "H and W ≥ 4, as two poolings halve them")
    _check(layers is None or layers == 0 or _positive(layers), "layers", layers, "None or an integer ≥ 0")
    _check(isinstance(pool_first, bool), "pool_first", pool_first, "True or False")
    layers_per_block = (depth - 4) // 3 if layers is None else layers

    channels = 2 * growth
    stack: list[nn.Module] = [nn.Conv2d(c, channels, 3, padding=1, bias=False)]  # (N, 2·growth, H, W)
    for block in range(3):
        if block > 0:
            kept = int(channels * reduction)
            narrow, pool = nn.Conv2d(channels, kept, 1, bias=False), nn.AvgPool2d(2)
            stack += [nn.BatchNorm2d(channels), nn.ReLU(), *((pool, narrow) if pool_first else (narrow, pool))]
            channels = kept  # (N, kept, H/2, W/2)
        for _ in range(layers_per_block):
            stack.append(DenseLayer(channels, growth))
            channels += growth
    stack += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]  # (N, channels)
    model = nn.Sequential(*stack, nn.Linear(channels, classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):  # He et al.'s, which keeps the scale through ReLU layers
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(model[-1].bias)
    return model


MODELS: dict[str, Callable[..., nn.Module]] = {
    "linear": linear,
    "sigmoid-linear": sigmoid_linear,
    "mlp": mlp,
    "cnn": cnn,
    "densenet": densenet,
}


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check(ok: bool, name: str, got: object, allowed: str) -> None:
    if not ok:
        raise ValueError(f"{name}: got {got!r}; allowed is {allowed}")
