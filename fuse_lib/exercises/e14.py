"""The exercises of notebook 14."""

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, as_float, call

GPU_STEP = '''
def gpu_step(kernels, reads, nbytes, bandwidth):
    """Seconds of an iteration: the queue or the memory, whichever takes longer, and the waiting."""
    return max(5e-6 * kernels, nbytes / bandwidth) + 10e-6 * reads
'''


def _reference(kernels: float, reads: float, nbytes: float, bandwidth: float) -> float:
    return max(5e-6 * kernels, nbytes / bandwidth) + 10e-6 * reads


def _gpu_step(function: object) -> str:
    for inputs in [(20, 2, 1e6, 1e12), (120, 29, 4e6, 2e12), (20, 2, 6e9, 3e12), (10, 0, 3e8, 1e12)]:
        right, got = _reference(*inputs), as_float(call(function, *inputs))
        kernels, reads, nbytes, bandwidth = inputs
        said = f"for kernels, reads, bytes, bandwidth = {inputs} it gave {got:.4g}, not {right:.4g}"
        if abs(got - right) <= 1e-9 * right:
            continue
        if abs(got - 1e6 * right) <= 1e-3 * right or abs(got - 1e3 * right) <= 1e-6 * right:
            raise Wrong(f"{said}: the result is in seconds")
        if abs(got - (5e-6 * kernels + nbytes / bandwidth + 10e-6 * reads)) <= 1e-9 * right:
            raise Wrong(
                f"{said}: the host fills the queue while the GPU works, so take the larger of the two, not the sum"
            )
        if abs(got - max(5e-6 * kernels, nbytes / bandwidth, 10e-6 * reads)) <= 1e-9 * right:
            raise Wrong(f"{said}: nothing overlaps with a read, so the reads are added")
        raise Wrong(said)
    return "small models pay for kernels and reads, large ones for bytes."


EXERCISES = (
    Exercise(
        "14.1",
        Choice(
            "b",
            "the closure's 6·b·d grows four times, the optimizer's passes over d numbers twice.",
            {
                "a": "the weights cancel, but the batch is in the closure's part only.",
                "c": "the optimizer's part doubles, but the closure's grows four times.",
            },
        ),
        "b",
        "(b), as long as the closure is most of the step. The closure is 6·b·d, four times as much; the optimizer's c·d, twice.",
        ["Which items of the table have b in them?", "Compare 6·(2b)·(2d) with c·(2d)."],
    ),
    Exercise(
        "14.2",
        _gpu_step,
        "gpu_step",
        GPU_STEP,
        [
            "Python's `max` takes two numbers.",
            "5 µs is 5e-6 s, 10 µs is 10e-6 s; the reads are added after the maximum.",
        ],
        code=True,
    ),
    Exercise(
        "14.3",
        Number(
            800.0,
            "2 · 20 vectors of 10 million numbers, 2 bytes each: as much as the model's own weights twenty times.",
            [
                (1600.0, "that is float32; bfloat16 takes 2 bytes a number."),
                (400.0, "a pair is two vectors, s and y."),
                (3200.0, "bfloat16 takes 2 bytes a number, not 8."),
                (0.8, "that is in gigabytes; megabytes are asked for."),
                (800e6, "that is in bytes; megabytes are asked for."),
                (200.0, "2 · m vectors of d numbers, 2 bytes each: both twos count."),
            ],
        ),
        800.0,
        "2 · m · d · 2 bytes = 2 · 20 · 10⁷ · 2 = 8 · 10⁸ bytes = 800 MB.",
        ["How many vectors are m pairs?", "A number in bfloat16 takes 2 bytes."],
    ),
    Exercise(
        "14.4",
        Number(
            800.0,
            "16 · 10 / 6 · 3 = 80 rows would make them equal; a tenth takes ten times as many.",
            [
                (80.0, "there both take the same time; a tenth is asked for."),
                (8.0, "a larger batch makes the share smaller."),
                (88.9, "there both take about the same time; a tenth is asked for."),
                (266.67, "the balance C/B = 3 is missing."),
                (88.889, "C/B is 60/20 = 3, not 1/3; and a tenth is asked for."),
                (200.0, "4·m·d numbers are 16·m·d bytes in float32."),
                (2400.0, "the closure takes 6 operations a weight and row, not 2."),
            ],
        ),
        800.0,
        "16·m/(6·b)·C/B ≤ 0.1 gives b ≥ 10 · 160/6 · 60/20 = 800.",
        ["Put m = 10 and C/B = 3 into the formula, and solve for b.", "160/(6·b) · 3 ≤ 0.1."],
    ),
    Exercise(
        "14.5",
        Choice(
            "c",
            "arithmetic became cheaper than moving numbers, so the closure shrinks more than the optimizer does.",
            {
                "a": "both parts are faster, but the closure by more: its share shrinks, and the optimizer's grows.",
                "b": "the formula has the factor C/B in it.",
            },
        ),
        "c",
        "(c). The batch is proportional to C/B: twenty times as large. This is why large batches and few passes matter on GPUs.",
        ["Where is C/B in the formula?", "Which of the two parts gains more from faster arithmetic?"],
    ),
    Exercise(
        "14.6",
        Choice(
            "b",
            "it takes so many more evaluations that their price does not help.",
            {
                "a": "divide seconds by evaluations for the price, but compare the seconds: Adam's are the most.",
                "c": "divide seconds by evaluations: L-BFGS's cost more each. It needs fewer.",
            },
        ),
        "b",
        "(b). Adam's evaluation takes about 0.8 ms against 1.2 ms, and Adam needs some twenty times as many.",
        ["Divide the seconds by the evaluations.", "And then compare the seconds themselves."],
    ),
)
