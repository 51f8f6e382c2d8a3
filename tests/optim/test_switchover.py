"""The switchover rules on synthetic traces, against the paper's definitions in a few lines of plain Python."""

from __future__ import annotations

import importlib
import math
import pydoc
import random
from itertools import pairwise

import pytest

from fuse_lib.optim.observation import Observation
from fuse_lib.optim.switchover import (
    ALLOWED,
    AlignedTheta,
    AllOf,
    Always,
    AnyOf,
    AtStep,
    Auto,
    ConstantTheta,
    CosineTheta,
    GradientNorm,
    LinearTheta,
    LossChange,
    Never,
    Rule,
    parse,
)

NAN, INF = math.nan, math.inf


def noisy(seed: int, n: int = 300) -> list[float]:
    """A decay to a plateau of 0.3, with multiplicative noise."""
    noise = random.Random(seed)
    return [(4 * math.exp(-k / 20) + 0.3) * noise.uniform(0.5, 1.5) for k in range(n)]


def ask(rule: Rule, trace, memory: dict | None = None, name: str = "loss", first: int = 1) -> list[float]:
    """θ of the call after each observation of a trace. name: which value of the Observation the trace holds."""
    memory = rule.memory() if memory is None else memory
    return [rule.theta(Observation(k, **{name: value}), memory) for k, value in enumerate(trace, first)]


def switch(thetas: list[float]) -> int | None:
    """The step (1, 2, …) at which a rule was met, or None."""
    return next((k for k, theta in enumerate(thetas, 1) if theta == 0.0), None)


def mean(values) -> float:
    return math.fsum(values) / len(values)


def gradient_norm(g: list[float], zeta: float, window: int | None) -> int | None:
    """The paper's rule: the least K with (1/K) Σ_{k≤K} ‖g_k‖² ≤ ζ; or the same over the last W."""
    starts = ((k, 0 if window is None else k - window) for k in range(1, len(g) + 1))
    return next((k for k, start in starts if start >= 0 and mean(g[start:k]) <= zeta), None)


def loss_change(f: list[float], sigma: float, window: int) -> int | None:
    """The paper's rule: the least K with mean |f_k − f_{k−1}| ≤ σ over the last W differences."""
    changes = [abs(b - a) for a, b in pairwise(f)]
    ends = range(window, len(changes) + 1)
    return next((k + 1 for k in ends if mean(changes[k - window : k]) <= sigma), None)


# ---- the paper's definitions
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("window", [None, 1, 7, 50])
@pytest.mark.parametrize("zeta", [9.0, 0.8, 0.35, 0.2])
def test_gradient_norm_is_the_papers_mean_of_squares(zeta, window, seed):
    trace = noisy(seed)
    assert switch(ask(GradientNorm(zeta, window), trace, name="grad_norm_sq")) == gradient_norm(trace, zeta, window)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("window", [1, 7, 50])
@pytest.mark.parametrize("sigma", [1.0, 0.2, 0.1, 0.01])
def test_loss_change_is_the_papers_mean_of_differences(sigma, window, seed):
    trace = noisy(seed)
    assert switch(ask(LossChange(sigma, window), trace)) == loss_change(trace, sigma, window)


def test_the_traces_above_meet_some_of_the_rules_early_some_late_and_some_never():
    met = [gradient_norm(noisy(0), zeta, w) for zeta in (9.0, 0.8, 0.35, 0.2) for w in (None, 1, 7, 50)]
    assert min(k for k in met if k) == 1
    assert max(k for k in met if k) > 50
    assert None in met


@pytest.mark.parametrize(
    ("rule", "name", "step"),
    [
        (GradientNorm(0.5), "grad_norm_sq", 1),
        (GradientNorm(0.5, 1), "grad_norm_sq", 1),
        (GradientNorm(0.5, 4), "grad_norm_sq", 4),
        (LossChange(0.1), "loss", 2),
        (LossChange(0.1, 4), "loss", 5),
        (AtStep(1), "loss", 1),
        (Always(), "loss", 1),
    ],
    ids=str,
)
def test_a_plateau_from_the_start_is_seen_as_soon_as_the_window_is_full(rule, name, step):
    assert switch(ask(rule, [0.5] * 9, name=name)) == step


