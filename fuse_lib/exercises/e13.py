"""The exercises of notebook 13."""

import math

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, as_float, call

PARTIAL = '''
def partial_of_two(r_xy, r_xz, r_yz):
    """The correlation of x and y with the part of z taken out of both."""
    return (r_xy - r_xz * r_yz) / ((1 - r_xz**2) * (1 - r_yz**2)) ** 0.5
'''


def _partial_of_two(function: object) -> str:
    for xy, xz, yz in [(0.5, 0.0, 0.0), (0.5, 0.6, 0.3), (0.42, 0.6, 0.7), (-0.2, 0.8, -0.5)]:
        got = as_float(call(function, xy, xz, yz))
        above, below = xy - xz * yz, math.sqrt((1 - xz**2) * (1 - yz**2))
        if math.isclose(got, above / below, rel_tol=1e-6, abs_tol=1e-9):
            continue
        said = f"for r_xy = {xy}, r_xz = {xz}, r_yz = {yz} it gave {got:.6g}"
        if math.isclose(got, above, rel_tol=1e-6, abs_tol=1e-9):
            raise Wrong(f"{said}, the covariance of the two residuals: divide by their standard deviations")
        if math.isclose(got, xy, rel_tol=1e-6):
            raise Wrong(f"{said}, the plain correlation: z's part is still in it")
        if math.isclose(got, above / below**2, rel_tol=1e-6):
            raise Wrong(f"{said}: divided by the two variances; a correlation is divided by the standard deviations")
        raise Wrong(f"{said}; the residuals x − r_xz z and y − r_yz z have the covariance {above:.4g}")
    return "where z explains all that x and y share, r_xy = r_xz r_yz, nothing is left."


EXERCISES = (
    Exercise(
        "13.1",
        Number(
            20.0,
            "each of twenty slices of the learning rate's range is used once, and so for each of the other settings.",
            [
                (5.0, "that is 20/4: as if the settings had to share the runs. Each run has a value of every setting."),
                (2.0, "that is a grid: two values of each of four settings are 16 runs. A hypercube has no grid."),
                (80.0, "that is 20 · 4, the values of all settings together."),
            ],
        ),
        20,
        "20: a Latin hypercube of n runs has n different values of each setting.",
        [
            "Count the orange marks below the right panel.",
            "Every slice is used once, and there are as many slices as runs.",
        ],
    ),
    Exercise(
        "13.2",
        _partial_of_two,
        "partial_of_two",
        PARTIAL,
        [
            "The residuals are x − r_xz z and y − r_yz z, all three standardised. What is the mean of their product?",
            "It is r_xy − r_xz r_yz, and their variances are 1 − r_xz² and 1 − r_yz².",
        ],
        code=True,
    ),
    Exercise(
        "13.3",
        Choice(
            "b",
            "what rises and falls by turns has no direction, but its bins differ in their means.",
            {
                "a": "then the bins' means would not differ either, and the main effect would be about 0.",
                "c": "then the means over the other settings would be alike, and the main effect would be about 0, too.",
            },
        ),
        "b",
        "(b). The rank correlation asks up or down; the main effect asks whether the bins' means differ.",
        ["Which of the two measures knows a direction?", "Draw y = (x − ½)² and compute both in your head."],
    ),
    Exercise(
        "13.4",
        Number(
            10_000.0,
            "the gradient grows by 100, and its square by 100². σ would have to grow by 100.",
            [
                (100.0, "so much grows the gradient, and σ; ζ is compared with the norm's *square*."),
                (10.0, "that is the root of 100; the norm grows like the loss, and its square more."),
                (1.0, "the rule compares numbers; with the old ζ it fires later, or never."),
            ],
        ),
        10_000,
        "100² = 10,000. A rule in units of the start's value would not need it.",
        ["By what factor does the gradient grow?", "ζ is compared with ‖g‖²."],
    ),
    Exercise(
        "13.5",
        Number(
            1 - 0.05 ** (1 / 60),
            "about 3/60. *Rule of three*: nothing in n tries still leaves room for 3/n.",
            [
                (1 / 60, "that is one of sixty; with that share none of 60 is bad in 36 % of the cases."),
                (1 - 0.95 ** (1 / 60), "that solves (1 − p)^60 = 0.95: the share with which it would be *usual*."),
                (0.0, "a share of 2 % would let 60 runs pass with none bad in three cases of ten."),
            ],
            tolerance=0.05,
        ),
        0.0487,
        "(1 − p)^60 = 0.05 gives p = 1 − 0.05^(1/60) = 0.0487, about 3/60.",
        ["Take the sixtieth root of both sides.", "ln 0.05 ≈ −3, so p ≈ 3/60."],
    ),
)
