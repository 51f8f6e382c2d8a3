"""The exercises of notebook 03."""

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, call

FIRES_AFTER = '''
def fires_after(norms_sq, zeta):
    """The step after which the mean of all squared norms so far is at most zeta, or -1."""
    total = 0.0
    for step, norm_sq in enumerate(norms_sq, start=1):
        total += norm_sq
        if total / step <= zeta:
            return step
    return -1
'''


def _fires_after(function: object) -> str:
    from fuse_lib.optim.observation import Observation
    from fuse_lib.switchover import parse

    def right(norms_sq: list[float], zeta: float) -> int:
        rule = parse(f"gradnorm:{zeta!r}")
        memory = rule.memory()
        for step, norm_sq in enumerate(norms_sq, start=1):
            if rule.theta(Observation(step, grad_norm_sq=norm_sq), memory) == 0.0:
                return step
        return -1

    for norms_sq, zeta in [
        ([9.0, 1.5, 1.0, 0.5, 0.2, 0.2, 0.2], 1.9),
        ([9.0, 0.5, 0.25, 0.25], 2.5),
        ([0.5, 3.0], 1.0),
    ]:
        step = right(norms_sq, zeta)
        got = call(function, norms_sq, zeta)
        _known_mistakes(got, norms_sq, zeta, step)
    if call(function, [4.0, 2.0, 2.0], 1.0) != -1:
        raise Wrong("where the criterion is never met, return -1")
    return "this is `gradnorm:ζ`. The optimizer keeps only the sum and the count."


def _known_mistakes(got: object, norms_sq: list[float], zeta: float, step: int) -> None:
    if got == step:
        return
    alone = next((k for k, n in enumerate(norms_sq, start=1) if n <= zeta), -1)
    roots = next((k for k in range(1, len(norms_sq) + 1) if sum(n**0.5 for n in norms_sq[:k]) / k <= zeta), -1)
    shown = f"on {norms_sq} with ζ = {zeta} it gave {got!r}, and {step} is right"
    if got == step - 1:
        raise Wrong(f"{shown}: count steps from 1; after the first step one has been taken")
    if got == alone:
        raise Wrong(f"{shown}: that compares each norm by itself; take the mean over all steps so far")
    if got == roots:
        raise Wrong(f"{shown}: the list holds squared norms, and the mean is of these; no root is taken")
    raise Wrong(shown)


EXERCISES = (
    Exercise(
        "03.1",
        Number(
            351,
            "an epoch is 60,000 // 512 = 117 steps, and three are 351. fuse_lib counts steps, since it does not know your loader.",
            [
                (3, "that is K₀ in epochs. `step:K` counts steps: how many has an epoch?"),
                (117, "that is one epoch."),
                (354, "that keeps the incomplete last batch: 118 steps an epoch. Here it is dropped."),
                (
                    351.5625,
                    "a step is taken or it is not: round down within each epoch, where the last batch is dropped.",
                ),
                (352, "round down within each epoch: its last, incomplete batch is dropped."),
                (180_000, "that is the number of images, not of batches."),
            ],
            tolerance=1e-4,
        ),
        351,
        "60,000 // 512 = 117 steps in an epoch, 3 · 117 = 351: step:351.",
        ["How many full batches of 512 are in 60,000 images?", "60,000 / 512 = 117.19. Three times the whole part."],
    ),
    Exercise(
        "03.2",
        Number(
            1.5,
            "(4 + 1 + 1 + 0)/4: the mean of the squares, over all four steps.",
            [
                (1.0, "that is the mean of the norms; the criterion takes their squares."),
                (6.0, "that is the sum of squares; divide by the number of steps."),
                (1.5**0.5, "no root is taken: the mean of the squares itself is compared with ζ."),
                (2 / 3, "that leaves out the first step; the paper's mean runs over all steps."),
            ],
        ),
        1.5,
        "(2² + 1² + 1² + 0²)/4 = 6/4 = 1.5, although the last gradient is zero.",
        ["Squares first, then the mean.", "All four steps count, the first as well."],
    ),
    Exercise(
        "03.3",
        _fires_after,
        "fires_after",
        FIRES_AFTER,
        [
            "Keep a running sum, and divide it by the number of steps so far.",
            "`enumerate(norms_sq, start=1)` counts steps from 1. After the loop: `return -1`.",
        ],
        code=True,
    ),
    Exercise(
        "03.4",
        Choice(
            "c",
            "gradients of 100 f are 100 times as large, and their squares 10,000 times: ζ = 0.01 · 10⁴ = 100.",
            {
                "a": "the gradient grows with the loss, so the same ζ is met later or never, as the run above shows.",
                "b": "that would be right for σ, which has the loss's unit. ζ is compared with the *square* of the gradient norm.",
            },
        ),
        "c",
        "(c). ∇(c f) = c ∇f, so ‖∇(c f)‖² = c² ‖∇f‖². With c = 100, ζ becomes 10⁴ · 0.01 = 100; σ would become 100 σ.",
        ["How does the gradient of 100 f compare with that of f?", "And its squared norm?"],
    ),
    Exercise(
        "03.5",
        Choice(
            "b",
            "one small difference among noisy ones is an accident. A window of several steps does not fall for it.",
            {
                "a": "it was falling still: in the full-batch run the loss at step 20 is about twice its final value.",
                "c": "Adam's step was as long as before; the difference of two batches hides what it did.",
            },
        ),
        "b",
        "(b). |f_k − f_{k−1}| holds the difference between two batches, which is sometimes nearly zero by accident.",
        ["What else changes from one step to the next, besides the parameters?", "See the paragraph above."],
    ),
    Exercise(
        "03.6",
        Number(
            510,
            "each of the last ten steps is evaluated once more, at its end, on its own batch.",
            [
                (500, "that would be full batch. On minibatches both gradients of a pair must come from one batch."),
                (1000, "not in each step: pairs older than the last m would be thrown away, so only m steps pay."),
                (520, "one evaluation more in each of ten steps: a step has its first evaluation anyway."),
                (490, "the evaluations come on top of those that Adam needs."),
            ],
            tolerance=1e-3,
        ),
        510,
        "500 for Adam's steps, and 10 more for the ends of the last 10: 510.",
        ["How many pairs does L-BFGS keep?", "What does one pair cost on a minibatch, beyond Adam's own evaluation?"],
    ),
    Exercise(
        "03.7",
        Choice(
            "b",
            "the gradient is so small that no step it would try changes the loss in float32; in float64 the same start is no trouble.",
            {
                "a": "the loss is 2.30, which is guessing among ten digits; others fall far below from there.",
                "c": "too short a step, if anything: it is in proportion to a tiny gradient. Adam's is not.",
            },
        ),
        "b",
        "(b). It cannot tell a plateau from a minimum, where the loss does not change either. Adam's step has the length of its learning rate whatever the gradient.",
        [
            "Which two rows of the table differ in the number format only?",
            "What does `converged` mean in a StepReport?",
        ],
    ),
    Exercise(
        "03.8",
        Choice(
            "b",
            'say handover="none" or "metric", or full_batch=False, which makes its pairs on one batch.',
            {
                "a": "the promise covers the pairs as well: the default handover makes them from two closure calls in a row.",
                "c": "Adam's steps cost one evaluation each all the same; it is what is made of these evaluations that is wrong.",
            },
        ),
        "b",
        "(b). With full_batch=True a pair is made of two closure calls in a row, which here are of two batches.",
        ["What is the default handover?", "Of which two gradients is y the difference, under full_batch=True?"],
    ),
)