@pytest.mark.parametrize("rule", [GradientNorm(1e-9), GradientNorm(1e-9, 5), LossChange(1e-9), Never()], ids=str)
@pytest.mark.parametrize("name", ["loss", "grad_norm_sq"])
def test_a_bound_below_the_noise_is_never_met(rule, name):
    assert switch(ask(rule, noisy(1), name=name)) is None


def test_the_bounds_themselves_count_as_met():
    assert switch(ask(GradientNorm(0.25, 2), [0.375, 0.125], name="grad_norm_sq")) == 2
    assert switch(ask(LossChange(0.25), [1.0, 0.75])) == 2


@pytest.mark.parametrize("k", [1, 2, 500])
def test_at_step_is_exactly_k_first_order_steps(k):
    rule = AtStep(k)
    thetas = [rule.first(), *ask(rule, [NAN] * 600)]
    assert thetas.index(0.0) == k


@pytest.mark.parametrize("rule", [AtStep(0), Always(), AnyOf(AtStep(0), Never()), AllOf(AtStep(0), Always())], ids=str)
def test_rules_that_are_met_before_the_first_call_have_no_first_phase(rule):
    assert [rule.first(), *ask(rule, [1.0, 2.0])] == [0.0, 0.0, 0.0]


# ---- the latch, values that are not finite
@pytest.mark.parametrize(("rule", "name"), [(GradientNorm(1.0), "grad_norm_sq"), (LossChange(1.0), "loss")], ids=str)
def test_once_met_it_stays_met(rule, name):
    thetas = ask(rule, [0.5, 0.5, *(10.0**k for k in range(1, 30))], name=name)
    assert thetas[1:] == [0.0] * 30


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize(
    ("rule", "name"),
    [(GradientNorm(0.5), "grad_norm_sq"), (GradientNorm(0.5, 3), "grad_norm_sq"), (LossChange(0.1, 3), "loss")],
    ids=str,
)
def test_values_that_are_not_finite_are_skipped_as_if_they_had_not_been(rule, name, bad):
    trace = noisy(2)
    with_bad = [x for value in trace for x in (bad, value, bad)]
    assert ask(rule, with_bad, name=name)[1::3] == ask(rule, trace, name=name)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("rule", [GradientNorm(1e9), GradientNorm(1e9, 1), LossChange(1e9)], ids=str)
def test_values_that_are_not_finite_never_switch(rule, bad):
    seen = [Observation(k, loss=bad, grad_norm_sq=bad) for k in range(1, 9)]
    memory = rule.memory()
    assert [rule.theta(o, memory) for o in seen] == [1.0] * 8


def test_a_rule_is_not_disturbed_by_values_it_does_not_read():
    rule = GradientNorm(1.0)
    assert rule.theta(Observation(1, loss=NAN, grad_norm_sq=0.5), rule.memory()) == 0.0


# ---- combinations

NORMS = [9.0, 1.0, 1.0, 9.0, 9.0, 9.0]


@pytest.mark.parametrize(
    ("rule", "step"),
    [
        (AnyOf(AtStep(5), GradientNorm(1.0, 2)), 3),
        (AllOf(AtStep(5), GradientNorm(1.0, 2)), 5),
        (AnyOf(AtStep(5), GradientNorm(0.1)), 5),
        (AllOf(AtStep(1), GradientNorm(0.1)), None),
        (AnyOf(AllOf(AtStep(4), GradientNorm(1.0, 2)), AtStep(6)), 4),
        (AllOf(AnyOf(AtStep(2), AtStep(6)), AnyOf(GradientNorm(1.0, 2), Never())), 3),
    ],
    ids=str,
)
def test_any_of_switches_with_the_first_and_all_of_with_the_last(rule, step):
    assert switch(ask(rule, NORMS, name="grad_norm_sq")) == step


@pytest.mark.parametrize(
    ("rule", "theta"),
    [(AllOf(AtStep(0), Never()), 1.0), (AllOf(Always(), AtStep(0)), 0.0), (AnyOf(Never()), 1.0)],
    ids=str,
)
def test_the_first_call_of_a_combination(rule, theta):
    assert rule.first() == theta


