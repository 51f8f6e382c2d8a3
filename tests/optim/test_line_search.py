"""The line search on functions of one variable, kind and unkind. To add a function, put it into FUNCTIONS."""

from __future__ import annotations

import ast
import math
import statistics
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_lib.optim import line_search
from fuse_lib.optim.line_search import Result, Sample, better, search

Function = Callable[[float], tuple[float, float]]  # t → (φ(t), φ'(t))
EPS32 = 2.0**-23


class Trials:
    """A search on a function, and every sample that it took."""

    def __init__(self, function: Function, first: float = 1.0, **options) -> None:
        self.samples: list[Sample] = []
        self.start = Sample(0.0, *function(0.0))

        def phi(t: float) -> Sample:
            self.samples.append(Sample(t, *function(t)))
            return self.samples[-1]

        self.result: Result = search(phi, self.start, first, **options)

    def check(self, max_evals: int = 25) -> None:
        """What holds whatever the function is."""
        best, evals, status = self.result
        finite = [s for s in self.samples if s.finite]
        assert evals == len(self.samples) <= max_evals
        assert all(0.0 < s.t < math.inf for s in self.samples)
        assert best in [self.start, *finite]
        assert best.f == min(s.f for s in [self.start, *finite])
        assert status in ("wolfe", "approximate", "best", "failed")
        assert (best == self.start) == (status == "failed")
        assert status != "best" or best.f < self.start.f


def decreases(start: Sample, new: Sample, c1: float = 1e-4) -> bool:
    return new.f <= start.f + c1 * new.t * start.slope


def strong_wolfe(start: Sample, new: Sample, c1: float = 1e-4, c2: float = 0.9) -> bool:
    return decreases(start, new, c1) and abs(new.slope) <= c2 * abs(start.slope)


def approximate_wolfe(start: Sample, new: Sample, noise: float, c1: float = 1e-4, c2: float = 0.9) -> bool:
    return start.f - noise <= new.f <= start.f and (2 * c1 - 1) * start.slope >= new.slope >= c2 * start.slope


# ---- functions; each falls at 0
def quadratic(at: float, height: float = 1.0, floor: float = 0.0) -> Function:
    return lambda t: (floor + height * (t / at - 1) ** 2, 2 * height / at * (t / at - 1))


def quartic(t: float) -> tuple[float, float]:
    return (t - 1) ** 4, 4 * (t - 1) ** 3


def cubic(t: float) -> tuple[float, float]:
    """Falls to its minimum at 1; has no other, and none at all to the left of −1."""
    return t**3 / 3 - t, t**2 - 1


def rosenbrock_like(t: float) -> tuple[float, float]:
    return (1 - t) ** 2 + 100 * (t - t * t) ** 2, -2 * (1 - t) + 200 * (t - t * t) * (1 - 2 * t)


def log_barrier(wall: float, beyond: float) -> Function:
    """−t − 0.01 log(wall − t), and `beyond` (inf or NaN) from the wall on."""

    def function(t: float) -> tuple[float, float]:
        if t >= wall:
            return beyond, math.nan
        return -t / wall - 0.01 * math.log(1 - t / wall), (-1 + 0.01 / (1 - t / wall)) / wall

    return function


def exponential(rate: float) -> Function:
    """exp(rate t) − 2 rate t: overflows soon beyond its minimum."""

    def function(t: float) -> tuple[float, float]:
        e = math.exp(rate * t) if rate * t < 700 else math.inf
        return e - 2 * rate * t, rate * e - 2 * rate

    return function


def wave(t: float) -> tuple[float, float]:
    return (t - 2) ** 2 / 20 + math.cos(3 * t) / 3 - t / 2, (t - 2) / 10 - math.sin(3 * t) - 0.5


def softplus(t: float) -> tuple[float, float]:
    """Falls for ever, to 0."""
    return math.log1p(math.exp(-t)) if t > -30 else -t, -1 / (1 + math.exp(min(t, 700)))


