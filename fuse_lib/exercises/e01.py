"""The exercises of notebook 01."""

import math

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, call, close

BIAS_FACTOR = '''
def bias_factor(k, beta1=0.9, beta2=0.999):
    """c_k of Adam's bias correction; k is 1 at the first step."""
    return math.sqrt(1 - beta2**k) / (1 - beta1**k)
'''


def _bias_factor(function: object) -> str:
    for k, beta1, beta2 in [(1, 0.9, 0.999), (10, 0.9, 0.999), (3, 0.5, 0.99), (2000, 0.9, 0.9)]:
        got = call(function, k, beta1, beta2)
        m, v = 1 - beta1**k, 1 - beta2**k
        if close(got, math.sqrt(v) / m):
            continue
        where = f"for k={k}, beta1={beta1}, beta2={beta2}"
        if close(got, math.sqrt(v) / math.sqrt(m)):
            raise Wrong(
                f"{where}: no root in the denominator. m is divided by 1 − β1^k itself; only v stands under a root"
            )
        if close(got, m / math.sqrt(v)):
            raise Wrong(f"{where}: that is the bias, the inverse of its correction")
        if close(got, v / m):
            raise Wrong(f"{where}: v stands under a root in Adam's step, so its correction does, too")
        if close(got, math.sqrt(1 - beta2) / (1 - beta1)):
            raise Wrong(f"{where}: that is the factor of the first step; later ones have β to the power k")
        raise Wrong(f"{where} it gave {got!r}, but the factor is {math.sqrt(v) / m:.6g}")
    return "0.316 at the first step with Adam's defaults, and 1 in the long run."


EXERCISES = (
    Exercise(
        "01.1",
        _bias_factor,
        "bias_factor",
        BIAS_FACTOR,
        [
            "m̂ / √v̂ = c_k · m / √v. Put in what the hats stand for.",
            "m̂ = m / (1 − β1^k), and √v̂ = √v / √(1 − β2^k).",
        ],
        code=True,
    ),
    Exercise(
        "01.2",
        Number(
            10,
            "(1 − β1)/√(1 − β2) = 0.1/0.01: the longer the memory of v, the worse it is without correction.",
            [
                (math.sqrt(10), "that is for β2 = 0.999; here it is 0.9999."),
                (0.1, "that is the factor of the correction. Without it the step is too long by its inverse."),
                (1, "so it would be *with* the correction."),
                (1000, "v stands under a root: √(1 − β2), not 1 − β2."),
                (100, "m starts too small as well: it is (1 − β1) g after the first step."),
            ],
        ),
        10,
        "m_1 = (1 − β1) g = 0.1 g and √v_1 = √(1 − β2) |g| = 0.01 |g|, so the step is 0.1/0.01 = 10 α.",
        ["What are m and v after one step, from m = v = 0?", "m = (1 − β1) g and √v = √(1 − β2) |g|."],
    ),
    Exercise(
        "01.3",
        Choice(
            "b",
            "each is divided by its own size, so a consistent gradient moves its parameter by α, large or small.",
            {
                "a": "so it is for gradient descent. Adam divides by √v, which grows with the gradient.",
                "c": "Adam divides by √v, but m in the numerator grows with the gradient as well: their ratio is 1.",
            },
        ),
        "b",
        "(b). For a constant gradient m̂ = g and √v̂ = |g|, so the step is α·sign(g). (As long as |g| is well above ε.) "
        "A noisy one moves its parameter less.",
        ["Put a constant g into m̂/√v̂.", "Look at the left panel above."],
    ),
    Exercise(
        "01.4",
        Number(
            0.6,
            "3/√(9 + 16) = 3/5.",
            [
                (0.75, "that is μ/σ. The second moment is μ² + σ², not σ² alone."),
                (1, "that would be so without noise."),
                (0.36, "the second moment stands under a root."),
                (3 / 7, "standard deviation and mean add up as squares: √(3² + 4²) = 5."),
                (3, "Adam divides by the size of the gradient: no step is longer than α in the long run."),
            ],
        ),
        0.6,
        "μ/√(μ² + σ²) = 3/√(9 + 16) = 0.6.",
        ["The formula is above the right panel.", "E[g²] = μ² + σ² = 25."],
    ),
    Exercise(
        "01.5",
        Choice(
            "a",
            "torch's moves it by α/2. The paper's form has a threshold 32 times as high in the first step, and inside the root it is 10⁻⁴.",
            {
                "b": "its effective ε is a/√(1 − β2) = 32 a in the first step, which leaves α/33.",
                "c": "√(10⁻¹⁶ + 10⁻⁸) is 10⁻⁴: ten thousand times the gradient.",
            },
        ),
        "a",
        "(a). 10⁻⁸/(10⁻⁸ + 10⁻⁸) = 1/2 for torch, 1/(1 + 31.6) = 0.03 for the paper's form, and 10⁻⁸/√(10⁻¹⁶ + 10⁻⁸) = 10⁻⁴ inside the root.",
        [
            "Put the numbers into the three rows of the table, k = 1.",
            "Follow the three curves of the left panel at 10⁻⁸.",
        ],
    ),
    Exercise(
        "01.6",
        Number(
            1e-8 * math.sqrt(0.001),
            "a = ε √(1 − β2) = 3.2·10⁻¹⁰. It falls below that ε from then on.",
            [
                (
                    1e-8 / math.sqrt(0.001),
                    "the other way round: with a = 1e-8 the effective ε is that large. You want it smaller.",
                ),
                (1e-8, "then the effective ε is 3.2·10⁻⁷ at the first step."),
                (1e-11, "v stands under a root: √(1 − β2), not 1 − β2."),
            ],
        ),
        1e-8 * math.sqrt(0.001),
        "a/√(1 − β2) = 1e-8, so a = 1e-8 · √0.001 = 3.16e-10.",
        ["Solve the formula for the effective ε for a.", "a = 1e-8 · √(1 − β2)."],
    ),
    Exercise(
        "01.7",
        Choice(
            "b",
            "with noise the floor is d α σ/4: proportional to α.",
            {
                "a": "the dotted line of the last figure rises with α.",
                "c": "that is so for the bursts without noise, whose height is proportional to α².",
            },
        ),
        "b",
        "(b). The floor of noise is d α σ/4. But you wait longer: the flat directions take ten times as many steps.",
        ["Section 7 has the formula.", "E f ≈ d α σ/4."],
    ),
)