def test_the_members_of_a_combination_remember_apart():
    pair = AllOf(GradientNorm(1.0, 2), GradientNorm(1.0, 2))
    memory = pair.memory()
    ask(pair, NORMS, memory, "grad_norm_sq")
    assert memory["0"] == memory["1"]
    assert memory["0"] is not memory["1"]
    assert memory["0"]["values"] is not memory["1"]["values"]


def test_a_member_that_reads_nothing_goes_on_while_another_one_sees_nan():
    rule = AnyOf(AtStep(3), LossChange(1e-9))
    assert switch(ask(rule, [NAN] * 9)) == 3


def test_a_combination_reads_what_its_members_read():
    assert AnyOf(AtStep(3), AllOf(GradientNorm(1.0), LossChange(1.0))).reads == ("grad_norm_sq", "loss")


@pytest.mark.parametrize("kind", [AnyOf, AllOf])
def test_a_combination_takes_hard_rules_only_and_at_least_one(kind):
    with pytest.raises(ValueError, match=r"criteria: got LinearTheta\(steps=5\); allowed is hard rules"):
        kind(AtStep(1), LinearTheta(5))
    with pytest.raises(ValueError, match="at least one"):
        kind()


def test_combinations_are_equal_when_they_say_the_same():
    assert AnyOf(AtStep(1), Never()) == AnyOf(AtStep(1), Never())
    assert hash(AnyOf(AtStep(1), Never())) == hash(AnyOf(AtStep(1), Never()))
    assert AnyOf(AtStep(1), Never()) != AllOf(AtStep(1), Never())
    assert AnyOf(AtStep(1), Never()) != AnyOf(AtStep(2), Never())


# ---- schedules; calls are counted from 0
def schedule(rule: Rule, calls: int) -> list[float]:
    """θ_0, θ_1, …: call 0 comes before any observation, call k after iteration k."""
    return [rule.first(), *ask(rule, [1.0] * (calls - 1))]


@pytest.mark.parametrize("n", [1, 2, 7, 10, 1000])
def test_linear_theta(n):
    assert schedule(LinearTheta(n), n + 5) == [max(0.0, 1 - k / n) for k in range(n + 5)]


@pytest.mark.parametrize("n", [1, 2, 7, 10, 1000])
def test_cosine_theta(n):
    exact = [(1 + math.cos(math.pi * k / n)) / 2 for k in range(n)] + [0.0] * 5
    assert schedule(CosineTheta(n), n + 5) == pytest.approx(exact, abs=1e-15)
    assert schedule(CosineTheta(n), n + 5)[n:] == [0.0] * 5


@pytest.mark.parametrize("value", [0, 0.25, 1])
def test_constant_theta(value):
    assert schedule(ConstantTheta(value), 5) == [value] * 5


def test_aligned_theta_falls_with_the_cosine_and_stays_inside():
    cosines = [NAN, -1.0, 0.0, 0.5, 1.0, 1.0000001]
    assert AlignedTheta(0.2, 0.8).first() == 0.8
    assert ask(AlignedTheta(0.2, 0.8), cosines, name="cosine") == pytest.approx([0.8, 0.8, 0.8, 0.5, 0.2, 0.2])


def test_schedules_are_not_hard_and_criteria_are():
    assert not any(parse(s).hard for s in ("theta:0.5", "theta:linear:9", "theta:cosine:9", "theta:aligned"))
    assert all(parse(s).hard for s in ("never", "always", "step:9", "gradnorm:1", "losschange:1"))


# ---- one rule object, many memories
@pytest.mark.parametrize(
    "rule", [AtStep(3), GradientNorm(1.0), GradientNorm(1.0, 2), LossChange(0.1, 2), AllOf(AtStep(3), LossChange(0.1))]
)
def test_one_rule_serves_two_memories(rule):
    alone = [ask(rule, noisy(s), name=n) for s, n in ((3, "loss"), (4, "grad_norm_sq"))]
    one, two = rule.memory(), rule.memory()
    together: list[list[float]] = [[], []]
    for k, (a, b) in enumerate(zip(noisy(3), noisy(4), strict=True), 1):
        together[0].append(rule.theta(Observation(k, loss=a), one))
        together[1].append(rule.theta(Observation(k, grad_norm_sq=b), two))
    assert together == alone


