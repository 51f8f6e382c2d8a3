"""The exercises of notebook 09."""

import math

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, as_float, call

BEST_ZETA = '''
def best_zeta(A, B, eps):
    """The ζ ≥ ε that minimises A/ζ + B log(ζ/ε)."""
    return max(A / B, eps)
'''


def _best_zeta(function: object) -> str:
    for A, B, eps in [(2.0, 4.0, 1e-3), (2.0, 4.0, 1e-6), (3.0, 5.0, 0.9), (0.5, 0.25, 0.1)]:
        got, right = as_float(call(function, A, B, eps)), max(A / B, eps)
        said = f"for A = {A}, B = {B}, ε = {eps} it gave {got:.6g}"
        if math.isclose(got, right, rel_tol=1e-3):
            continue
        if got < eps:
            raise Wrong(f"{said}, which is below ε: at ζ = ε Adam has arrived, and nothing is left for L-BFGS")
        if math.isclose(got, B / A, rel_tol=1e-3):
            raise Wrong(f"{said}, which is B/A: set the derivative −A/ζ² + B/ζ to zero once more")
        if got > right:
            raise Wrong(f"{said}, which is too large: a smaller ζ costs less there")
        raise Wrong(f"{said}, which is too small: a larger ζ costs less there")
    return "ε only says whether to switch at all; where, is decided by the two constants."


EXERCISES = (
    Exercise(
        "09.1",
        Choice(
            "b",
            "above 1/log(1/ε) the maximum is the second term, which does not depend on ζ. The bound sees no harm in no Adam.",
            {
                "a": "there the two terms are equal; but for a larger ζ the maximum stays at log(1/ε), so that all those are as good.",
                "c": "a small ζ makes 1/ζ large, and with it the maximum.",
            },
        ),
        "b",
        "(b). max{1/ζ, log(1/ε)} = log(1/ε) for all ζ ≥ 1/log(1/ε). A best ζ inside needs a second phase that costs less from nearer.",
        ["Draw both terms over ζ.", "Which of the two is the maximum where ζ is large, and does it change with ζ?"],
    ),
    Exercise(
        "09.2",
        Number(
            10_000.0,
            "S = 1/(1 − 0.9) = 10, and K = S/ζ. The norm itself is below 0.001 after 67 steps.",
            [
                (
                    1000.0,
                    "that is 1/ζ, as if the first term were all of the sum. The sum is 1 + q + q² + … = 1/(1 − q).",
                ),
                (
                    66.0,
                    "then the current value is below 0.001; the mean over all steps still has the first terms in it.",
                ),
                (
                    9000.0,
                    "the sum of the geometric series from its first term 1 is 1/(1 − q), not q/(1 − q).",
                ),
                (100.0, "divide the sum by ζ, not by its root."),
            ],
            tolerance=0.02,
        ),
        10_000.0,
        "The sum of all is 1/(1 − q) = 10, so the mean after K steps is 10/K, and K = 10/0.001 = 10,000.",
        ["The mean after K steps is the sum divided by K.", "1 + q + q² + … = 1/(1 − q)."],
    ),
    Exercise(
        "09.3",
        _best_zeta,
        "best_zeta",
        BEST_ZETA,
        [
            "The derivative is −A/ζ² + B/ζ. Where is it zero?",
            "A/B, if that is not below ε; else the end of the allowed range.",
        ],
        code=True,
    ),
    Exercise(
        "09.4",
        Number(
            6 / math.log(10),
            "r_L = ln 10 / 6 = 0.38 e-folds an evaluation, p = 1, and t* = p / r_L.",
            [
                (6.0, "that is a factor of ten; an e-fold is a factor of 2.718, and takes less."),
                (math.log(10) / 6, "that is r_L, L-BFGS's rate; the switch is after p / r_L passes."),
                (6 * math.log(10), "divide by ln 10: an e-fold takes fewer evaluations than a factor of ten."),
            ],
        ),
        6 / math.log(10),
        "ln 10 / 6 = 0.384 e-folds an evaluation, so t* = 1 / 0.384 = 2.6 passes.",
        [
            "What is L-BFGS's rate r_L in e-folds an evaluation? A factor of ten is ln 10 e-folds.",
            "t* = p / r_L with p = 1.",
        ],
    ),
    Exercise(
        "09.5",
        Choice(
            "c",
            "an upper bound is about the worst case; runs on one problem can only show that they are better than it.",
            {
                "a": "a bound from above allows everything below it.",
                "b": "it holds for a whole class of functions; a run on one of them proves nothing about the others.",
            },
        ),
        "c",
        "(c). Only costs that grow faster than the bound, over a long range, would speak against it.",
        [
            "Is 0.7 above or below what the bound allows?",
            "How many functions is the bound about, and how many were measured?",
        ],
    ),
)
