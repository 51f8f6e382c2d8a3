"""Two nets of less than 200 parameters whose curvature is known: a linear one in closed form, a tanh one exactly.

Their parameters are one vector x, (..., d), so that they are functions like the others here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fuse_lib.problems.landscape import Landscape, hessian, plain, random_rotation
from fuse_lib.problems.problem import check_number, check_whole

_NOCEDAL = "https://doi.org/10.1007/978-0-387-40065-5"  # section 10.2: the Hessian of a sum of squares


def linear_net(width: int = 5, condition: float = 30.0, seed: int = 0) -> Landscape:
    """Two linear layers that learn a matrix: f = ½ ‖W₂W₁ − A‖², W₁ and W₂ (n, n), d = 2n² parameters.

    A = UΣVᵀ has singular values σ from 1/condition to 1. Known of it (with whitened inputs it is the loss of a deep
    linear net; Saxe, McClelland, Ganguli 2014, and Baldi, Hornik 1989):

    - every minimum is global, of value 0, and they form a surface; listed is the balanced one, W₂ = UΣ^½, W₁ = Σ^½Vᵀ,
      with the n² eigenvalues σ_i + σ_j and n² zeros;
    - 0 is a saddle of value ½ ‖σ‖² with the eigenvalues ±σ_i, n of each.

    `spectrum` holds at these two points only, and raises elsewhere. The standard start is near the saddle: entries
    normal of size 0.01, as small initial weights are.

    Args:
        width: n, 1 … 9. condition: σ₁/σ_n ≥ 1. seed: of U, V and the start.

    >>> f = linear_net(width=2, condition=4.0)
    >>> f.spectrum(f.at("saddle")).tolist()
    [-1.0, -1.0, -0.25, -0.25, 0.25, 0.25, 1.0, 1.0]
    >>> f.spectrum(f.at("minimum")).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.5, 1.25, 1.25, 2.0]
    """
    check_whole("width", width, 1, 9)
    check_number("condition", condition, at_least=1.0)
    n, dim = width, 2 * width * width
    sigma = torch.tensor([float(condition) ** (-i / max(n - 1, 1)) for i in range(n)], dtype=torch.float64)
    U, V = random_rotation(n, seed), random_rotation(n, seed + 10_000)
    A = (U * sigma) @ V.T
    balanced = torch.cat([(sigma.sqrt()[:, None] * V.T).reshape(-1), (U * sigma.sqrt()).reshape(-1)])
    start = 0.01 * torch.randn(dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    def function(x: Tensor) -> Tensor:
        first, second = (part.reshape(*x.shape[:-1], n, n) for part in x.split(n * n, dim=-1))
        return 0.5 * (second @ first - A.to(x)).square().sum((-2, -1))

    def spectrum(x: Tensor) -> Tensor:
        if not x.any():
            values = torch.cat([sigma, -sigma]).repeat_interleave(n)
        elif torch.allclose(x, balanced.to(x)):
            values = torch.cat([torch.zeros(n * n, dtype=sigma.dtype), (sigma[:, None] + sigma).reshape(-1)])
        else:
            raise ValueError("x: got a point where no formula is known; allowed is 'saddle' or 'minimum' of `points`")
        return values.sort().values.to(x)

    return Landscape(
        name=f"linear net, {dim} parameters",
        function=function,
        formula=r"\tfrac12 \|W_2 W_1 - A\|^2",
        domain=((-1.5, 1.5),) * dim,
        start=plain(start),
        minima=(plain(balanced),),
        least=0.0,
        reference="https://arxiv.org/abs/1312.6120",
        spectrum=spectrum,
        points={"saddle": (0.0,) * dim, "minimum": plain(balanced)},
        rotation=torch.eye(dim, dtype=torch.float64),
    )


class TanhNet:
    """The rows behind `tanh_net`: x ↦ wᵀtanh(Wz + b) + c for inputs z, and the mean squared error on some rows.

    Attributes:
        inputs: (rows, inputs) float64. targets: (rows,). shapes: of W, b, w, c. teacher: (d,), the known minimum.
    """

    def __init__(self, inputs: int, hidden: int, rows: int, residual: float, seed: int) -> None:
        self.shapes = ((hidden, inputs), (hidden,), (hidden,), (1,))
        self.dim = hidden * (inputs + 2) + 1
        draw = torch.Generator().manual_seed(seed)
        self.inputs = torch.randn(rows, inputs, dtype=torch.float64, generator=draw)
        self.teacher = torch.randn(self.dim, dtype=torch.float64, generator=draw)
        off = torch.randn(rows, dtype=torch.float64, generator=draw)
        jacobian = torch.func.jacrev(lambda x: self.outputs(x, self.inputs))(self.teacher)
        basis = torch.linalg.qr(jacobian)[0]
        off = off - basis @ (basis.T @ off)  # Jᵀr = 0: the gradient vanishes at the teacher
        self.targets = self.outputs(self.teacher, self.inputs) + residual * off / off.square().mean().sqrt()

    def outputs(self, x: Tensor, z: Tensor) -> Tensor:
        """(..., d) and (..., b, inputs) → (..., b)."""
        sizes = [torch.Size(shape).numel() for shape in self.shapes]
        parts = [p.reshape(*x.shape[:-1], *s) for p, s in zip(x.split(sizes, -1), self.shapes, strict=True)]
        W, b, w, c = parts
        return (torch.tanh(z @ W.mT + b.unsqueeze(-2)) @ w.unsqueeze(-1)).squeeze(-1) + c

    def loss(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """½ mean square error, (..., d) → (...), on the rows (..., b), or on all."""
        z, t = (self.inputs, self.targets) if rows is None else (self.inputs[rows], self.targets[rows])
        return 0.5 * (self.outputs(x, z.to(x)) - t.to(x)).square().mean(-1)


def tanh_net(
    inputs: int = 4, hidden: int = 4, rows: int = 512, residual: float = 0.1, seed: int = 0
) -> tuple[Landscape, TanhNet]:
    """A tanh net on `rows` random rows, with a minimum that is known exactly although it fits no row exactly.

    The targets are a teacher's outputs plus a residual r with Jᵀr = 0, J the teacher's Jacobian: so ∇f vanishes at
    the teacher, f = ½ residual² there, and with H_k the Hessian of output k

        ∇²f = JᵀJ/rows + Σ_k r_k H_k/rows .

    `spectrum` is that of this sum, exactly, at any x. It is positive definite at the teacher; a lower minimum elsewhere
    is not excluded.

    Args:
        inputs, hidden: at least 1, so that d = hidden · (inputs + 2) + 1 < 200. rows: more than d. residual: ≥ 0, its
            root mean square. seed: of rows, teacher, residual and start.

    Returns: the landscape over all rows, and the rows, for minibatches: `net.loss(x, rows)`.

    Raises:
        ValueError: an argument that is not allowed; or a residual so large that this seed's teacher is a saddle.

    >>> f, net = tanh_net()
    >>> f.dim, round(f.least, 6), bool(f.spectrum(f.at("minimum"))[0] > 0)
    (25, 0.005, True)
    """
    check_whole("inputs", inputs, 1, 20)
    check_whole("hidden", hidden, 1, 198 // (inputs + 2) if isinstance(inputs, int) else 1)
    check_whole("rows", rows, hidden * (inputs + 2) + 2, 100_000)
    check_number("residual", residual)
    net = TanhNet(inputs, hidden, rows, residual, seed)
    start = 0.5 * torch.randn(net.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))

    def spectrum(x: Tensor) -> Tensor:
        z, r = net.inputs.to(x), net.outputs(x, net.inputs.to(x)) - net.targets.to(x)
        jacobian = torch.func.jacrev(lambda v: net.outputs(v, z))(x)
        second = hessian(lambda v: (r * net.outputs(v, z)).sum(), x)
        return torch.linalg.eigvalsh((jacobian.T @ jacobian + second) / rows)

    if not spectrum(net.teacher)[0] > 0:
        raise ValueError(
            f"residual: got {residual!r}, with which the teacher of seed {seed} is a saddle; allowed is a smaller one, "
            "or another seed"
        )
    f = Landscape(
        name=f"tanh net, {net.dim} parameters",
        function=net.loss,
        formula=r"\tfrac12\,\mathrm{mean}_k\,(w^\top\tanh(Wz_k+b)+c-t_k)^2",
        domain=((-3.0, 3.0),) * net.dim,
        start=plain(start),
        minima=(plain(net.teacher),),
        least=0.5 * residual**2,
        reference=_NOCEDAL,
        spectrum=spectrum,
        points={"minimum": plain(net.teacher)},
        rotation=torch.eye(net.dim, dtype=torch.float64),
    )
    return f, net
