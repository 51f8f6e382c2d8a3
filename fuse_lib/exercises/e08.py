"""The exercises of notebook 08."""

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, call

MOST = '''
def most_evaluations(epochs, adam_epochs, minibatches):
    """Adam takes one evaluation a minibatch, a step of L-BFGS up to 5 and one more after it."""
    return minibatches * (adam_epochs + 6 * (epochs - adam_epochs))
'''


def _most(function: object) -> str:
    for epochs, adam, minibatches in [(7, 3, 97), (100, 3, 97), (5, 0, 10), (4, 4, 20)]:
        right, got = minibatches * (adam + 6 * (epochs - adam)), call(function, epochs, adam, minibatches)
        said = f"for {epochs} epochs, {adam} of them Adam's, of {minibatches} minibatches it gave {got!r}"
        if isinstance(got, bool) or not isinstance(got, int | float):
            raise Wrong(f"{said}; the answer is a number")
        for mistake, why in (
            (minibatches * (adam + 5 * (epochs - adam)), "the evaluation after each step of L-BFGS is missing"),
            (
                minibatches * (adam + 4 * (epochs - adam)),
                "torch's limit of 4 lets 5 through, and one more follows the step",
            ),
            (6 * minibatches * epochs, "Adam's epochs cost 1 a minibatch, not 6"),
            (minibatches * 6 * (epochs - adam), "Adam's own epochs are missing"),
            (adam + 6 * (epochs - adam), "an epoch has many minibatches"),
        ):
            if got == mistake != right:
                raise Wrong(f"{said}, but {why}")
        if got != right:
            raise Wrong(f"{said}, and not {right}")
    return "for 7 epochs of 97 minibatches that is 2,619, where Adam takes 679: nearly four times; for 100 epochs, nearly six."


EXERCISES = (
    Exercise(
        "08.1",
        Number(
            7,
            "int((7 − 4)/3) = 1: with 7 there is one dense layer in each block, with 5 or 6 none.",
            [
                (5, "int((5 − 4)/3) = int(0.33) = 0: this is the code's setting, and has none."),
                (6, "int((6 − 4)/3) = int(0.67), and int rounds down, to 0."),
                (4, "int(0/3) = 0."),
                (10, "with 10 there are two in each block; less will do."),
            ],
        ),
        7,
        "7: the smallest depth d with int((d − 4)/3) ≥ 1, that is d − 4 ≥ 3.",
        ["For which d is int((d − 4)/3) at least 1?", "int rounds down, so (d − 4)/3 must be at least 1."],
    ),
    Exercise(
        "08.2",
        Number(
            2.133,
            "so an accuracy on 500 images is uncertain by about as much as the whole difference that is quoted.",
            [
                (0.02133, "that is the share; the question is in percentage points."),
                (
                    0.0455,
                    "that is the variance of the percentage's hundredth, without the root: take the root of p(1 − p)/n.",
                ),
                (2.646, "the variance of one image is p(1 − p), not p."),
                (47.7, "that is of one image; the mean of 500 has 1/√500 of it."),
                (0.0954, "the standard deviation falls with √n, not with n."),
                (0.477, "with 10,000 images it would be that; here n = 500."),
            ],
            tolerance=0.02,
        ),
        2.133,
        "√(0.35 · 0.65 / 500) = √0.000455 = 0.0213, or 2.1 points; the quoted difference is 2.3.",
        ["Put p = 0.35 and n = 500 into the formula above.", "Then from a share to points: times 100."],
    ),
    Exercise(
        "08.3",
        Choice(
            "c",
            "an epoch of L-BFGS costs several of Adam's. What was paid is in the right panel.",
            {
                "a": "faster in what? Its steps take several evaluations each, and as many times the seconds.",
                "b": "it evaluates each image several times where Adam does once, so it has not made more of each evaluation.",
            },
        ),
        "c",
        "(c). The axis counts minibatches drawn, and FUSE evaluates each of them several times.",
        ["How many gradient evaluations are behind one minibatch, for Adam and for L-BFGS?", "Compare the two panels."],
    ),
    Exercise(
        "08.4",
        _most,
        "most_evaluations",
        MOST,
        [
            "Adam's minibatches and L-BFGS's cost differently: count each kind, then add.",
            "minibatches · (adam_epochs · 1 + (epochs − adam_epochs) · 6)",
        ],
        code=True,
    ),
    Exercise(
        "08.5",
        Choice(
            "b",
            "a baseline at equal cost and at its own best is what separates the optimizer from its circumstances.",
            {
                "a": "it would narrow the interval around a number whose meaning is the open question.",
                "c": "the hardware changes seconds, not which of the two is further at equal cost.",
                "d": "more decimals of the same measurement say the same.",
            },
        ),
        "b",
        "(b). More seeds make an answer more exact; equal cost and tuning decide which question it answers.",
        [
            "Which of them changes the question that the number answers?",
            "What differs between the contestants, besides the optimizer?",
        ],
    ),
)
