"""The exercises of notebook 05."""

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, call

FIRST_STEP = '''
def first_step(values, threshold, window):
    """The first step, from 1, at which the mean of the last `window` values is at most the threshold, or None."""
    for step in range(window, len(values) + 1):
        if sum(values[step - window : step]) / window <= threshold:
            return step
    return None
'''


def _reference(values: list[float], threshold: float, window: int) -> int | None:
    for step in range(window, len(values) + 1):
        if sum(values[step - window : step]) / window <= threshold:
            return step
    return None


def _first_step(function: object) -> str:
    cases = [
        ([4.0, 3.0, 2.0, 1.0], 2.5, 2),
        ([1.0, 8.0, 8.0, 2.0, 1.0, 1.0], 2.0, 3),
        ([5.0, 1.0, 5.0, 1.0, 1.0], 1.0, 1),
        ([2.0, 2.0, 2.0], 2.0, 3),
    ]
    for values, threshold, window in cases:
        right, got = _reference(values, threshold, window), call(function, values, threshold, window)
        said = f"for {values}, threshold {threshold}, window {window} it gave {got!r}"
        if isinstance(got, bool) or not isinstance(got, int):
            raise Wrong(f"{said}; the answer is a step, an integer")
        if got == right - 1:
            raise Wrong(f"{said}, but the step is {right}: steps count from 1, list places from 0")
        if got < window:
            raise Wrong(f"{said}: before there are {window} values there is no mean of the last {window}")
        if got != right:
            raise Wrong(f"{said}, but the mean of the last {window} is at most {threshold} at step {right} first")
    for values, threshold, window in [([3.0, 3.0, 3.0], 1.0, 2), ([0.0, 0.0], 1.0, 3)]:
        got = function(list(values), threshold, window)
        if got is not None:
            raise Wrong(f"for {values}, threshold {threshold}, window {window} it gave {got!r}; it must be None")
    return "a rule is no more than this: a mean over a window, and a comparison."


EXERCISES = (
    Exercise(
        "05.1",
        Choice(
            "b",
            "two batches have two losses, even at the same parameters. The rule cannot tell that from movement.",
            {
                "a": "the objective does not change, but the rule sees two different minibatches, whose losses differ.",
                "c": "a window averages |f_k − f_{k−1}|, whose mean is positive; averaging steadies it and does not shrink it.",
            },
        ),
        "b",
        "(b). E|f_k − f_{k−1}| is then the mean distance between the losses of two random batches. So a σ below that is met by luck only.",
        [
            "What do f_k and f_{k−1} differ in, if not in the parameters?",
            "Can the mean of absolute values shrink to zero?",
        ],
    ),
    Exercise(
        "05.2",
        Number(
            0.21,
            "0.01 + 25/125: nearly all of what the rule sees is noise.",
            [
                (0.2, "that is the noise alone; the true gradient's squared norm comes on top."),
                (0.01, "that is the true gradient alone, which the rule never sees."),
                (25.01, "the covariance is that of one image; a mean of 125 has 1/125 of it."),
                (0.0116, "the variance of a mean of b is 1/b of that of one, not 1/b²."),
                (2.2461, "the variance of a mean of b is 1/b of that of one; 1/√b holds for its root."),
            ],
        ),
        0.21,
        "E‖g‖² = ‖∇f‖² + tr Σ / b = 0.01 + 25/125 = 0.21. A ζ of 0.1 would be met by a fluctuation only.",
        ["The formula is in the section on the floor.", "‖∇f‖² plus tr Σ divided by the batch size."],
    ),
    Exercise(
        "05.3",
        _first_step,
        "first_step",
        FIRST_STEP,
        [
            "The first step at which there can be an answer is step `window`.",
            "For each step: `sum(values[step - window : step]) / window`, compared with the threshold.",
        ],
        code=True,
    ),
    Exercise(
        "05.4",
        Choice(
            "a",
            "the rule only says when. The same Adam before and the same L-BFGS after lead to the same parameters.",
            {
                "b": "the rule reads the gradient's norm and says when; it changes no step, before or after.",
                "c": "with one seed the weights, the batches and every step are the same, so the ends are, run by run.",
            },
        ),
        "a",
        "(a). Only the step of the switch differs between rules. Where it is the same, all is the same.",
        ["In which line of `train` does the rule have a say?", "What could differ, if not the step of the switch?"],
    ),
    Exercise(
        "05.5",
        Number(
            0.001963,
            "2.776 · 0.00158 / √5. The mean is 0.001, so the interval holds zero: five seeds do not show a difference.",
            [
                (0.001386, "1.96 is for many seeds. With five, n − 1 = 4, Student's t has 2.776."),
                (0.004389, "that is t times the standard deviation; that of the mean is smaller by √n."),
                (0.001756, "divide the sum of squares by n − 1, not by n, for the standard deviation."),
                (0.003926, "that is the whole width; half of it is asked for."),
                (0.001818, "2.571 belongs to n − 1 = 5; here n − 1 = 4."),
            ],
        ),
        0.001963,
        "mean 0.001, s = 0.00158, half the interval t_4 · s/√5 = 2.776 · 0.00158 / 2.236 = 0.00196; so −0.001 to 0.003, with zero inside.",
        [
            "The formula stands in the section on the verdict.",
            "n = 5, so t₄ = 2.776; s with n − 1 in the denominator, as pandas' std.",
        ],
    ),
    Exercise(
        "05.6",
        Choice(
            "b",
            "a tuned step number belongs to its setting. Whether a threshold travels better is a question to be measured.",
            {
                "a": "tuned on the same data they tie; but one may need no new tuning where the setting changes.",
                "c": "the rule only says when; what an L-BFGS step costs has nothing to do with it.",
            },
        ),
        "b",
        "(b). Larger batches or another learning rate move the right step. A threshold might move along; ζ does not by itself, since its floor depends on the batch size.",
        ["What was each rule tuned for, here?", "Which of K, ζ and σ would you have to tune anew on another data set?"],
    ),
)
