"""The exercises of notebook 06."""

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, call

CHOOSE = '''
def choose(trials):
    """The setting with the highest mean held-out accuracy; of those that tie, the one with the lowest mean held-out loss."""
    def mean(values):
        return sum(values) / len(values)
    return max(trials, key=lambda t: (mean(t["held_out_accuracy"]), -mean(t["held_out_loss"])))["setting"]
'''


def _trials(*rows: tuple[str, list[float], list[float], float]) -> list[dict]:
    keys = ("setting", "held_out_accuracy", "held_out_loss", "test_accuracy")
    return [dict(zip(keys, row, strict=True)) for row in rows]


# Each with the right answer, and what the answers are that a usual mistake gives.
CASES = [
    (
        _trials(("lr=0.001", [0.75, 0.5], [0.5, 0.5], 0.25), ("lr=0.01", [0.5, 0.5], [0.5, 0.5], 0.875)),
        "lr=0.001",
        {"lr=0.01": "that one is best on the test rows, which a choice must not look at"},
    ),
    (
        _trials(("a", [0.875, 0.25], [0.5, 0.5], 0.5), ("b", [0.75, 0.75], [0.5, 0.5], 0.5)),
        "b",
        {"a": "that one has the best single seed; the mean over the seeds is asked for"},
    ),
    (
        _trials(
            ("a", [0.5, 0.5], [0.25, 0.25], 0.5),
            ("b", [0.75, 0.5], [1.0, 0.5], 0.5),
            ("c", [0.5, 0.75], [0.5, 0.5], 0.5),
        ),
        "c",
        {
            "b": "two settings tie in accuracy, and the other one has the lower held-out loss",
            "a": "that one has the lowest loss, but accuracy comes first",
        },
    ),
    (_trials(("only", [0.5], [1.0], 0.5)), "only", {}),
]


def _choose(function: object) -> str:
    for trials, right, mistakes in CASES:
        got = call(function, [dict(trial) for trial in trials])
        if got == right:
            continue
        if isinstance(got, dict):
            raise Wrong("it gave a whole trial; the answer is its `setting`")
        said = mistakes.get(got) if isinstance(got, str) else None
        raise Wrong(f"for {trials} it gave {got!r}, not {right!r}" + (f": {said}" if said else ""))
    return "means over the tuning seeds, a rule for ties that was fixed before, and no look at the test rows."


EXERCISES = (
    Exercise(
        "06.1",
        Number(
            117.1875,
            "60,000 / 512. A full-batch step with one evaluation costs as much as 117 steps of Adam.",
            [
                (1.0, "one evaluation each, but the cost is counted in rows: 60,000 against 512."),
                (0.008533, "the other way round: how many minibatches of 512 rows are in 60,000?"),
                (2343.75, "that is the whole budget of 20 passes."),
            ],
        ),
        117.1875,
        "60,000 rows / 512 rows a step = 117.2 steps: one pass.",
        ["The budget is counted in rows that a gradient is computed on.", "How many minibatches make one pass?"],
    ),
    Exercise(
        "06.2",
        _choose,
        "choose",
        CHOOSE,
        [
            "`max` takes a `key`; a tuple is compared place by place.",
            "The key: (mean accuracy, minus mean loss). Of what `max` returns the answer is the `setting`.",
        ],
        code=True,
    ),
    Exercise(
        "06.3",
        Number(
            2.0,
            '5 · 4 · 2 = 40 intervals, of which one in twenty. Two "findings", with nothing to find.',
            [
                (0.05, "that is the chance of one interval. How many are there?"),
                (40.0, "that is how many intervals there are; one in twenty of them leaves zero out."),
                (1.0, "five baselines, four data sets and *two* measures."),
                (38.0, "those are the ones that hold zero."),
                (
                    0.8715,
                    "that is the chance that at least one does (were they independent); the mean number is asked for.",
                ),
            ],
        ),
        2.0,
        "5 baselines · 4 data sets · 2 measures = 40 intervals; 40 · 0.05 = 2, whether or not they depend on one another.",
        [
            "How many intervals are there?",
            "Each leaves zero out with probability 0.05; the mean of a sum is the sum of the means.",
        ],
    ),
    Exercise(
        "06.4",
        Number(
            0.4,
            "30 of 50 passes are 60 %, so the switch comes at 40 % of the budget at the latest.",
            [
                (0.6, "that is the share after the switch; F is the share before it."),
                (20.0, "those are the passes before the switch; F is their share of the 50."),
                (0.8, "with 20 % of 50 passes left there are 10 full gradients."),
                (0.375, "that is 30 of 80; the budget is 50 passes."),
            ],
        ),
        0.4,
        "A full-batch gradient costs one pass, however many images there are. 50 − 30 = 20 passes before the switch, F = 20/50 = 0.4.",
        [
            "How many passes does one full-batch gradient cost?",
            "Which share of 50 passes may be gone when 30 are to be left?",
        ],
    ),
    Exercise(
        "06.5",
        Choice(
            "b",
            "the seeds are shared, so what counts is the scatter of the differences, which may be much smaller, or larger.",
            {
                "a": "overlapping intervals of two means are no test of their difference, least of all where the runs are paired.",
                "c": "the higher mean may be luck. The interval of the difference says how well it is known.",
            },
        ),
        "b",
        "(b). If each seed has the first 0.3 ahead, the difference is 0.3 ± 0.0; if the runs of one seed have nothing in common, about 0.3 ± 0.4. The means do not tell.",
        ["What do two runs of one seed share?", "Which numbers would `lab.paired` look at?"],
    ),
)
