"""The exercises of notebook 16."""

import math

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, as_float, call

PROGRESS = '''
def progress(losses):
    """The fall from first to last over the sum of all moves; 0 where nothing moves."""
    way = sum(abs(b - a) for a, b in zip(losses[:-1], losses[1:]))
    return (losses[0] - losses[-1]) / way if way else 0.0
'''

STALLED = '''
def stalled(losses):
    """Whether the last ten steps brought less than a hundredth of the fall since the start."""
    if len(losses) < 11:
        return False
    return losses[-11] - losses[-1] < 0.01 * (losses[0] - losses[-1])
'''


def _progress(function: object) -> str:
    for losses, right in [([3.0, 2.0, 1.0], 1.0), ([2.0, 1.0, 2.0, 1.0], 1 / 3), ([1.0, 3.0], -1.0), ([1.0, 1.0], 0.0)]:
        got, said = as_float(call(function, losses)), f"for {losses} it has to be {right:.4g}; it gave "
        if math.isclose(got, right, rel_tol=1e-6, abs_tol=1e-9):
            continue
        if right < 0 and math.isclose(got, abs(right), rel_tol=1e-6):
            raise Wrong(f"{said}{got:.4g}: a rise is negative progress, so there is no absolute value above the bar")
        if math.isclose(got, -right, rel_tol=1e-6):
            raise Wrong(f"{said}{got:.4g}: a fall counts as positive, first minus last")
        raise Wrong(f"{said}{got:.4g}: below the bar stand the sizes of all moves, up and down alike")
    return "1 for a path that only falls, near 0 for one that goes up and down."


def _stalled(function: object) -> str:
    falling = [10.0 - k for k in range(12)]
    flat = [10.0, 5.0, 2.0, *[1.0] * 12]
    slow = [10.0, 5.0, 2.0, *[1.0 + 0.004 * (11 - k) for k in range(12)]]
    noisy = [10.0, 5.0, 2.0, *[1.0 + 0.3 * (k % 2) for k in range(12)]]
    for losses, right, why in [
        (falling, False, "the loss still falls as fast as at the start"),
        (flat, True, "the last ten steps brought nothing"),
        ([10.0, 9.0, 8.0], False, "there are not yet ten steps"),
        ([v + 100.0 for v in falling], False, "the loss still falls; its height is of no account, only its falls are"),
        (noisy, True, "what is up and down again is no fall"),
        ([1000.0 * v for v in slow], True, "the last ten brought 40 of 9,000; a share knows no unit"),
    ]:
        got = call(function, losses)
        if bool(got) is not right:
            shown = ", ".join(f"{v:g}" for v in losses)
            raise Wrong(f"for the losses {shown} the answer is {right}: {why}")
    return "That is a rule without a unit: a share of the fall, and no threshold in the loss's own scale."


EXERCISES = (
    Exercise(
        "16.1",
        Number(
            0.2 / 1.8,
            "(1 − 0.8)/(1 + 0.8) = 0.11: a shorter mean lets more noise through.",
            [
                (0.1 / 1.9, "that is for β₁ = 0.9."),
                (0.2, "that is 1 − β₁, the weight of the newest gradient."),
                (1.8 / 0.2, "the other way round: a mean of noise is shorter than what it is a mean of."),
                (math.sqrt(0.2 / 1.8), "that is the ratio of the lengths; the agreement is its square."),
            ],
            tolerance=0.02,
        ),
        0.2 / 1.8,
        "(1 − β₁)/(1 + β₁) = 0.2/1.8 = 0.11.",
        ["It is the second line of the brace.", "Put β₁ = 0.8 into (1 − β₁)/(1 + β₁)."],
    ),
    Exercise(
        "16.2",
        _progress,
        "progress",
        PROGRESS,
        ["zip(losses[:-1], losses[1:]) gives the pairs of neighbours.", "The first minus the last, over Σ |b − a|."],
        code=True,
    ),
    Exercise(
        "16.3",
        Number(
            50 / 203,
            "50 of 203. With more trials the share falls: the waits double, and a trial is always ten.",
            [
                (50 / 153, "that is in units of the first-order evaluations alone; all evaluations are 153 + 50."),
                (10 / 90, "that is the last trial with its own wait; the earlier ones were made as well."),
                (50 / 130, "the waits add up: 3 + 10 + 20 + 40 + 80."),
            ],
        ),
        50 / 203,
        "3 + 10 + 20 + 40 + 80 = 153 first-order evaluations and 5 · 10 = 50 of trials: 50/203 = 25 %.",
        ["How many first-order evaluations are there in all?", "Trials over trials plus first-order evaluations."],
    ),
    Exercise(
        "16.4",
        Choice(
            "b",
            "the line search makes the loss of *its* batch fall. That is as true of a step that has learned nothing but this batch.",
            {
                "a": "it is the same on each batch by the line search; it says nothing of the other batches.",
                "c": "the step does lower it: the line search accepts no other.",
            },
        ),
        "b",
        "(b). Ask for the loss on the next batch, as the rule does.",
        ["Which loss does the line search look at?", "Whom does the gain have to convince?"],
    ),
    Exercise(
        "16.5",
        _stalled,
        "stalled",
        STALLED,
        [
            "The loss ten steps ago is losses[-11].",
            "Compare losses[-11] − losses[-1] with a hundredth of losses[0] − losses[-1].",
        ],
        code=True,
    ),
)
