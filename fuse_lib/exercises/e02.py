"""The exercises of notebook 02."""

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, call

WOLFE = '''
def accepted(t, f0, slope0, f, slope, c1=1e-4, c2=0.9):
    """Whether a step t satisfies the strong Wolfe conditions."""
    decrease = f <= f0 + c1 * t * slope0
    curvature = abs(slope) <= c2 * abs(slope0)
    return decrease and curvature
'''

# (t, φ(0), φ'(0), φ(t), φ'(t), c1, c2), whether it is accepted, and what is wrong with a function that says otherwise
WOLFE_CASES = (
    ((1.0, 1.0, -1.0, 0.5, -0.1, 1e-4, 0.9), True, "it lies low and is flat: both conditions hold"),
    ((1.0, 1.0, -1.0, 1.5, 0.1, 1e-4, 0.9), False, "the loss went up: where is the sufficient decrease?"),
    ((1.0, 1.0, -1.0, 0.5, 0.95, 1e-4, 0.9), False, "it rises steeply there. *Strong* Wolfe takes |φ'(t)|"),
    ((1.0, 1.0, -1.0, 0.5, -0.95, 1e-4, 0.9), False, "it still falls steeply there: the curvature condition fails"),
    ((4.0, 1.0, -1.0, 0.3, 0.1, 0.2, 0.9), False, "a longer step has to earn more: c1 is multiplied by t"),
    ((1.0, 1.0, -1.0, 0.95, 0.1, 0.3, 0.9), False, "it went down by less than c1 asks for"),
    ((1.0, 1.0, -4.0, 0.5, -1.0, 1e-4, 0.9), True, "the slope is compared with that at the start, not with c2 itself"),
    ((0.1, 1.0, -1.0, 0.95, -0.8, 0.3, 0.9), True, "0.95 is below 1 − 0.3 · 0.1, and 0.8 below 0.9"),
)


def _wolfe(function: object) -> str:
    for inputs, right, why in WOLFE_CASES:
        got = call(function, *inputs)
        if not hasattr(got, "__bool__") or isinstance(got, str | int) != isinstance(got, bool):
            raise Wrong(f"the answer is True or False; your function returned {got!r}")
        if bool(got) != right:
            t, f0, slope0, f, slope, c1, c2 = inputs
            case = f"t={t}, f0={f0}, slope0={slope0}, f={f}, slope={slope}, c1={c1}, c2={c2}"
            raise Wrong(f"for {case} the right answer is {right}: {why}")
    return "these two lines are the heart of `fuse_lib/optim/line_search.py`."


EXERCISES = (
    Exercise(
        "02.1",
        Choice(
            "b",
            "d² numbers and d products, against 2md numbers that come as a by-product.",
            {
                "a": "they are less accurate: an average along the step, and rounding if it is short.",
                "c": "it exists wherever the loss is smooth; it is only too large.",
            },
        ),
        "b",
        "(b). The gradients are computed anyway, and their differences along the steps hold what curvature is needed. A Hessian has d² entries "
        "and takes d Hessian-vector products, then a linear system.",
        ["Look at the table above.", "How do memory and cost grow with d?"],
    ),
    Exercise(
        "02.2",
        Number(
            80,
            "2 · 10 · 10⁶ numbers of 4 bytes. Adam keeps 8 MB.",
            [
                (40, "that is S alone; the history keeps Y, too."),
                (160, "that would be float64; float32 has 4 bytes."),
                (20, "that is how many million numbers; each has 4 bytes."),
                (4e6, "that is the Hessian."),
                (80e6, "that is in bytes."),
            ],
        ),
        80,
        "2 m d = 2 · 10 · 10⁶ numbers, times 4 bytes: 80 MB. (The Hessian would take 4 · 10¹² bytes, 4 TB.)",
        ["Which vectors are kept, and how many?", "2 · m · d numbers of 4 bytes."],
    ),
    Exercise(
        "02.3",
        Number(
            1.5,
            "the curvature is y/s = 4, so the step is −6/4.",
            [
                (-1.5, "that is the step; where does it lead from x = 3?"),
                (4.5, "the wrong way: go against the gradient."),
                (-21, "the gradient is divided by the curvature, not multiplied."),
                (2.5, "the step starts at x = 3 with gradient 6, or at 4 with 10; do not mix them."),
                (0.5, "start at x = 3, or from x = 4 use the gradient there, 10."),
            ],
        ),
        1.5,
        "s = −1, y = −4: curvature y/s = 4. From x = 3 with gradient 6: x = 3 − 6/4 = 1.5.",
        ["What are s and y, and what is their ratio?", "The curvature is 4. Newton's step is −g/4."],
    ),
    Exercise(
        "02.4",
        _wolfe,
        "accepted",
        WOLFE,
        ["Two conditions, both must hold.", "f <= f0 + c1 * t * slope0, and abs(slope) <= c2 * abs(slope0)"],
        code=True,
    ),
    Exercise(
        "02.5",
        Number(
            3,
            "0.5 · (−2 + 8) = 3: positive, as Wolfe promises.",
            [
                (6, "that is the difference of the slopes; s = t p brings a factor t."),
                (-3, "y is the new gradient minus the old one: −2 − (−8)."),
                (-5, "a difference is wanted, not the sum of the slopes."),
                (12, "multiply by t, do not divide."),
                (5, "a difference is wanted, and the slopes are both negative."),
            ],
        ),
        3,
        "sᵀy = t (φ'(t) − φ'(0)) = 0.5 · (−2 − (−8)) = 3.",
        ["The formula is above, in section 4.", "s = t p, and pᵀg is the slope at either end."],
    ),
    Exercise(
        "02.6",
        Choice(
            "a",
            "its length comes from the model of the curvature; a search makes sure of the decrease and of sᵀy > 0.",
            {
                "b": "look at t = 0.01: a hundred evaluations do what ten did with the search.",
                "c": "the two loops need pairs and a gradient, nothing else. It is the step's length that is in question.",
            },
        ),
        "a",
        "(a). Adam's step is about α long, whatever the gradient. −Hg is gradient over curvature and as long as it likes: 1 is right only where the model is. "
        "Wolfe checks that, and gives a valid pair.",
        [
            "What bounds the length of Adam's step? And that of −Hg?",
            "Which of the fixed steps arrived from both starts?",
        ],
    ),
    Exercise(
        "02.7",
        Choice(
            "c",
            "sᵀy ≤ 0 all along: the function curves downwards there, and there is nothing to be learnt for a minimum.",
            {
                "a": "nine pairs were collected; none had sᵀy > 0, and more of the kind would be no better.",
                "b": "nine were collected, so it moved. What counts is the sign of sᵀy.",
            },
        ),
        "c",
        "(c). Pairs with sᵀy ≤ 0 come from where the function curves downwards along the path: a plateau or a rim. It is too early.",
        ["Collected were nine. Why were they not of use?", "Look at the last but one figure, at the early switches."],
    ),
)
