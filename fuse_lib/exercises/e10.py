"""The exercises of notebook 10."""

import math

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, as_float, call

LARGEST_CLIP = '''
def largest_clip(theta, rho, L):
    """The c at which θ(1 + Lc)² + (1 − θ)ρ is 1."""
    return (((1 - (1 - theta) * rho) / theta) ** 0.5 - 1) / L
'''


def _largest_clip(function: object) -> str:
    for theta, rho, L in [(0.5, 0.8, 1.0), (0.9, 0.9, 1.0), (0.1, 0.5, 4.0)]:
        got = as_float(call(function, theta, rho, L))
        square = (1 - (1 - theta) * rho) / theta
        right = (math.sqrt(square) - 1) / L
        said = f"for θ = {theta}, ρ = {rho}, L = {L} it gave {got:.6g}"
        if math.isclose(got, right, rel_tol=1e-3):
            continue
        if math.isclose(got, math.sqrt(square) - 1, rel_tol=1e-3):
            raise Wrong(f"{said}: divide by L, since it is Lc that stands in the bracket")
        if math.isclose(got * L, square - 1, rel_tol=1e-3):
            raise Wrong(f"{said}: (1 + Lc) is squared, so take the root before you subtract 1")
        if math.isclose(got * L, math.sqrt(square), rel_tol=1e-3):
            raise Wrong(f"{said}: that is 1 + Lc; subtract the 1")
        factor = theta * (1 + L * got) ** 2 + (1 - theta) * rho
        raise Wrong(f"{said}, where the factor θ(1 + Lc)² + (1 − θ)ρ is {factor:.4g}; it should be 1")
    return "The larger θ, the shorter a step Adam is allowed: L-BFGS's (1 − θ) share has to make up for its rise."


EXERCISES = (
    Exercise(
        "10.1",
        Choice(
            "b",
            "one for the trial of the search, one for the blended point, where nobody has been.",
            {
                "a": "that is L-BFGS alone: it ends at its trial point and knows the gradient there. The blend ends elsewhere.",
                "c": "that is on minibatches, where the pair needs the gradient at its end on the same batch.",
            },
        ),
        "b",
        "(b): the trial point x^L, and the blended point at which the next step starts.",
        ["At which points must f and its gradient be known?", "Is the blended point one that the search has tried?"],
    ),
    Exercise(
        "10.2",
        Number(
            0.05,
            "θδ/((1 − θ)(1 − ρ)) = 0.005/0.1.",
            [
                (0.1, "δ is multiplied by θ as well: only that share of Adam's rise is taken."),
                (0.025, "the sum of the geometric series is 1/(1 − q), with 1 − q = (1 − θ)(1 − ρ), not 1 − ρ alone."),
                (0.0125, "the denominator has 1 − ρ, the share that is taken off, not ρ."),
                (0.005, "that is one step's rise; each step adds one, and the series sums them."),
            ],
        ),
        0.05,
        "θδ/((1 − θ)(1 − ρ)) = 0.5 · 0.01/(0.5 · 0.2) = 0.05: five times the rise of a single step.",
        ["It is the second term of Theorem A.", "0.5 · 0.01, divided by 0.5 · (1 − 0.8)."],
    ),
    Exercise(
        "10.3",
        _largest_clip,
        "largest_clip",
        LARGEST_CLIP,
        [
            "Set θ(1 + Lc)² + (1 − θ)ρ = 1 and solve for c.",
            "(1 + Lc)² = (1 − (1 − θ)ρ)/θ.",
        ],
        code=True,
    ),
    Exercise(
        "10.4",
        Number(
            57.0,
            "1.5 · 1.9/(0.5 · 0.1). The less of Adam there is, the larger a step it may take.",
            [
                (38.0, "that is Adam alone, θ = 1."),
                (28.5, "the θ in the denominator is missing."),
                (5.7, "the denominator has 1 − β₁ = 0.1."),
                (20.0, "that is 2/(1 − β₁): the numerator is (1 + θ)(1 + β₁)."),
            ],
        ),
        57.0,
        "(1 + θ)(1 + β₁)/(θ(1 − β₁)) = 1.5 · 1.9/(0.5 · 0.1) = 57.",
        ["Put the numbers into η_c.", "The numerator is 1.5 · 1.9, the denominator 0.5 · 0.1."],
    ),
    Exercise(
        "10.5",
        Choice(
            "b",
            "Lemma 2 needs f to be convex between the two points, and nothing else does this work for it.",
            {
                "a": "the search has looked along x_k → x^L; the blend lies on another line.",
                "c": "where both ends lie in one bowl the mean does, too; that is the usual case along a run.",
            },
        ),
        "b",
        "(b). The figure above has such a step: both ends are below the start, and their mean is above it.",
        ["Along which line did the search look?", "Is the blended point on it?"],
    ),
)