def shape(memory: object) -> object:
    """What a memory is made of: names, types, the lengths of lists."""
    if isinstance(memory, dict):
        return {key: shape(value) for key, value in memory.items()}
    if isinstance(memory, list):
        return [shape(value) for value in memory]
    assert type(memory) in (bool, int, float)
    return float if type(memory) is float else type(memory)


@pytest.mark.parametrize(
    "rule",
    [
        AtStep(3),
        Never(),
        Always(),
        GradientNorm(0.1),
        GradientNorm(0.1, 5),
        LossChange(0.1, 5),
        LinearTheta(5),
        AlignedTheta(),
        AnyOf(AllOf(GradientNorm(0.1, 5), AtStep(999)), LossChange(1e-9, 2)),
    ],
    ids=str,
)
def test_a_memory_is_plain_data_whose_size_never_changes(rule):
    memory = rule.memory()
    before = shape(memory)
    for k, value in enumerate(noisy(5), 1):
        rule.theta(Observation(k, loss=value, grad_norm_sq=value, cosine=0.1), memory)
    assert shape(memory) == before


# ---- strings
RULES = {
    "auto": Auto(),
    "never": Never(),
    "always": Always(),
    "step:0": AtStep(0),
    "step:500": AtStep(500),
    "gradnorm:0.001": GradientNorm(1e-3),
    "gradnorm:0.001:50": GradientNorm(1e-3, 50),
    "gradnorm:1e-30": GradientNorm(1e-30),
    "losschange:0.0001:1": LossChange(1e-4),
    "losschange:0.0001:50": LossChange(1e-4, 50),
    "theta:0.5": ConstantTheta(0.5),
    "theta:linear:1000": LinearTheta(1000),
    "theta:cosine:1000": CosineTheta(1000),
    "theta:aligned": AlignedTheta(),
    "theta:aligned:0.1:0.9": AlignedTheta(0.1, 0.9),
}


@pytest.mark.parametrize(("text", "rule"), RULES.items(), ids=str)
def test_the_string_of_a_rule_and_back(text, rule):
    assert str(rule) == text
    assert parse(text) == rule


@pytest.mark.parametrize(
    "rule", [GradientNorm(1 / 3), LossChange(0.1 + 0.2, 3), ConstantTheta(1 / 7), ConstantTheta(1), GradientNorm(2, 3)]
)
def test_numbers_survive_the_string_bit_for_bit(rule):
    assert parse(str(rule)) == rule


def allowed_examples() -> list[str]:
    """Strings made from the text that error messages print: with and without its optional parts."""
    patterns = [line[2:34].strip() for line in ALLOWED.splitlines()]
    found = [p.strip() for pattern in patterns for p in pattern.split(",")]
    numbers = {"ZETA": "1e-3", "SIGMA": "1e-4", "VALUE": "0.5", "WINDOW": "50", "K": "500", "N": "1000",
               "LOW": "0.1", "HIGH": "0.9"}  # fmt: skip
    examples = []
    for text in found:
        filled = text
        for name, number in numbers.items():
            filled = filled.replace(name, number)
        examples += [filled.replace("[", "").replace("]", ""), filled.split("[")[0]]
    return sorted(set(examples))


@pytest.mark.parametrize("text", allowed_examples())
def test_every_string_that_the_message_allows_parses(text):
    assert isinstance(parse(text), Rule)


def test_the_message_names_every_kind_of_rule():
    kinds = {text.split(":")[0] for text in RULES}
    assert {text.split(":")[0] for text in allowed_examples()} == kinds