SMOOTH: dict[str, Function] = {
    "quadratic": quadratic(1.0),
    "quadratic, minimum at 0.001": quadratic(1e-3),
    "quadratic, minimum at 1000": quadratic(1e3),
    "quadratic, high up": quadratic(1.0, floor=1e6),
    "quartic": quartic,
    "cubic": cubic,
    "rosenbrock": rosenbrock_like,
    "barrier at 1, inf": log_barrier(1.0, math.inf),
    "barrier at 0.01, NaN": log_barrier(0.01, math.nan),
    "exponential": exponential(1.0),
    "steep exponential": exponential(1e4),
    "wave": wave,
    "softplus": softplus,
}


def absolute(t: float) -> tuple[float, float]:
    return abs(t - 0.7), math.copysign(1.0, t - 0.7)


def cliff(t: float) -> tuple[float, float]:
    """Falls evenly to a wall: no step fulfils the Wolfe conditions."""
    return (-t, -1.0) if t < 0.7 else (math.nan, math.nan)


def broken_line(t: float) -> tuple[float, float]:
    return (-t, -1.0) if t < 1 else (-1 - 0.95 * (t - 1), -0.95) if t < 3 else (-2.9 + 2 * (t - 3), 2.0)


def jump(t: float) -> tuple[float, float]:
    return (-t, -1.0) if t < 0.6 else (5 - t, -1.0)


def liar(t: float) -> tuple[float, float]:
    """Says that it falls, and rises."""
    return t, -1.0


def constant(t: float) -> tuple[float, float]:
    return 1.0, -1e-3


def bottomless(t: float) -> tuple[float, float]:
    return -t, -1.0


def only_at_the_start(t: float) -> tuple[float, float]:
    return (0.0, -1.0) if t == 0 else (math.nan, 1.0)


def no_slope(t: float) -> tuple[float, float]:
    """The value is finite and low, the slope is not: not a sample to end at."""
    return (0.0, -1.0) if t == 0 else (-1.0, math.nan)


ROUGH: dict[str, Function] = {
    "absolute value": absolute,
    "cliff": cliff,
    "broken line": broken_line,
    "jump": jump,
    "liar": liar,
    "constant": constant,
    "bottomless": bottomless,
    "NaN everywhere": only_at_the_start,
    "NaN slope": no_slope,
}
FUNCTIONS = SMOOTH | ROUGH
FIRST = [1e-8, 1e-3, 0.1, 1.0, 10.0, 1e3, 1e8]


# ---- what always holds
@pytest.mark.parametrize("max_evals", [1, 2, 25])
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_search_ends_at_the_best_finite_sample_within_its_budget(name, first, max_evals):
    Trials(FUNCTIONS[name], first, max_evals=max_evals).check(max_evals)


@pytest.mark.parametrize("constants", [(1e-4, 0.9), (1e-3, 0.1), (0.1, 0.2)], ids=str)
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("name", SMOOTH)
def test_on_smooth_functions_the_step_fulfils_the_strong_wolfe_conditions(name, first, constants):
    c1, c2 = constants
    run = Trials(SMOOTH[name], first, max_evals=60, c1=c1, c2=c2)
    assert run.result.status == "wolfe"
    assert strong_wolfe(run.start, run.samples[-1], c1, c2)


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_status_says_what_holds_at_the_last_sample(name, first):
    run = Trials(FUNCTIONS[name], first, noise=1e-9)
    last = run.samples[-1]
    held = {
        "wolfe": strong_wolfe(run.start, last),
        "approximate": approximate_wolfe(run.start, last, 1e-9),
        "best": not strong_wolfe(run.start, run.result.best) and run.result.best.f < run.start.f,
        "failed": all(not s.finite or s.f >= run.start.f for s in run.samples),
    }
    assert held[run.result.status]


def kinked(t: float) -> tuple[float, float]:
    """Falls evenly to a kink at 16, rises, and has a gentle slope from 18 on."""
    return (-t, -1.0) if t < 16 else (2 * t - 48, 2.0) if t < 18 else (-12 + 0.5 * (t - 18), 0.5)


