"""AnchoredLBFGS: what a round does and costs, its safeguards, its state."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from fuse_lib import LBFGS
from fuse_lib.optim import AnchoredLBFGS

N, D = 600, 6


class Problem:
    """Logistic regression whose evaluations are counted; rows: of each call."""

    def __init__(self, dtype=torch.float64, n=N, flip=0.2):
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(n, D, generator=generator, dtype=dtype) * torch.logspace(0, -1.5, D, dtype=dtype)
        noise = torch.rand(n, generator=generator) < flip
        self.y = torch.where(noise, -1, 1) * self.x.sum(1).sign()
        self.w = torch.nn.Parameter(torch.zeros(D, dtype=dtype))
        self.rows, self.given = [], []

    def batch_closure(self, rows):
        self.rows.append(len(rows))
        self.given.append(rows)
        self.w.grad = None
        loss = F.softplus(-self.y[rows] * (self.x[rows] @ self.w)).mean() + 1e-3 * self.w.square().sum()
        loss.backward()
        return loss.detach()

    def optimizer(self, **options):
        return AnchoredLBFGS([self.w], self.batch_closure, len(self.x), **options)

    def value(self):
        return float(self.batch_closure(torch.arange(len(self.x))))


def minimum():
    f = Problem()
    opt = LBFGS([f.w], full_batch=True, history_size=20)
    for _ in range(100):
        opt.step(lambda: f.batch_closure(torch.arange(N)))
    return f.value()


def test_it_arrives_at_the_minimum_of_all_rows():
    f = Problem()
    opt = f.optimizer(history_size=20)
    for _ in range(60):
        if opt.step().stop_reason:
            break
    assert opt.last_step.stop_reason == "converged"
    assert f.value() == pytest.approx(minimum(), rel=1e-12)


def test_a_round_costs_what_it_says():
    f = Problem()
    opt = f.optimizer(share=0.125, evals=5)
    first = opt.step()
    assert first.batch == 75
    assert f.rows[0] == N  # the anchor
    assert f.rows[-1] == N  # the next one
    assert f.rows[1:-1] == [75] * 5  # the first of them for the correction, and as the search's start
    assert first.samples == opt.samples == sum(f.rows)
    before = len(f.rows)
    opt.step()
    assert f.rows[before] == opt.last_step.batch  # the anchor is known
    assert len({id(r) for r in f.given[1:6]}) == 1  # one batch a round


def test_within_a_round_the_gradient_is_the_full_one_at_the_anchor_and_near_it_elsewhere():
    """The corrected batch gradient errs less than the plain one, the less the nearer."""
    f = Problem()
    opt = f.optimizer()
    start = opt._look()
    rows = torch.arange(75)
    f.batch_closure(rows)
    shift = start.grads[0] - f.w.grad
    errors = []
    for far in (0.1, 0.01):
        with torch.no_grad():
            f.w.fill_(far)
        f.batch_closure(rows)
        batch = f.w.grad.clone()
        f.batch_closure(torch.arange(N))
        errors.append(((batch + shift - f.w.grad).norm() / (batch - f.w.grad).norm()).item())
    assert errors[0] < 0.5
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.2)


def test_the_inner_function_and_its_gradient_belong_together():
    f = Problem()
    opt = f.optimizer()
    seen = []
    search = opt.inner.step

    def spy(closure):
        closure()
        x0, g0 = f.w.detach().clone(), f.w.grad.clone()
        with torch.no_grad():
            f.w.add_(1e-3)
        up, g1 = float(closure()), f.w.grad.clone()
        with torch.no_grad():
            f.w.sub_(2e-3)
        down = float(closure())
        seen.append(((up - down) / 2e-3, float(g0.sum()), float(g1.sum())))
        with torch.no_grad():
            f.w.copy_(x0)
        search(closure)

    opt.inner.step = spy
    opt.step()
    slope, at_anchor, nearby = seen[0]
    full = f.w.detach().clone()
    with torch.no_grad():
        f.w.zero_()
    f.value()
    assert slope == pytest.approx(at_anchor, rel=1e-3)
    assert at_anchor == pytest.approx(float(f.w.grad.sum()), rel=1e-12)
    assert nearby != at_anchor
    with torch.no_grad():
        f.w.copy_(full)


def test_complex_parameters_take_the_same_path_as_their_real_parts():
    generator = torch.Generator().manual_seed(2)
    data = torch.randn(N, 3, 2, generator=generator, dtype=torch.float64) + 3
    z = torch.nn.Parameter(torch.zeros(3, dtype=torch.complex128))
    w = torch.nn.Parameter(torch.zeros(3, 2, dtype=torch.float64))
    paths = []
    for p, real in ((z, torch.view_as_real), (w, lambda t: t)):

        def batch_closure(rows, p=p, real=real):
            p.grad = None
            off = real(p) - data[rows]
            loss = torch.log1p(off.square().sum((1, 2))).mean()
            loss.backward()
            return loss

        opt = AnchoredLBFGS([p], batch_closure, N)
        paths.append([(opt.step(), real(p.detach().clone()))[1] for _ in range(3)])
    for a, b in zip(*paths, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_sparse_gradients_are_the_same_as_dense_ones():
    rows_of, paths = torch.arange(N) % 7, []
    for sparse in (False, True):
        table = torch.nn.Embedding.from_pretrained(torch.zeros(7, 2), freeze=False, sparse=sparse)

        def batch_closure(rows, table=table):
            table.zero_grad()
            loss = torch.cosh(table(rows_of[rows]) - rows_of[rows, None] / 7).mean()
            loss.backward()
            return loss

        opt = AnchoredLBFGS(table.parameters(), batch_closure, N)
        paths.append([(opt.step(), table.weight.detach().clone())[1] for _ in range(4)])
    assert all(torch.equal(a, b) for a, b in zip(*paths, strict=True))


def test_no_round_ends_higher_than_it_began():
    f = Problem(n=60)  # six rows a batch in six variables: overfits at once
    opt = f.optimizer(share=0.1, evals=30, trust=0.0)
    losses = [f.value()]
    for _ in range(20):
        done = opt.step()
        losses.append(f.value())
        assert done.loss_after == losses[-1]
    assert losses == sorted(losses, reverse=True)


def test_a_batch_that_is_not_believed_grows_to_all_rows_and_the_point_goes_back():
    f = Problem(n=60)
    opt = f.optimizer(share=0.05, evals=30)
    sizes, refused = [], 0
    for _ in range(12):
        before = f.w.detach().clone()
        done = opt.step()
        sizes.append(done.batch)
        if not done.accepted and done.batch < 60:
            refused += 1
            assert torch.equal(f.w, before)
            assert opt.batch > done.batch
    assert refused
    assert sizes == sorted(sizes)
    assert sizes[-1] == 60


def test_on_all_rows_no_point_is_evaluated_twice_where_losses_are_alike():
    """Among points of one loss the search takes the flattest."""
    f = Problem(torch.float32)
    sound, seen = f.batch_closure, []

    def coarse(rows):
        assert not any(torch.equal(f.w, w) for w in seen)
        seen.append(f.w.detach().clone())
        return sound(rows).bfloat16()

    opt = AnchoredLBFGS([f.w], coarse, N, share=1.0, evals=3)
    for _ in range(30):
        done = opt.step()
        assert done.loss_after <= done.loss
        if done.stop_reason:
            break
    assert done.stop_reason == "converged"


def test_rows_that_are_all_alike_need_no_growth():
    """The batch is as good as all rows: ρ = 1."""
    f = Problem(n=64)
    f.x, f.y = f.x[:1].expand(64, D), f.y[:1].expand(64)
    opt = f.optimizer(share=0.125)
    assert opt.step().trust == pytest.approx(1, abs=1e-6)
    assert opt.step().batch == 8


def train(f, opt, steps):
    path = []
    for _ in range(steps):
        opt.step()
        path.append(f.w.detach().clone())
    return path


@pytest.mark.parametrize("at", [0, 1, 3, 6, 9])
def test_resume_is_bit_for_bit(at, tmp_path):
    f = Problem(torch.float32)
    opt = f.optimizer(share=0.1, evals=4, history_size=5)
    train(f, opt, at)
    torch.save({"w": f.w.detach(), "opt": opt.state_dict()}, tmp_path / "s.pt")
    expected = train(f, opt, 4)
    saved = torch.load(tmp_path / "s.pt", weights_only=True)
    g = Problem(torch.float32)
    with torch.no_grad():
        g.w.copy_(saved["w"])
    again = g.optimizer(share=0.1, evals=4, history_size=5, seed=99)
    again.load_state_dict(saved["opt"])
    assert all(torch.equal(a, b) for a, b in zip(expected, train(g, again, 4), strict=True))
    assert again.samples == opt.samples
    assert g.rows == f.rows[-len(g.rows) :]


def test_a_state_does_not_share_memory():
    f = Problem()
    opt = f.optimizer()
    train(f, opt, 1)
    state = opt.state_dict()
    before = copy.deepcopy(state["anchor"])
    train(f, opt, 2)
    assert torch.equal(before["x"][0], state["anchor"]["x"][0])
    assert torch.equal(before["grads"][0], state["anchor"]["grads"][0])


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("generator"),
        lambda state: state.pop("anchor"),
        lambda state: state.update(batch="all"),
        lambda state: state.update(batch=0),
        lambda state: state["inner"].pop("param_groups"),
        lambda state: state["anchor"].update(x=[torch.zeros(D + 1)]),
        lambda state: state["anchor"].update(grads=[]),
        lambda state: state.update(generator=torch.zeros(3)),
        lambda state: state.clear(),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(damage):
    f, g = Problem(), Problem()
    opt, other = f.optimizer(), g.optimizer(seed=5)
    train(f, opt, 2)
    state = opt.state_dict()
    damage(state)
    with pytest.raises(ValueError, match=r"(state_dict: it is none|rows: got a state of None)"):
        other.load_state_dict(state)
    h = Problem()
    assert all(map(torch.equal, train(g, other, 3), train(h, h.optimizer(seed=5), 3)))


def test_the_same_seed_gives_the_same_run_and_another_another():
    runs = [train(f := Problem(), f.optimizer(seed=seed), 3)[-1] for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_a_parameter_that_was_moved_gets_a_new_anchor():
    f = Problem()
    opt = f.optimizer()
    opt.step()
    before = len(f.rows)
    with torch.no_grad():
        f.w.add_(0.1)
    done = opt.step()
    assert f.rows[before] == N
    assert done.loss_after < done.loss


def test_a_model_that_was_cast_gets_a_new_anchor():
    f = Problem(torch.float32)
    opt = f.optimizer(trust=0.0)
    opt.step()
    f.x = f.x.double()
    f.w.grad = None
    f.w.data = f.w.data.double()  # as model.double() does; the numbers are the same
    done = opt.step()
    assert done.accepted
    assert f.w.dtype == torch.float64


def test_a_start_that_is_not_finite_moves_nothing_and_says_so():
    f = Problem()
    with torch.no_grad():
        f.w[0] = math.nan
    opt = f.optimizer()
    before = f.w.detach().clone()
    assert opt.step().stop_reason == "non_finite"
    assert torch.equal(f.w.nan_to_num(7), before.nan_to_num(7))


@pytest.mark.parametrize("fault", ["-inf", "gradient"])
def test_a_round_does_not_end_where_all_rows_are_not_finite(fault):
    """The batch saw nothing of it. At such an end no further round could start."""
    f = Problem()
    sound = f.batch_closure

    def closure(rows):
        loss = sound(rows)
        if len(rows) == N and bool(f.w.any()):
            if fault == "-inf":
                return loss * 0 - math.inf
            f.w.grad[0] = math.nan
        return loss

    opt = AnchoredLBFGS([f.w], closure, N)
    for _ in range(8):
        done = opt.step()
        assert not done.accepted
        assert not f.w.any()
        assert done.stop_reason in (None, "no_progress")
    assert done.stop_reason == "no_progress"


@pytest.mark.parametrize("how", ["forgotten", "frozen"])
def test_a_closure_that_leaves_no_gradient_is_named_and_moves_nothing(how):
    """Zeros in its place would say "converged", or stall for ever."""
    f = Problem()
    opt = f.optimizer()
    opt.step()
    before = f.w.detach().clone()
    if how == "frozen":
        f.w.requires_grad_(False)

    def closure(rows):
        f.w.grad = None
        return F.softplus(-f.y[rows] * (f.x[rows] @ f.w)).mean()

    opt.batch_closure = closure
    with pytest.raises(RuntimeError, match=r"batch_closure: it left no gradient.*allowed"):
        opt.step()
    assert torch.equal(f.w, before)


def test_groups_that_all_have_lr_0_end_the_loop():
    f = Problem()
    opt = AnchoredLBFGS([{"params": [f.w], "lr": 0.0}], f.batch_closure, N)
    reasons = [opt.step().stop_reason for _ in range(6)]
    assert reasons[-1] == "lr_zero"
    assert not f.w.any()


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_a_closure_that_raises_leaves_the_round_s_start(share):
    f = Problem()
    opt = f.optimizer(share=share)
    opt.step()
    before, calls = f.w.detach().clone(), len(f.rows)
    sound = f.batch_closure

    def raising(rows):
        if len(f.rows) >= calls + 3:
            raise OSError("the disk")
        return sound(rows)

    opt.batch_closure = raising
    with pytest.raises(OSError, match="the disk"):
        opt.step()
    assert torch.equal(f.w, before)
    opt.batch_closure = sound
    assert opt.step().loss_after < float("inf")


BAD = [
    ({"share": 0}, "share: got 0; allowed is 0 < share ≤ 1"),
    ({"share": 1.5}, "share: got 1.5"),
    ({"share": math.nan}, "share: got nan"),
    ({"share": "0.1"}, "share: got '0.1'; allowed"),
    ({"share": True}, "share: got True; allowed"),
    ({"share": torch.ones(2)}, r"share: got tensor\(.*; allowed"),
    ({"trust": None}, "trust: got None; allowed"),
    ({"seed": 2**64}, "seed: got 18446744073709551616; allowed"),
    ({"trust": 1}, "trust: got 1; allowed is 0 ≤ trust < 1"),
    ({"evals": 1}, "evals: got 1; allowed is an integer ≥ 2"),
    ({"evals": 2.5}, "evals: got 2.5"),
    ({"seed": -1}, "seed: got -1"),
    ({"history_size": 0}, "history_size: got 0"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_what_is_not_allowed_is_said(options, message):
    f = Problem()
    with pytest.raises(ValueError, match=message):
        f.optimizer(**options)


@pytest.mark.parametrize(("name", "value"), [("weight_decay", 0.5), ("maximize", True)])
def test_groups_with_an_objective_of_their_own_are_refused(name, value):
    """The search would follow it, and the rounds be judged by the plain loss."""
    f = Problem()
    with pytest.raises(ValueError, match=rf"params: got a group with {name}={value}; allowed is"):
        AnchoredLBFGS([{"params": [f.w], name: value}], f.batch_closure, N)


def test_what_is_no_function_no_count_or_no_loss_is_said():
    f = Problem()
    with pytest.raises(ValueError, match="rows: got 0; allowed"):
        AnchoredLBFGS([f.w], f.batch_closure, 0)
    with pytest.raises(TypeError, match="batch_closure: got 3; allowed"):
        AnchoredLBFGS([f.w], 3, N)
    with pytest.raises(TypeError, match="batch_closure: it returned None; allowed"):
        AnchoredLBFGS([f.w], lambda rows: None, N).step()
    for loss in (torch.tensor(3), torch.tensor(1j), torch.ones(2), 0.5):
        with pytest.raises(TypeError, match=r"batch_closure: it returned .*; allowed"):
            AnchoredLBFGS([f.w], lambda rows, loss=loss: loss, N).step()
    with pytest.raises(ValueError, match=r"rows: got a state of 600; allowed is one of 60"):
        Problem(n=60).optimizer().load_state_dict(f.optimizer().state_dict())
