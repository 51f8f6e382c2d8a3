"""What is minimised: test functions whose minima are known, and noise for their gradients.

    from fuse_lib import problems
    f = problems.get("rosenbrock")          # or problems.rosenbrock(dim=5), problems.valley(condition=1e4)
    f(f.x0())                               # the value at the standard start, a 0-d tensor
    f(f.sample(50, seed=0))                 # 50 starts at once, (50,)
    f.solved(x)                             # whether x is at a global minimum
    noisy = problems.NoisyGradient(f, sigma=0.1, seed=0)

Some have a curvature that is known: `bent_valley`, `saddle`, `plateau`, `ripples` (curvature.py), `linear_net` and
`tanh_net` (nets.py) are `Landscape`s, with the spectrum of their Hessian beside them.

They are plain functions of tensors, (..., d) → (...), of any float dtype, on any device.

>>> NAMES
('rosenbrock', 'rosenbrock-10', 'rastrigin', 'beale', 'himmelblau', 'ackley', 'styblinski-tang', 'valley')
>>> get("himmelblau").minima[0]
(3.0, 2.0)
"""

from __future__ import annotations

from fuse_lib.problems.curvature import bent_valley, plateau, ripples, saddle
from fuse_lib.problems.landscape import Landscape
from fuse_lib.problems.many_minima import ackley, rastrigin, styblinski_tang
from fuse_lib.problems.nets import TanhNet, linear_net, tanh_net
from fuse_lib.problems.noise import NoisyGradient
from fuse_lib.problems.plane import beale, himmelblau
from fuse_lib.problems.problem import Problem
from fuse_lib.problems.valleys import rosenbrock, valley

_MAKERS = {
    "rosenbrock": rosenbrock,
    "rosenbrock-10": lambda: rosenbrock(dim=10),
    "rastrigin": rastrigin,
    "beale": beale,
    "himmelblau": himmelblau,
    "ackley": ackley,
    "styblinski-tang": styblinski_tang,
    "valley": valley,
}
NAMES = tuple(_MAKERS)

__all__ = [
    "NAMES",
    "Landscape",
    "NoisyGradient",
    "Problem",
    "TanhNet",
    "ackley",
    "beale",
    "bent_valley",
    "get",
    "himmelblau",
    "linear_net",
    "plateau",
    "rastrigin",
    "ripples",
    "rosenbrock",
    "saddle",
    "styblinski_tang",
    "tanh_net",
    "valley",
]


def get(name: str) -> Problem:
    """The problem of that name.

    Raises:
        ValueError: there is none; the message lists those that there are.

    >>> get("rosenbrock-10").dim
    10
    """
    if name not in _MAKERS:
        raise ValueError(f"name: got {name!r}; allowed is one of {', '.join(map(repr, NAMES))}")
    return _MAKERS[name]()