def test_the_step_of_an_accepted_search_is_the_accepted_one():
    """The lowest sample seen, at t = 10, has the start's slope: sᵀy = 0, and L-BFGS would learn nothing from it."""
    run = Trials(kinked)
    assert run.result.status != "wolfe" or run.result.best.slope > run.start.slope


@pytest.mark.parametrize("name", ["liar", "constant", "NaN everywhere", "NaN slope"])
def test_without_a_lower_finite_sample_the_search_fails_and_stays_at_the_start(name):
    run = Trials(ROUGH[name])
    assert run.result.status == "failed"
    assert run.result.best is run.start


@pytest.mark.parametrize("first", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("name", "gain"), [("absolute value", 0.65), ("cliff", 0.65), ("jump", 0.55)])
def test_where_no_step_fulfils_the_conditions_most_of_the_descent_is_taken(name, gain, first):
    run = Trials(ROUGH[name], first)
    assert run.result.status == "best"
    assert run.start.f - run.result.best.f > gain


def test_a_sample_at_which_the_slope_is_not_finite_is_never_the_best():
    start = Sample(0.0, 0.0, -1.0)
    assert not better(Sample(1.0, -1.0, math.nan), start)
    assert not better(Sample(1.0, -math.inf, 0.0), start)
    assert better(Sample(1.0, -1.0, 5.0), start)


def test_of_two_samples_at_one_height_the_flatter_is_better():
    assert better(Sample(1.0, 0.0, 0.5), Sample(0.0, 0.0, -1.0))
    assert not better(Sample(1.0, 0.0, 1.0), Sample(0.0, 0.0, -1.0))


@pytest.mark.parametrize("scale", [1e-100, 1e-8, 1e8, 1e100])
@pytest.mark.parametrize("name", ["quadratic", "quartic", "cubic", "wave", "absolute value"])
def test_the_unit_of_f_does_not_matter(name, scale):
    def scaled(t: float) -> tuple[float, float]:
        f, slope = FUNCTIONS[name](t)
        return scale * f, scale * slope

    plain, other = Trials(FUNCTIONS[name], 7.0), Trials(scaled, 7.0)
    assert [s.t for s in other.samples] == pytest.approx([s.t for s in plain.samples])


# ---- how many evaluations
@pytest.mark.parametrize(("first", "most"), [(1e-6, 8), (1e-3, 5), (0.3, 1), (1.0, 1), (1.7, 1), (100.0, 3), (1e6, 10)])
def test_a_quadratic_is_cheap_from_any_first_trial(first, most):
    assert Trials(quadratic(1.0), first).result.evals <= most


