"""The exercises of notebook 04."""

import math

import torch

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, call, close

WILSON = '''
def wilson(k, n, z=1.96):
    """The Wilson interval of a rate of k in n."""
    p = k / n
    middle = p + z**2 / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)
'''

NOISY = '''
def noisy(f, x, xi):
    """The value of f(x), with the gradient of f plus xi."""
    return f(x) + (xi * (x - x.detach())).sum()
'''


def _wilson(function: object) -> str:
    z = 1.96
    for k, n in [(25, 50), (0, 50), (50, 50), (7, 20)]:
        p = k / n
        root = math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low, high = ((p + z * z / (2 * n) + sign * z * root) / (1 + z * z / n) for sign in (-1, 1))
        naive = z * math.sqrt(p * (1 - p) / n)
        got = call(function, k, n)
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong(
                f"the answer of your function is two numbers, (low, high); for k = {k}, n = {n} it gave {got!r}"
            )
        if close(got, (low, high)):
            continue
        if close(got, (100 * low, 100 * high)):
            raise Wrong("that is in per cent; return shares between 0 and 1")
        if close(got, (p - naive, p + naive)):
            raise Wrong(
                "that is the usual p ± z·√(p(1−p)/n). For k = 0 it has length 0, as if 50 failures proved that all fail; "
                "the Wilson interval has z²/2n and z²/4n² in it, and a denominator"
            )
        if close(got, (high, low)):
            raise Wrong("the two ends are right, but the lower one comes first")
        if close(got, (low * (1 + z * z / n), high * (1 + z * z / n))):
            raise Wrong("the denominator 1 + z²/n is missing")
        raise Wrong(f"for k = {k}, n = {n} it gave {got!r}, but the interval is ({low:.4f}, {high:.4f})")
    return "0 of 50 gives (0, 0.07): a method that never won may still win once in fourteen."


def _noisy(function: object) -> str:
    def bowl(x: torch.Tensor) -> torch.Tensor:
        return (x.square() * x.new_tensor([1.0, 3.0])).sum()

    xi = torch.tensor([0.5, -2.0], dtype=torch.float64)
    x = torch.tensor([2.0, -1.0], dtype=torch.float64)
    clean = torch.tensor([4.0, -6.0], dtype=torch.float64)
    value, grad = call(lambda: _value_and_gradient(function, bowl, x, xi))
    if close(value, 7.0) and close(grad, clean + xi):
        return "the term is zero in value, for x − x.detach() = 0, and ξ in gradient, for the second x is a constant."
    if close(grad, clean + xi) and close(value, 7.0 + float(xi.dot(x))):
        raise Wrong(
            "the gradient is right, but the value is f(x) + ξᵀx: that is the tilted loss. Take x.detach() off x"
        )
    if close(grad, clean):
        raise Wrong("the gradient is that of f, without ξ: what you added is a constant for autograd")
    if close(grad, clean - xi):
        raise Wrong("the gradient is ∇f − ξ: the sign is wrong")
    raise Wrong(f"at x = (2, −1) with f = x² + 3y², ξ = (0.5, −2) the value is 7 and the gradient (4.5, −8); "
                f"got {value:g} and {tuple(grad.tolist())}")  # fmt: skip


def _value_and_gradient(function: object, f: object, x: torch.Tensor, xi: torch.Tensor) -> tuple:
    leaf = x.clone().requires_grad_()
    value = function(f, leaf, xi.clone())
    if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.requires_grad:
        raise TypeError(f"a loss is a tensor of one element that depends on x; got {value!r}")
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    return float(value.detach()), grad


