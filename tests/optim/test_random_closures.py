"""Properties that hold whatever the closure does, on 10,000 random closures (see `closures.py`).

A run is one optimizer with random settings and a script of random closures. Each closure serves one to three
calls of `step`, between which the user may meddle: freeze, overwrite, add a group, save and load, copy.

The runs are the same each time. For others, and more of them:

    FUSE_CLOSURES=200000 python -m pytest tests/optim/test_random_closures.py

An example that fails is printed with what reproduces it.
"""

import copy
import io
import math
import os
import pickle
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuse_lib import LBFGS, Fuse, FusePV
from fuse_lib.optim.methods import HISTORY, METHODS
from tests.optim.closures import FAULTS, FUNCTIONS, GRADIENTS, RETURNED, Closure, Stop, finite, position, same

WANTED = int(os.environ.get("FUSE_CLOSURES", "10000"))
CHOSEN = "FUSE_CLOSURES" not in os.environ  # the same closures each time
A_RUN = 10  # closures in one run

# ---- what is drawn
SHAPES = {
    "vector": lambda: torch.linspace(0.6, 2.0, 4),
    "0-d": lambda: torch.tensor(1.7),
    "empty": lambda: torch.zeros(0),
    "matrix": lambda: torch.linspace(-1.0, 1.5, 4).reshape(2, 2),
    "transposed": lambda: torch.linspace(0.7, 1.3, 6).reshape(2, 3).t(),
    "strided": lambda: torch.linspace(-2.0, 2.0, 6)[::2],
    "complex": lambda: torch.tensor([1.0 + 2.0j, 0.8 - 0.5j]),
}
DTYPES = (torch.float32, torch.float64, torch.bfloat16)
RULES = ("never", "auto", "always", "step:3", "step:8", "gradnorm:1e30:2", "gradnorm:1e-2", "losschange:1e-3:2",
         "theta:0.5", "theta:0.0", "theta:linear:5", "theta:aligned")  # fmt: skip
FIRST = {
    "Adam": {}, "AdamW": {"weight_decay": 0.1}, "RMSprop": {}, "SGD": {"momentum": 0.5}, "Adam maximising":
    {"maximize": True}, "Adam decaying": {"weight_decay": 0.1},
}  # fmt: skip
BETWEEN = ("freeze", "thaw", "overwrite", "add group", "state_dict", "deepcopy", "pickle", "zero_grad",
           "zero_grad(False)", "lr", "lr 0", "freeze and save", "half of the gradients")  # fmt: skip

OPTIONS = {
    "kind": st.sampled_from(["Fuse", "FusePV", "LBFGS"]),
    "switchover": st.sampled_from(RULES),
    "first": st.sampled_from(sorted(FIRST)),
    "handover": st.sampled_from(["none", "pairs", "both"]),
    "history_size": st.sampled_from([1, 3, 10]),
    "inner_steps": st.sampled_from([1, 1, 3]),
    "max_evals": st.sampled_from([2, 3, 6, 25]),
    "full_batch": st.booleans(),
    "skip_nonfinite": st.booleans(),
    "check_every": st.sampled_from([1, 1, 4]),
    "history_dtype": st.sampled_from([None, None, torch.bfloat16, torch.float64]),
    "damped": st.booleans(),
    "scaling": st.sampled_from(["newest", "adaptive"]),
}  # fmt: skip
SETTINGS = st.fixed_dictionaries(OPTIONS)
OTHERS = ("cg", "newton-cg", "adahessian")  # whose settings are the same, but of the history they have none
WITHOUT = {name: OPTIONS[name] for name in OPTIONS if name not in HISTORY}
WITHOUT["kind"] = st.sampled_from(["Fuse", "FusePV"])
PARAMETERS = st.lists(
    st.tuples(st.sampled_from(sorted(SHAPES, reverse=True)), st.sampled_from(DTYPES)), min_size=1, max_size=3
)
CLOSURES = st.lists(
    st.fixed_dictionaries({
        "function": st.sampled_from(list(FUNCTIONS)),
        "gradients": st.sampled_from([*5 * ["true"], *GRADIENTS]),
        "returned": st.sampled_from([*5 * ["tensor"], *RETURNED]),
        "fault": st.sampled_from([*12 * [None], *FAULTS]),
        "at": st.integers(0, 4),
        "amplitude": st.sampled_from([0.0, 0.0, 0.0, 0.1]),
        "set_to_none": st.booleans(),
        "wide": st.booleans(),
        "steps": st.integers(1, 3),
        "between": st.sampled_from([*8 * [None], *BETWEEN]),
    }),
    min_size=A_RUN, max_size=A_RUN,
)  # fmt: skip