@pytest.mark.parametrize("first", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions_need_few_evaluations_from_a_first_trial_that_is_far_off(name, first):
    assert Trials(SMOOTH[name], first, max_evals=60).result.evals <= 20


def more_thuente() -> list[tuple[Function, float, float]]:
    """The six functions of Moré & Thuente (ACM Trans. Math. Softw. 20, 1994), with their μ and η."""

    def first(t: float, b: float = 2.0) -> tuple[float, float]:
        return -t / (t * t + b), (t * t - b) / (t * t + b) ** 2

    def second(t: float, b: float = 0.004) -> tuple[float, float]:
        return (t + b) ** 5 - 2 * (t + b) ** 4, 5 * (t + b) ** 4 - 8 * (t + b) ** 3

    def third(t: float, b: float = 0.01, waves: int = 39) -> tuple[float, float]:
        near = abs(t - 1) < b
        base = (t - 1) ** 2 / (2 * b) + b / 2 if near else abs(t - 1)
        slope = (t - 1) / b if near else math.copysign(1.0, t - 1)
        angle = waves * math.pi / 2 * t
        return base + 2 * (1 - b) / (waves * math.pi) * math.sin(angle), slope + (1 - b) * math.cos(angle)

    def yanai(b1: float, b2: float) -> Function:
        def gamma(b: float) -> float:
            return math.sqrt(1 + b * b) - b

        def function(t: float) -> tuple[float, float]:
            right, left = math.hypot(1 - t, b2), math.hypot(t, b1)
            return gamma(b1) * right + gamma(b2) * left, -gamma(b1) * (1 - t) / right + gamma(b2) * t / left

        return function

    flat = [(yanai(0.001, 0.001), 1e-3, 1e-3), (yanai(0.01, 0.001), 1e-3, 1e-3), (yanai(0.001, 0.01), 1e-3, 1e-3)]
    return [(first, 1e-3, 0.1), (second, 0.1, 0.1), (third, 0.1, 0.1), *flat]


STEPS = [1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1e3]
CASES = [(case, step) for case in more_thuente() for step in STEPS]


@pytest.mark.parametrize(("number", "first"), [(n, t) for n in range(1, 7) for t in STEPS])
def test_more_and_thuentes_functions_with_their_constants(number, first):
    function, mu, eta = more_thuente()[number - 1]
    run = Trials(function, first, c1=mu, c2=eta)
    assert run.result.status in ("wolfe", "approximate")  # the latter where φ equals φ(0) to the last bit
    assert run.result.status == "approximate" or strong_wolfe(run.start, run.result.best, mu, eta)


def test_it_needs_no_more_evaluations_on_them_than_more_and_thuentes_search():
    dcsrch = pytest.importorskip("scipy.optimize._dcsrch").DCSRCH

    def theirs(function: Function, mu: float, eta: float, first: float) -> int:
        calls: list[float] = []

        def phi(t: float) -> float:
            calls.append(t)
            return function(t)[0]

        reference = dcsrch(phi, lambda t: function(t)[1], mu, eta, 1e-15, 1e-50, 1e50)
        start, slope = function(0.0)
        assert reference(first, phi0=start, derphi0=slope, maxiter=100)[3][:4] == b"CONV"
        return len(calls)

    own = [Trials(f, step, c1=mu, c2=eta).result.evals for (f, mu, eta), step in CASES]
    reference = [theirs(f, mu, eta, step) for (f, mu, eta), step in CASES]
    print(f"evaluations of {len(CASES)} searches: median {statistics.median(own)}, sum {sum(own)};")
    print(f"of MINPACK-2's dcsrch: median {statistics.median(reference)}, sum {sum(reference)}")
    assert statistics.median(own) <= statistics.median(reference)
    assert sum(own) <= sum(reference)


# ---- close to the rounding floor
def float32(x: float) -> float:
    return struct.unpack("f", struct.pack("f", x))[0]


def rounded(function: Function) -> Function:
    """As a loss in float32 is seen. (The slope, a product of gradients, keeps its relative precision.)"""
    return lambda t: tuple(map(float32, function(t)))


@pytest.mark.parametrize("size", [1e-3, 3e-4, 1e-4])
@pytest.mark.parametrize("minimum", [0.03, 0.3, 1.0, 3.0, 8.0])
def test_near_the_floor_the_slopes_are_believed(minimum, size):
    """φ falls by size² from 1: the values of 1 + … say little or nothing, the slopes everything."""
    run = Trials(rounded(quadratic(minimum, height=size**2, floor=1.0)), noise=EPS32)
    run.check()
    assert run.result.status in ("wolfe", "approximate")
    assert run.result.evals <= 6
    assert abs(run.result.best.t - minimum) < minimum  # so before the rounding it is below the start


@pytest.mark.parametrize("minimum", [0.1, 0.5, 2.0])
def test_an_approximate_step_fulfils_the_approximate_conditions(minimum):
    run = Trials(rounded(quadratic(minimum, height=1e-9, floor=1.0)), noise=EPS32)
    assert run.result.status == "approximate"
    assert approximate_wolfe(run.start, run.samples[-1], EPS32)


@pytest.mark.parametrize(
    ("above", "status"),
    [(0, "approximate"), (-1, "approximate"), (-2, "best"), (1, "failed")],
)
def test_the_approximate_test_is_for_values_within_the_noise_and_not_above_the_start(above, status):
    """A flat sample some rounding errors above the start, far from enough below it for the first condition."""
    start, flat = Sample(0.0, 1.0, -0.1), Sample(1.0, 1.0 + above * EPS32, 0.0)
    assert search(lambda t: flat, start, 1.0, max_evals=1, noise=EPS32).status == status


def test_a_value_in_the_noise_above_the_start_does_not_turn_the_search_back():
    """The minimum is at 5. The last bit of φ says at 1 that it was passed, the slope that it was not."""
    run = Trials(lambda t: (1.0 + EPS32 * (0 < t < 3), 1e-9 * (t / 5 - 1)), noise=EPS32)
    assert run.result.status == "approximate"
    assert 3 <= run.result.best.t <= 10


@pytest.mark.parametrize("first", [1e-3, 1.0, 1e3])
def test_a_search_that_can_show_nothing_ends_soon(first):
    """In this bracket φ could fall by less than its rounding error."""
    run = Trials(lambda t: (1.0 if t == 0 else 1.0 + EPS32, -1e-12 if t == 0 else 1e-12), first, noise=EPS32)
    assert run.result.status == "failed"
    assert run.result.evals <= 2


# ---- anything at all
ANY = st.floats(allow_nan=True, allow_infinity=True)
POSITIVE = st.floats(min_value=1e-12, max_value=1e12)


@settings(max_examples=300, deadline=None)
@given(
    answers=st.lists(st.tuples(ANY, ANY), min_size=1, max_size=25),
    f=st.floats(-1e6, 1e6),
    slope=st.floats(-1e6, -1e-6),
    first=POSITIVE,
    noise=st.sampled_from([0.0, 1e-7]),
)
def test_an_adversary_can_neither_lead_it_uphill_nor_make_it_go_on(answers, f, slope, first, noise):
    """φ answers what it likes, whatever t is."""
    queue = iter(answers)
    Trials(lambda t: (f, slope) if t == 0 else next(queue), first, max_evals=len(answers), noise=noise).check(
        len(answers)
    )


@settings(max_examples=300, deadline=None)
@given(
    coefficients=st.tuples(*4 * [st.floats(-10, 10)]),
    frequency=st.floats(0.1, 20),
    wall=st.floats(1e-3, 1e3),
    first=POSITIVE,
)
def test_random_smooth_functions_with_a_wall(coefficients, frequency, wall, first):
    a, b, c, d = coefficients

    def function(t: float) -> tuple[float, float]:
        if t >= wall:
            return math.inf, math.nan
        s, co = math.sin(frequency * t + d), math.cos(frequency * t + d)
        gap = 1 - t / wall
        f = a * t + b * t**2 / wall + c * s - 0.1 * math.log(gap)
        return f, a + 2 * b * t / wall + c * frequency * co + 0.1 / wall / gap

    if not function(0.0)[1] < 0:
        return
    run = Trials(function, first, max_evals=60)
    run.check(60)
    if run.result.status == "wolfe":
        assert strong_wolfe(run.start, run.samples[-1])
    assert run.result.status in ("wolfe", "best")


# ---- what the file is made of
def test_the_search_knows_no_tensor():
    tree = ast.parse(Path(line_search.__file__).read_text(encoding="utf-8"))
    imported = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= {"__future__", "math", "collections.abc", "typing"}


def test_the_noise_is_computed_once_and_only_where_it_may_decide():
    asked = []

    def noise():
        asked.append(1e-9)
        return asked[-1]

    def phi(t):
        return Sample(t, (t - 1) ** 4 + 0.1 * t, 4 * (t - 1) ** 3 + 0.1)

    assert search(phi, phi(0.0), 1.0, noise=noise).status == "wolfe"
    assert not asked
    found = search(phi, phi(0.0), 40.0, noise=noise)
    assert found.evals > 2
    assert len(asked) == 1
    assert found == search(phi, phi(0.0), 40.0, noise=1e-9)
