"""The exercises of notebook 07."""

import torch

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, as_float, call

SPLIT = '''
def split(v, r):
    """(variance about the own mean, squared bias), both in units of ‖r‖²."""
    unit = (r**2).sum()
    variance = ((v - v.mean(dim=0)) ** 2).sum() / (len(v) - 1)
    error = ((v - r) ** 2).sum(dim=1).mean()
    return (variance / unit).item(), ((error - variance) / unit).item()
'''


def _reference(v: torch.Tensor, r: torch.Tensor) -> tuple[float, float]:
    unit, variance = r.square().sum(), v.var(dim=0).sum()
    return (variance / unit).item(), (((v - r).square().sum(1).mean() - variance) / unit).item()


def _split(function: object) -> str:
    generator = torch.Generator().manual_seed(7)
    for n, d, shift in ((5, 3, 0.0), (4, 2, 2.0), (12, 6, 0.5)):
        r = torch.randn(d, generator=generator, dtype=torch.float64)
        v = r + shift + torch.randn(n, d, generator=generator, dtype=torch.float64)
        got = call(function, v, r)
        if not (isinstance(got, tuple | list) and len(got) == 2):
            raise Wrong(f"the answer is two numbers, variance and squared bias; got {got!r}")
        variance, bias = map(as_float, got)
        right, right_bias = _reference(v, r)
        unit = r.square().sum().item()
        said = f"for n = {n}, d = {d} the variance came out as {variance:.5g}"
        if _near(variance, right * (n - 1) / n):
            raise Wrong(f"{said}, but it is {right:.5g}: divide by n − 1, not by n; one mean was fitted")
        if _near(variance, right * unit):
            raise Wrong(f"{said}, but it is {right:.5g}: divide by ‖r‖²")
        if _near(variance, right / d):
            raise Wrong(f"{said}, but it is {right:.5g}: the components' variances are added up, not averaged")
        if _near(variance, right + right_bias):
            raise Wrong(f"{said}: that is the error about r. The variance is about the mean of the v themselves")
        if not _near(variance, right):
            raise Wrong(f"{said}, but it is {right:.5g}")
        if not _near(bias, right_bias):
            plain = ((v.mean(0) - r).square().sum() / unit).item()
            why = ": ‖mean − r‖² has a share of the variance, 1/n of it, left in it" if _near(bias, plain) else ""
            raise Wrong(
                f"for n = {n}, d = {d} the squared bias came out as {bias:.5g}, but it is {right_bias:.5g}{why}"
            )
    return "error = variance + squared bias. With few vectors the estimate of the bias may even be negative."


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * (1 + abs(b))


EXERCISES = (
    Exercise(
        "07.1",
        Choice(
            "b",
            "the variance falls like 1/b, its root like 1/√b: four times the work for half the error.",
            {
                "a": "that is the variance, the mean of the squared length.",
                "c": "the errors are means of b independent ones: they get shorter.",
            },
        ),
        "b",
        "(b). E‖g_b − g‖² = tr Σ / b; a quarter of that has half the root. So the last digits of a gradient are dear.",
        ["The figure shows the squared length.", "What is the root of a quarter?"],
    ),
    Exercise(
        "07.2",
        _split,
        "split",
        SPLIT,
        [
            "`v.var(dim=0)` is unbiased by itself, one number a component.",
            "Variance: `v.var(dim=0).sum()`. Error: `((v - r)**2).sum(dim=1).mean()`. Their difference is the squared bias.",
        ],
        code=True,
    ),
    Exercise(
        "07.3",
        Choice(
            "b",
            "y is then a difference of two unrelated errors, which do not know how long s is.",
            {
                "a": "the noise of two different minibatches does not cancel, however near the two points are. With one minibatch it does.",
                "c": "along a shorter step the gradient changes less: y ≈ ∇²f·s.",
            },
        ),
        "b",
        "(b). y = ∇²f s + (ξ' − ξ). On one minibatch ξ' ≈ ξ, and what is left of the difference shrinks with s as well.",
        [
            "Write y as signal plus noise at each end.",
            "Does ξ' − ξ depend on s, if the two minibatches have nothing in common?",
        ],
    ),
    Exercise(
        "07.4",
        Number(
            4,
            "48 − 24 − 10 = 14 evaluations are left, four steps of three. A large batch buys quiet steps, and few of them.",
            [
                (8, "the ten pairs cost one evaluation each."),
                (14, "that many evaluations are left; a step takes three of them."),
                (24, "that many evaluations would be left without the pairs, and a step takes three."),
                (5, "14 evaluations are left; a fifth step would need the fifteenth."),
                (4.67, "a step is made or not."),
            ],
        ),
        4,
        "48 evaluations: 24 steps of Adam, 10 for the pairs, 14 left, and 14 // 3 = 4.",
        [
            "How many evaluations does the budget pay for?",
            "Take 24 for Adam and 10 for the pairs off; then divide by three.",
        ],
    ),
    Exercise(
        "07.5",
        Number(
            0.41645,
            "4 / 9.605. So a standard deviation of twice the size is no evidence: the interval holds 1.",
            [
                (4.0, "that is the ratio itself; the interval's lower end is F times smaller."),
                (38.42, "that is the upper end."),
                (0.20823, "the ratio of the *variances* is wanted: square 0.8 / 0.4 first."),
                (0.6453, "that is the interval of the ratio of standard deviations: its root."),
            ],
        ),
        4 / 9.605,
        "(0.8/0.4)² = 4, divided by F_0.975 = 9.605: 0.416. Upper end 38.4.",
        ["First the ratio of the variances.", "Divide it by F_0.975."],
    ),
)
