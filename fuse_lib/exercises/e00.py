"""The exercises of notebook 00."""

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, call

COUNT_CLOSURES = '''
def cost(reports):
    """All closure calls of a run, from the reports of its steps."""
    return sum(report.evals for report in reports)
'''


def _cost(function: object) -> str:
    from fuse_lib.optim.report import StepReport

    def run(*evals: int) -> list[StepReport]:
        reports = [StepReport(phase="first_order", theta=1.0) for _ in evals]
        for report, n in zip(reports, evals, strict=True):
            report.set(evals=n)
        return reports

    for evals in [(1, 1, 1), (1, 1, 3, 1, 2), (25,)]:
        got = call(function, run(*evals))
        if got == len(evals) != sum(evals):
            raise Wrong("that is the number of steps. A step may call the closure more than once: add up `evals`")
        if got == evals[-1] != sum(evals):
            raise Wrong("that is the cost of the last step alone; add up those of all steps")
        if got != sum(evals):
            raise Wrong(f"for steps with evals {list(evals)} it gave {got!r}, but {sum(evals)} calls were made")
    return "each closure call is one gradient evaluation, the unit in which this course counts cost."


EXERCISES = (
    Exercise(
        "00.1",
        Choice(
            "b",
            "the line search may need the loss and gradient at several points, so it must be able to compute them itself.",
            {
                "a": "L-BFGS needs first derivatives only: the curvature comes from differences of gradients.",
                "c": "backward is called inside the closure, by your code, for every optimizer.",
            },
        ),
        "b",
        "(b). A line search tries a step, looks, and may try another. Each look is a loss and a gradient at other parameters.",
        ["What does an L-BFGS step do that an Adam step does not?", "Look at `evals` in the reports of section 5."],
    ),
    Exercise(
        "00.2",
        Choice(
            "c",
            "noise in the difference of two gradients passes for curvature, and the direction built on it is poor.",
            {
                "a": "small batches make an evaluation cheaper for everyone alike.",
                "b": "it would fit: its memory is 2·m vectors, whatever the batch. The trouble is noise.",
            },
        ),
        "c",
        "(c). y = g_new − g_old holds curvature only if both gradients are of the same function. See section 6.",
        ["Section 6 has it.", "From what does L-BFGS learn the curvature? What else changes between two minibatches?"],
    ),
    Exercise(
        "00.3",
        Number(
            260,
            "100 steps of Adam cost 100, and 80 · 1 + 20 · 4 = 160 come after.",
            [
                (200, "that counts each step as one evaluation, but 20 of the L-BFGS steps took four."),
                (180, "the 80 L-BFGS steps that took one evaluation are missing, or the 20 others are counted once."),
                (160, "that is the second phase alone; Adam's steps cost one evaluation each."),
                (500, "only 20 of the 100 L-BFGS steps took four evaluations."),
            ],
        ),
        260,
        "100 · 1 + 80 · 1 + 20 · 4 = 260 gradient evaluations.",
        ["What does one step of Adam cost?", "100 for Adam; then 80 steps of one and 20 steps of four evaluations."],
    ),
    Exercise(
        "00.4",
        _cost,
        "cost",
        COUNT_CLOSURES,
        ["Each report knows how often its step called the closure.", "`sum(... for report in reports)`"],
        code=True,
    ),
    Exercise(
        "00.5",
        Choice(
            "a",
            "accuracy was at its best before the switch, so a lower training loss bought nothing that you wanted.",
            {
                "b": "look at the right panel: the accuracy does not follow the training loss.",
                "c": "its steps cost about one evaluation each, as Adam's do; cost is not the reason here.",
            },
        ),
        "a",
        "(a). FUSE minimises. If test accuracy has stopped rising, stop early, add data or regularise; a better minimiser is no help.",
        ["Which of the two panels shows what you want here?", "Where is the right panel's maximum?"],
    ),
)
