"""The exercises of notebook 15."""

import torch

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, call, close

SHUFFLED = '''
def shuffled(s, y, wrong):
    """y with its part across s turned to where `wrong` has its own; |y| and s·y stay."""
    along = s / s.norm()
    across = wrong - along * along.dot(wrong)
    part = along.dot(y)
    rest = (y.dot(y) - part * part).sqrt()
    return part * along + rest * across / across.norm()
'''


def _shuffled(function: object) -> str:
    draw = torch.Generator().manual_seed(0)
    for d in (3, 8, 5):
        s, y, wrong = (2.0 * torch.randn(3, d, dtype=torch.float64, generator=draw)).unbind()
        y = y if s.dot(y) > 0 else -y
        got = torch.as_tensor(call(function, s, y, wrong))
        if got.shape != s.shape:
            raise Wrong(f"for vectors of length {d} it gave the shape {tuple(got.shape)}; allowed is ({d},)")
        if close(got, y):
            raise Wrong("that is y itself: nothing is shuffled")
        if close(got, wrong) or close(got, wrong * y.norm() / wrong.norm()):
            raise Wrong("that is the wrong y as it is, only scaled: s·y is another then, and may be negative")
        if not close(s.dot(got), s.dot(y)):
            raise Wrong("s·y has changed, and with it whether the pair is admissible: keep y's part along s")
        if not close(got.norm(), y.norm()):
            raise Wrong("‖y‖ has changed: scale the part across s to √(‖y‖² − (part along s)²)")
        across = [v - s * s.dot(v) / s.dot(s) for v in (got, wrong)]
        if not close(torch.cosine_similarity(*across, dim=0), 1.0):
            raise Wrong("the part across s does not point where the wrong y's does")
    return "γ = sᵀy/yᵀy, the test of curvature and all lengths are as they were. Only the directions are wrong."


EXERCISES = (
    Exercise(
        "15.1",
        Number(
            10.0,
            "σ_i + σ_j: the largest is 1 + 1, the smallest that is not zero 0.1 + 0.1.",
            [
                (100.0, "that is the square of σ₁/σ₂. The eigenvalues at the minimum are sums, not products."),
                (20.0, "the largest is 2, not 1·2 over 0.1: the smallest sum of two singular values is 0.1 + 0.1."),
                (1.8182, "1 + 0.1 is in the spectrum, but there is a smaller sum."),
            ],
        ),
        10.0,
        "The eigenvalues are 2, 1.1 (twice), 0.2, and four zeros: 2 / 0.2 = 10.",
        ["Write down all sums σ_i + σ_j of 1 and 0.1.", "The largest over the smallest of them."],
    ),
    Exercise(
        "15.2",
        _shuffled,
        "shuffled",
        SHUFFLED,
        [
            "Split y into a part along s, which gives sᵀy, and a part across it.",
            "The part across has length √(‖y‖² − (ŝᵀy)²). Give it the direction that the wrong y's part across s has.",
        ],
        code=True,
    ),
    Exercise(
        "15.3",
        Number(
            0.6,
            "1.2 of 2.0 powers of ten. The averaging step was a loss, so the others have to make up for it.",
            [
                (1.2, "that is the gain of the directions in powers of ten; its share is of the whole gain."),
                (0.48, "the whole gain is from −2.0 to −4.0, 2 powers of ten; steps that lose count with their sign."),
                (0.3, "divide by the whole gain, 2.0, and not by the log gap at the end."),
            ],
            tolerance=0.005,
        ),
        0.6,
        "From identity (−2.8) to true (−4.0) it is 1.2; from Adam (−2.0) to true it is 2.0. 1.2/2.0 = 0.6.",
        ["What does the last step gain, from `identity` to `true`?", "Divide it by the gain from first to last."],
    ),
    Exercise(
        "15.4",
        Choice(
            "c",
            "½ξᵀH⁻¹ξ. In a direction of curvature λ the noise is divided by λ: the flattest ones are the worst.",
            {
                "a": "it finds the minimum of the tilted function exactly, and that is not the minimum of f.",
                "b": "‖ξ‖² would be right for H = ½I. The gap is measured by f, whose curvature is H.",
            },
        ),
        "c",
        "(c). f + ξᵀx has its minimum where H(x − x*) = −ξ, so x = x* − H⁻¹ξ, and ½(x − x*)ᵀH(x − x*) = ½ξᵀH⁻¹ξ.",
        ["Where is the gradient Hx + ξ zero?", "Put that x into f = ½xᵀHx."],
    ),
    Exercise(
        "15.5",
        Choice(
            "b",
            "sᵀy < 0 there, and such pairs are not kept: H stays positive definite, and every step leads down.",
            {
                "a": "Newton's method does; its matrix has negative eigenvalues there. L-BFGS's H never has one.",
                "c": "an exact saddle point has gradient zero, and no gradient method moves from there without noise.",
            },
        ),
        "b",
        "(b). Newton's step −H⁻¹g leads to the nearest stationary point, whatever it is. L-BFGS's is a descent direction.",
        [
            "Is L-BFGS's matrix ever indefinite?",
            "A step along −Hg with H positive definite and a line search: can the loss go up?",
        ],
    ),
)
