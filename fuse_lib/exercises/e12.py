"""The exercises of notebook 12."""

import torch

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, call

CORRECTED = '''
def corrected(g_batch, g_batch_anchor, g_anchor):
    """The minibatch's gradient here, its error at the anchor taken off."""
    return g_batch - g_batch_anchor + g_anchor
'''


def _corrected(function: object) -> str:
    generator = torch.Generator().manual_seed(0)
    here, there, full = (torch.randn(4, generator=generator, dtype=torch.float64) for _ in range(3))
    got = call(function, here.clone(), there.clone(), full.clone())
    if not isinstance(got, torch.Tensor) or got.shape != here.shape:
        raise Wrong(f"it should return a vector like the three that it is given; it returned {type(got).__name__}")
    if torch.allclose(got, here - there + full):
        return "at the anchor itself the first two cancel, and what is left is the gradient of all rows."
    for mistake, why in (
        (
            here + there - full,
            "the signs: the batch's own gradient at the anchor is to be taken off, that of all rows put on",
        ),
        (
            here - full,
            "that takes the right gradient off; the error at the anchor is the batch's minus that of all rows",
        ),
        (here - there, "at the anchor that is zero, where it should be the gradient of all rows"),
        (here + full, "at the anchor that is about twice the gradient; the batch's own one there is still in it"),
        ((here + full) / 2, "a mean keeps half of the noise; take the error that is known off"),
        (here, "that is the minibatch's gradient as it is"),
    ):
        if torch.allclose(got, mistake):
            raise Wrong(why)
    raise Wrong("at the anchor (the first two equal) it has to give the third, and elsewhere to move as the first does")


EXERCISES = (
    Exercise(
        "12.1",
        Choice(
            "c",
            "a difference of two nearly equal gradients keeps all of the noise where the two minibatches are different.",
            {
                "a": "the gradients' noise is the same; but it is a difference that is wanted.",
                "b": "with one minibatch at both ends most of the noise cancels: it is in both gradients.",
            },
        ),
        "c",
        "(c). y is short, since x has hardly moved; the noise of two minibatches is not. On one minibatch it cancels.",
        ["How long is y beside the gradients?", "Which part of the noise is in both gradients?"],
    ),
    Exercise(
        "12.2",
        Number(
            8.0,
            "0.8/4 = 0.2 is the variance of the mean, 0.25 · 0.1 = 0.025 is allowed.",
            [
                (32.0, "the batch is the mean of its halves: the variance is a quarter of ‖g₁ − g₂‖²."),
                (4.0, "θ is squared in the test: θ² = 0.25."),
                (0.125, "that is by how much the variance has to shrink; the batch has to grow by its inverse."),
                (64.0, "the variance of a mean falls like 1/b, not like 1/√b."),
            ],
        ),
        8.0,
        "The variance is 0.8/4 = 0.2, allowed is θ²‖g‖² = 0.025, and the variance falls like 1/b: 8 times the rows.",
        ["The variance of the batch's mean gradient is about ‖g₁ − g₂‖²/4.", "It falls like 1/b. What is allowed?"],
    ),
    Exercise(
        "12.3",
        _corrected,
        "corrected",
        CORRECTED,
        [
            "What is the batch's error at the anchor? It is known: both gradients there are.",
            "Take that error off the batch's gradient here.",
        ],
        code=True,
    ),
    Exercise(
        "12.4",
        Number(
            2.0,
            "8 · 7,500 rows are one pass, the evaluation on all rows is the other. Eight full-batch steps would be 8.",
            [
                (1.0, "that is the eight evaluations on the batch; the round ends with one on all rows."),
                (9.0, "the eight evaluations are on an eighth of the rows each."),
                (1.875, "the evaluation at the anchor, which the correction needs, counts as well."),
                (120_000.0, "that is in rows; a pass is 60,000 of them."),
            ],
        ),
        2.0,
        "8 · 7,500 + 60,000 = 120,000 rows, which is 2 passes.",
        ["How many rows are the eight evaluations together?", "Add the one on all rows, and divide by 60,000."],
    ),
    Exercise(
        "12.5",
        Choice(
            "a",
            "ρ = 0.1/0.4 = 0.25: the step is kept, for f fell; but the batch promised four times as much.",
            {
                "b": "f on all rows did fall, so the new point is better than the old one.",
                "c": "ρ = 0.25 says that the batch and all rows agree badly, even though f fell.",
            },
        ),
        "a",
        "(a). Two questions, two answers: is the point better (f fell), and is the batch to be believed (ρ < 0.7).",
        ["What is ρ?", "Is the new point better than the anchor? And did the batch say the truth about how much?"],
    ),
)