BAD = ["", "Step:5", "steps:5", "step", "step:", "step:x", "step:1.5", "step:-1", "step:5:6", "gradnorm", "gradnorm:"]
BAD += ["gradnorm:x", "gradnorm:0", "gradnorm:-1", "gradnorm:nan", "gradnorm:inf", "gradnorm:1:", "gradnorm:1:0"]
BAD += ["gradnorm:1:2.5", "gradnorm:1:2:3", "losschange", "losschange:0", "losschange:1:0", "losschange:1:x"]
BAD += ["never:1", "always:1", "theta", "theta:", "theta:x", "theta:-0.1", "theta:1.1", "theta:nan", "theta:0.5:3"]
BAD += ["theta:linear", "theta:linear:0", "theta:linear:x", "theta:cosine:-1", "theta:aligned:x", "none", "True"]


@pytest.mark.parametrize("text", BAD)
def test_a_bad_string_is_an_error_that_lists_what_is_allowed(text):
    with pytest.raises(ValueError, match="switchover: got ") as error:
        parse(text)
    assert repr(text) in str(error.value)
    assert ALLOWED in str(error.value)


@pytest.mark.parametrize("value", [None, 5, 0.5, AtStep])
def test_what_is_neither_a_rule_nor_a_string_is_a_type_error(value):
    with pytest.raises(TypeError, match="switchover: got ") as error:
        parse(value)
    assert ALLOWED in str(error.value)


def test_a_rule_is_returned_as_it_is():
    rule = AnyOf(AtStep(1))
    assert parse(rule) is rule


# ---- constructors
@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (lambda: AtStep(-1), "k", "-1"),
        (lambda: AtStep(2.0), "k", "2.0"),
        (lambda: AtStep("5"), "k", "'5'"),
        (lambda: GradientNorm(0.0), "zeta", "0.0"),
        (lambda: GradientNorm(NAN), "zeta", "nan"),
        (lambda: GradientNorm(INF), "zeta", "inf"),
        (lambda: GradientNorm(True), "zeta", "True"),
        (lambda: GradientNorm(1.0, 0), "window", "0"),
        (lambda: GradientNorm(1.0, 2.0), "window", "2.0"),
        (lambda: GradientNorm(1.0, True), "window", "True"),
        (lambda: LossChange(-1.0), "sigma", "-1.0"),
        (lambda: LossChange(1.0, 0), "window", "0"),
        (lambda: LossChange(1.0, None), "window", "None"),
        (lambda: ConstantTheta(1.5), "value", "1.5"),
        (lambda: ConstantTheta(NAN), "value", "nan"),
        (lambda: LinearTheta(0), "steps", "0"),
        (lambda: CosineTheta(1.5), "steps", "1.5"),
        (lambda: AlignedTheta(low=0.0), "low", "0.0"),
        (lambda: AlignedTheta(high=1.0), "high", "1.0"),
        (lambda: AlignedTheta(low=0.9, high=0.1), r"\(low, high\)", r"\(0.9, 0.1\)"),
    ],
)
def test_a_bad_argument_is_an_error_that_names_it_its_value_and_what_is_allowed(make, name, value):
    with pytest.raises(ValueError, match=rf"^{name}: got {value}; allowed is .+"):
        make()


@pytest.mark.parametrize(("rule", "step"), [(AtStep(7), 7), (Always(), 0), (Never(), None), (GradientNorm(1.0), None)])
def test_the_switch_is_foreseen_where_it_can_be(rule, step):
    assert rule.switch_step() == step


@pytest.mark.parametrize("make", [lambda: AtStep(True), lambda: LinearTheta(True), lambda: GradientNorm(1.0, True)])
def test_true_is_no_count(make):
    with pytest.raises(ValueError, match=r"got True; allowed is an integer"):
        make()


def test_huge_values_in_a_window_overflow_nothing():
    rule = LossChange(1.0, window=2)
    memory = rule.memory()
    for k, loss in enumerate([0.0, 1e308, 0.0], 1):
        assert rule.theta(Observation(k, loss=loss), memory) == 1.0


@pytest.mark.parametrize("name", ["fuse_lib.switchover", "fuse_lib.optim.switchover"])
def test_the_modules_documentation_holds_the_table_of_strings(name):
    module = importlib.import_module(name)
    shown = pydoc.plain(pydoc.render_doc(module))
    assert all(line in shown for line in module.ALLOWED.splitlines())
    assert "{ALLOWED}" not in shown