EXERCISES = (
    Exercise(
        "04.1",
        Number(
            0.002,
            "2 / 1,000. Along the steepest axis x becomes (1 − 1000 α) x, which grows when 1000 α > 2.",
            [
                (
                    0.001,
                    "with 1/1,000 the steepest axis is solved in one step: that is the best rate for it, not yet the limit.",
                ),
                (2.0, "that is the limit for the flat direction, of curvature 1. The steep one diverges long before."),
                (1.0, "that is the best rate for the flat direction alone. Which direction diverges first?"),
                (0.004, "too large: try x ← (1 − 1000·0.004) x = −3 x."),
            ],
        ),
        0.002,
        "0.002. Along an axis of curvature λ gradient descent does x ← (1 − αλ) x; it diverges when |1 − αλ| > 1, that is "
        "α > 2/λ, and the largest λ decides: 2/1000. The flat direction then shrinks by 0.2 % a step.",
        ["What does one step do to x along an axis of curvature λ?", "|1 − α·1000| > 1 when …"],
    ),
    Exercise(
        "04.2",
        Choice(
            "b",
            "L-BFGS is a local method with a guard: it goes down, to the minimum that is near.",
            {
                "a": "a longer history makes it better at reaching this minimum, not at leaving it.",
                "c": "it has none to tune: the line search finds the step, and it takes lower points only.",
            },
        ),
        "b",
        "(b). Every accepted step is lower than the last, so that out of a dip, over its rim, no way leads that starts near its bottom.",
        ["What does a line search do with a point that is higher?", "To leave a dip one must first go up."],
    ),
    Exercise(
        "04.3",
        _wilson,
        "wilson",
        WILSON,
        [
            "First p = k / n; then the root; then both ends over 1 + z²/n.",
            "`math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))`",
        ],
        code=True,
    ),
    Exercise(
        "04.4",
        Choice(
            "c",
            "the gradient of a sum over rows is each row's own, and Adam's update is element by element.",
            {
                "a": "it flattens any tensor; it would run, and minimise the sum as one problem of 100 variables.",
                "b": "the gradient of the sum with respect to one row is that row's own gradient: nothing changes there.",
            },
        ),
        "c",
        "(c). L-BFGS would build one curvature model of all starts together and take one step length for all of them.",
        [
            "What is computed from more than one number at a time in Adam? And in L-BFGS?",
            "Think of sᵀy and of the line search.",
        ],
    ),
    Exercise(
        "04.5",
        Number(
            (5.157 / 10) ** 2,
            "(5.157/10)² = 0.266. Look for the methods that do clearly better in the next figure, if there are any.",
            [
                (5.157 / 10, "that is the share for one coordinate; both must be on the left."),
                (0.25, "the ridge is not at 0: the left side is a little longer."),
                ((4.843 / 10) ** 2, "that is the right-hand side of the ridge; the deep hollow is on the left."),
                (
                    1 - (4.843 / 10) ** 2,
                    "that is the chance that at least one coordinate is on the left; it takes both.",
                ),
                (26.59, "a probability lies between 0 and 1: divide by 100."),
            ],
        ),
        (5.157 / 10) ** 2,
        "From −5 to 0.157 is 5.157 of 10. The coordinates are independent: 0.5157² = 0.266.",
        ["How long is the piece of [−5, 5] to the left of the ridge?", "Both coordinates must lie there."],
    ),
    Exercise(
        "04.6",
        Number(
            1 - 0.9**6,
            "1 − 0.9⁶ = 0.47. At equal cost, starting again beats starting well, on this function.",
            [
                (0.9**6, "that is the probability that all six fail."),
                (0.6, "probabilities of several tries do not add up: with twelve tries that would be more than 1."),
                (0.1**6, "that is the probability that all six succeed."),
                (0.1, "that is one try; there are six."),
                (46.86, "a probability lies between 0 and 1: divide by 100."),
            ],
        ),
        1 - 0.9**6,
        "1 − (1 − 0.1)⁶ = 0.47: one minus the probability that all six fail.",
        ["What is the probability that one try fails? And that all six do?", "1 − 0.9 ** 6"],
    ),
    Exercise(
        "04.7",
        _noisy,
        "noisy",
        NOISY,
        [
            "You need a term that is zero but has the gradient ξ.",
            "`x - x.detach()` is zero, and its derivative is one.",
        ],
        code=True,
    ),
    Exercise(
        "04.8",
        Choice(
            "a",
            "a bad direction costs evaluations, but a higher point is never accepted while the loss tells the truth.",
            {
                "b": "differences of noisy gradients make the history worse, not better.",
                "c": "so it has for Adam, which does go up: what counts is who looks at the loss.",
            },
        ),
        "a",
        "(a). The line search compares values of f, and these are exact. With a noisy loss this guard is gone.",
        [
            "What of f does the line search see without noise?",
            "Compare the two ways of noise: which of them leaves the loss exact?",
        ],
    ),
)