def parameter(shape, dtype):
    t = SHAPES[shape]()
    return torch.nn.Parameter(t.to(torch.complex128 if dtype == torch.float64 else t.dtype) if t.is_complex()
                              else t.to(dtype))  # fmt: skip


class Run:
    """One optimizer, its parameters and what is done to them."""

    def __init__(self, options, shapes):
        self.options = options
        self.params = [parameter(*shape) for shape in shapes]
        self.optimizer = self.make(self.params)
        self.added = 0

    def make(self, params):
        options = dict(self.options)
        kind, first, rule = options.pop("kind"), options.pop("first"), options.pop("switchover")
        if kind == "LBFGS":
            for name in ("handover", "skip_nonfinite", "check_every"):
                del options[name]
            return LBFGS(params, maximize="maximize" in FIRST[first], **options)
        if kind == "FusePV" and rule.startswith("theta"):
            rule = "step:2"
        return {"Fuse": Fuse, "FusePV": FusePV}[kind](
            params, lr=0.02, switchover=rule, first_order=getattr(torch.optim, first.split()[0]),
            first_order_args=FIRST[first], **options,
        )  # fmt: skip

    def loaded(self):
        """The same run in new objects, from what torch.save wrote."""
        file = io.BytesIO()
        torch.save({"params": position(self.params), "optimizer": self.optimizer.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        twin = copy.copy(self)
        twin.params = [torch.nn.Parameter(p) for p in saved["params"]]
        for p, old in zip(twin.params, self.params, strict=True):
            p.requires_grad_(old.requires_grad)
        twin.optimizer = self.make(twin.params[: len(twin.params) - self.added])
        if self.added:
            twin.optimizer.add_param_group({"params": twin.params[-self.added :]})
        twin.optimizer.load_state_dict(saved["optimizer"])
        return twin

    def copied(self, how):
        if how == "state_dict":
            twin = self.loaded()
        else:
            twin = copy.copy(self)
            both = (self.params, self.optimizer)
            twin.params, twin.optimizer = copy.deepcopy(both) if how == "deepcopy" else pickle.loads(pickle.dumps(both))
        for p, old in zip(twin.params, self.params, strict=True):  # torch's optimizers move what has an old .grad
            p.grad = None if old.grad is None else old.grad.clone()
        return twin

    def meddle(self, what):
        """What a user may do between two steps."""
        first, optimizer = self.params[0], self.optimizer
        if what in ("freeze", "thaw", "freeze and save"):
            first.requires_grad_(what == "thaw")
        elif what == "overwrite":
            with torch.no_grad():
                first.copy_(torch.full_like(first, 0.7))
        elif what == "add group" and not self.added:
            extra = parameter("vector", torch.float32)
            self.params.append(extra)
            optimizer.add_param_group({"params": [extra]})
            self.added = 1
        elif what in ("zero_grad", "zero_grad(False)"):
            optimizer.zero_grad(set_to_none=what == "zero_grad")
        elif what == "half of the gradients":
            first.grad = None
        elif what in ("lr", "lr 0"):
            for group in optimizer.param_groups:
                group["lr"] *= 0.5 if what == "lr" else 0.0


# ---- what must hold
def objective(run, value):
    sign = -1.0 if run.optimizer.param_groups[0].get("maximize") else 1.0
    return sign * float(value)


def step(run, closure):
    """One call of step, and what has to hold after it. Returns (the report or the error, as something to compare)."""
    optimizer, max_evals = run.optimizer, run.options["max_evals"]
    closure.calls, closure.seen = 0, []
    start, phase, entering_finite = position(run.params), optimizer.phase, finite(run.params)
    true_start = objective(run, closure.value().detach())
    honest = closure.honest()
    error = None
    try:
        optimizer.step(closure)
    except (Stop, KeyboardInterrupt) as raised:
        error = type(raised).__name__
        assert closure.fault in ("raise", "interrupt")
    except TypeError as raised:
        error = "TypeError"
        assert closure.fault == "string", raised  # noqa: PT017
    except RuntimeError as raised:
        error = "RuntimeError"
        assert "full_batch" in str(raised), raised  # noqa: PT017
        assert run.options["full_batch"]
    end, seen = position(run.params), closure.seen
    assert closure.calls <= max_evals

    moved = not same(start, end)
    if phase != "first_order" or run.options["skip_nonfinite"] or run.options["kind"] == "LBFGS":
        assert finite(end) or not entering_finite
    for p, before in zip(run.params, start, strict=True):
        if not p.requires_grad and phase != "first_order":  # which is torch's: it looks at .grad alone
            assert torch.equal(p, before), "what is frozen stays"
    decays = any(group.get("weight_decay") for group in optimizer.param_groups) and run.options["first"] != "AdamW"
    searches = METHODS[run.options.get("second_order", "lbfgs")].searches
    if phase == "second_order" and moved and searches:
        here = [objective(run, value) for x, value in seen if same(x, end)]
        assert here, "an accepted point was evaluated"
        assert any(math.isfinite(f) for f in here)
        if not decays:
            if error is None:
                known = objective(run, optimizer.last_step.loss)
            else:  # raised in a later inner step, so that there is no report
                known = next((objective(run, f) for x, f in seen if same(x, start) and math.isfinite(f)), true_start)
            assert min(f for f in here if math.isfinite(f)) <= known, "the loss does not go up"
            if honest and known == true_start:
                assert objective(run, closure.value().detach()) <= true_start
    if error is not None:
        if phase == "second_order" and run.options["inner_steps"] == 1:
            assert not moved, "whatever is raised, the start is the last accepted point"
        return error, end
    report = optimizer.last_step.as_dict()
    assert report["evals"] == closure.calls
    assert report["phase"] == phase
    pickle.dumps(optimizer.last_step)
    if phase == "second_order":
        assert report["step_length"] or report["stop_reason"], "no step without a reason"
        if (
            honest and seen and same(seen[0][0], start)
        ):  # a step may be lost in rounding where noise or a lie made it look good
            assert moved or report["stop_reason"], "no step without a reason"
    return {name: repr(value) for name, value in report.items()}, end


def explore(options, shapes, script):
    """One run through a script of closures."""
    run = Run(options, shapes)
    fixed = script[0] if options["full_batch"] else {}  # the promise: one function, whatever else goes wrong
    fixed = {name: fixed[name] for name in ("function", "gradients", "amplitude", "wide", "returned") if name in fixed}
    for number, drawn in enumerate(script):
        drawn = drawn | fixed
        between, steps = drawn.pop("between"), drawn.pop("steps")
        closure = Closure(run.params, seed=number, **drawn)
        for _ in range(steps):
            step(run, closure)
            if not finite(run.params):  # a first phase that was not asked to skip what is not finite
                return
        if between is None:
            continue
        run.meddle(between)
        if between not in ("state_dict", "deepcopy", "pickle", "freeze and save"):
            continue
        twin = run.copied("state_dict" if between == "freeze and save" else between)
        for _ in range(2):
            (ours, here), (theirs, there) = (step(r, closure.over(r.params)) for r in (run, twin))
            assert ours == theirs, "a copy goes on as the original does"
            assert same(here, there)
            if not finite(here):
                return
        run = twin


@pytest.fixture(autouse=True)
def _quiet_and_on_one_thread(one_thread):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*decoupled weight decay")
        yield


def test_random_closures():
    closures = 0

    @settings(max_examples=math.ceil(WANTED / A_RUN), deadline=None, derandomize=CHOSEN, print_blob=True,
              database=None, suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(options=SETTINGS, shapes=PARAMETERS, script=CLOSURES)
    def runs(options, shapes, script):
        nonlocal closures
        closures += len(script)
        explore(options, shapes, script)

    runs()
    assert closures >= WANTED


@pytest.mark.parametrize("method", OTHERS)
def test_random_closures_of_the_other_methods(method):
    """The same, but for what a method without a search cannot promise: that the loss does not go up."""

    @settings(max_examples=math.ceil(WANTED / 5 / A_RUN), deadline=None, derandomize=CHOSEN, print_blob=True,
              database=None, suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(options=st.fixed_dictionaries(WITHOUT), shapes=PARAMETERS, script=CLOSURES)
    def runs(options, shapes, script):
        explore(options | {"second_order": method}, shapes, script)

    runs()
