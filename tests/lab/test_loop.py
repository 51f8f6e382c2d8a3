"""fuse_lib.lab.loop: one run. Costs, rows, ends."""

import contextlib
import dataclasses
import itertools
import math
import time

import pytest
import torch
import torch.nn.functional as F

from fuse_lib import FusePV, data, models
from fuse_lib.lab import COLUMNS, CONTESTANTS, Settings, run
from fuse_lib.lab.batches import Batches
from fuse_lib.lab.objective import Objective, Spent

DIGITS = data.load("digits")
SMALL = {"dataset": "digits", "model": "linear", "batch": 100, "passes": 3, "points": 6}


def without_seconds(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.parametrize("optimizer", CONTESTANTS)
def test_rows_of_each_contestant(optimizer):
    settings = Settings(**SMALL, optimizer=optimizer)
    rows, about = run(settings)
    assert all(tuple(sorted(row)) == tuple(sorted(COLUMNS)) for row in rows)
    assert {row["run_id"] for row in rows} == {settings.run_id}
    assert [row["status"] for row in rows] == ["running"] * (len(rows) - 1) + ["spent"]
    assert rows[0]["samples"] == rows[0]["evals"] == rows[0]["seconds"] == 0
    assert all(a["samples"] < b["samples"] and a["seconds"] < b["seconds"] for a, b in itertools.pairwise(rows))
    assert all(row["samples"] == 100 * row["evals"] <= 3 * 1437 for row in rows)
    assert rows[-1]["samples"] == 4300  # as many batches as the budget of 4,311 pays for
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    second = {"lbfgs", "torch_lbfgs"}
    assert {row["phase"] for row in rows} <= {"first_order", "second_order"}
    assert (rows[0]["phase"] == "second_order") == (optimizer in second)
    assert (rows[-1]["phase"] == "second_order") == (optimizer in second | {"adam_lbfgs", "fuse_pv", "fuse"})
    assert all(row["theta"] == (row["phase"] == "first_order") for row in rows)
    assert about["settings"] == settings.as_dict()
    assert (about["parameters"], about["rows_train"], about["status"]) == (650, 1437, "spent")


@pytest.mark.parametrize("optimizer", CONTESTANTS)
def test_the_same_seed_gives_the_same_rows_but_for_seconds(optimizer):
    settings = Settings(**SMALL, optimizer=optimizer)
    first = run(settings).rows
    torch.manual_seed(99)  # the process's random state is of no influence
    assert without_seconds(run(settings).rows) == without_seconds(first)
    other = run(dataclasses.replace(settings, seed=1)).rows
    assert other[0]["train_loss"] != first[0]["train_loss"]


def test_a_run_leaves_the_random_state():
    before = torch.get_rng_state()
    run(Settings(**SMALL))
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_points_are_equally_spaced():
    rows = run(Settings(dataset="digits", model="linear", batch=10, passes=2, points=4)).rows
    assert [row["samples"] for row in rows] == [0, 720, 1440, 2160, 2870]


def test_what_is_measured_does_not_depend_on_how_often():
    few = run(Settings(**{**SMALL, "points": 1}, optimizer="fuse_pv")).rows[-1]
    often = run(Settings(**{**SMALL, "points": 40}, optimizer="fuse_pv")).rows[-1]
    assert all(few[name] == often[name] for name in COLUMNS if name not in ("run_id", "seconds"))


def test_a_plain_loop_gives_the_same_end():
    """Adam, with the lab's order of rows and a loop of five lines."""
    rows = run(Settings(**SMALL, optimizer="adam", lr=1e-2, seed=5)).rows
    model = models.build("linear", DIGITS.in_shape, 10, seed=5)
    opt, batches = torch.optim.Adam(model.parameters(), lr=1e-2), Batches(DIGITS.x_train, DIGITS.y_train, seed=5)
    for _ in range(43):
        x, y = batches.draw(100)
        opt.zero_grad()
        F.cross_entropy(model(x), y).backward()
        opt.step()
    loss = F.cross_entropy(model(DIGITS.x_train), DIGITS.y_train)
    assert rows[-1]["train_loss"] == pytest.approx(loss.item(), rel=1e-6)
    accuracy = (model(DIGITS.x_test).argmax(1) == DIGITS.y_test).double().mean().item()
    assert rows[-1]["test_accuracy"] == accuracy
    assert rows[-1]["test_loss"] == pytest.approx(F.cross_entropy(model(DIGITS.x_test), DIGITS.y_test).item(), rel=1e-6)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    assert rows[-1]["grad_norm"] == pytest.approx(math.sqrt(sum(g.square().sum() for g in grads)), rel=1e-5)


def test_the_cosine_ends_at_zero(monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def spy(self, closure=None):
        rates.append(self.param_groups[0]["lr"])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    run(Settings(**SMALL, optimizer="adam_cosine", lr=0.1))
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * k / 43)) for k in range(43)])


def test_adam_sgd_changes_at_half_the_budget(monkeypatch):
    taken = []
    for kind in (torch.optim.Adam, torch.optim.SGD):

        def spy(self, closure=None, step=kind.step, kind=kind):
            taken.append((kind.__name__, self.param_groups[0]["lr"]))
            return step(self, closure)

        monkeypatch.setattr(kind, "step", spy)
    run(Settings(**SMALL, optimizer="adam_sgd", lr=0.1, second_lr=0.2))
    assert taken == [("Adam", 0.1)] * 21 + [("SGD", 0.2)] * 22


def test_torch_lbfgs_is_set_as_in_the_reference():
    from fuse_lib.lab import optimizers

    opt = optimizers.make([torch.nn.Parameter(torch.zeros(2))], Settings(**SMALL, optimizer="torch_lbfgs"), 1437).opt
    group = opt.param_groups[0]
    assert {k: group[k] for k in ("lr", "history_size", "max_iter", "max_eval", "line_search_fn")} == {
        "lr": 1.0, "history_size": 10, "max_iter": 20, "max_eval": 4, "line_search_fn": "strong_wolfe"}  # fmt: skip


REFERENCE = {"optimizer": "adam_lbfgs", "switchover": "passes:1", "loss_below": 2.0, "latched": False}


def played(losses, after=(), **given):
    """The phases of the steps of adam_lbfgs when its closure says these losses, and how often each step called it.

    after: what the closure says when called once more at the end of a step of L-BFGS.
    """
    from fuse_lib.lab import optimizers

    w = torch.nn.Parameter(torch.ones(2))
    settings = Settings(**{**SMALL, "optimizer": "adam_lbfgs", "batch": 500, "switchover": "passes:1", **given})
    driver = optimizers.make([w], settings, 1437)  # Adam for two steps
    phases, calls = [], []
    for k, loss in enumerate(losses):
        phases.append(driver.phase)
        calls.append(0)

        def closure(k=k, loss=loss):
            calls[k] += 1
            w.grad = torch.full_like(w, 1e-12)  # flat: torch's L-BFGS stops after one evaluation
            return torch.tensor(after[k] if after and calls[k] == 2 else loss)

        driver.step(closure)
    return "".join(phase[0] for phase in phases), calls


def test_adam_lbfgs_switches_after_the_epochs():
    assert played([9.0] * 5) == ("ffsss", [1] * 5)


def test_the_references_rule_asks_for_the_last_minibatchs_loss_and_goes_back():
    losses = [1.0, 2.0, 1.9, 2.1, 1.0, 1.0, math.nan, 1.0]
    assert played(losses, loss_below=2.0, latched=False)[0] == "fffsfssf"
    assert played(losses, loss_below=2.0)[0] == "fffsssss"
    assert played(losses, loss_below=1.5, latched=False)[0] == "fffffssf"
    assert played([1.0] * 3, loss_below=2.0, latched=False, switchover="passes:0")[0] == "fss"  # no loss before


def test_the_references_rule_may_ask_for_the_loss_after_a_step():
    losses, after = [1.0] * 6, [9.0, 9.0, 1.0, 9.0, 1.0, 1.0]
    given = {"loss_below": 2.0, "latched": False}
    assert played(losses, after, **given) == ("ffssss", [1] * 6)
    assert played(losses, after, **given, reevaluate=True) == ("ffssfs", [1, 1, 2, 2, 1, 2])


def test_the_references_optimizers_are_torchs_and_hand_nothing_over():
    """Steps of torch's Adam and of a torch L-BFGS that is new at the switch give the same parameters."""
    rows = run(Settings(**{**SMALL, "points": 1}, optimizer="adam_lbfgs", switchover="passes:1", seed=2)).rows
    model = models.build("linear", DIGITS.in_shape, 10, seed=2)
    objective = Objective(model, budget=3 * 1437, l2=0.0, chunk=10_000)
    batches = Batches(DIGITS.x_train, DIGITS.y_train, seed=2)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(14):
        adam.step(objective.closure(*batches.draw(100)))
    opt = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=20, max_eval=4, history_size=10,
                            line_search_fn="strong_wolfe")  # fmt: skip
    with contextlib.suppress(Spent):
        while True:
            start = [p.detach().clone() for p in model.parameters()]
            opt.step(objective.closure(*batches.draw(100)))
    with torch.no_grad():
        torch._foreach_copy_(list(model.parameters()), start)
    assert rows[-1]["train_loss"] == objective.train_loss(DIGITS.x_train, DIGITS.y_train)[0]


def test_a_budget_in_epochs_counts_minibatches():
    given = {**SMALL, "passes": 4, "points": 4, **REFERENCE, "loss_below": 9.0, "reevaluate": True}
    rows = run(Settings(**given, budget_in="epochs")).rows
    assert [row["samples"] for row in rows[:2]] == [0, 1400]  # Adam
    evals = [b["evals"] - a["evals"] for a, b in itertools.pairwise(rows[1:])]
    assert len(evals) == 3
    assert all(14 * 3 <= e <= 14 * 6 for e in evals)  # torch's search may go one beyond max_eval; and one more
    assert rows[-1]["status"] == "spent"
    assert run(Settings(**given)).rows[-1]["samples"] <= 4 * 1437
    adam = run(Settings(**{**SMALL, "points": 3}, budget_in="epochs")).rows
    assert [row["samples"] for row in adam] == [0, 1400, 2800, 4200]  # 14 batches an epoch, not 14.37


def test_evaluation_mode_from_some_epoch_on(monkeypatch):
    modes = []
    closure = Objective.closure

    def spy(self, x, y):
        modes.append(self.model.training)
        return closure(self, x, y)

    monkeypatch.setattr(Objective, "closure", spy)
    run(Settings(**SMALL, eval_after=1))
    assert modes == [True] * 14 + [False] * 29
    modes.clear()
    run(Settings(**SMALL))
    assert modes == [True] * 43


def test_batch_norm_is_frozen_in_evaluation_mode():
    small = {**SMALL, "model": "densenet", "passes": 1.5, "batch": 300, "model_options": {"depth": 4, "growth": 2}}
    start, end = (run(Settings(**{**small, "points": 2}, eval_after=after)).rows for after in (0, None))
    assert start[0]["train_loss"] == end[0]["train_loss"]
    assert start[-1]["train_loss"] != end[-1]["train_loss"]
    model = models.build("densenet", (1, 8, 8), 10, seed=0, depth=4, growth=2).eval()
    before = [b.clone() for b in model.buffers()]
    objective = Objective(model, budget=math.inf, l2=0.0, chunk=10_000)
    objective.test(DIGITS.x_test, DIGITS.y_test)  # leaves the mode as it was
    objective.closure(DIGITS.x_train, DIGITS.y_train)()
    assert not model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))


def test_accuracy_on_the_first_500():
    model = models.build("linear", DIGITS.in_shape, 10, seed=0)
    x, y = DIGITS.x_train, DIGITS.y_train
    right = model(x).argmax(1) == y
    _, accuracy, first = Objective(model, budget=0, l2=0.0, chunk=10_000).test(x, y)
    assert (accuracy, first) == (right.sum().item() / 1437, right[:500].sum().item() / 500)
    assert accuracy != first


def test_the_second_phase_gets_its_own_batch():
    settings = Settings(**{**SMALL, "passes": 12, "points": 60}, optimizer="fuse_pv", switchover="passes:2",
                        second_batch="full", handover="none")  # fmt: skip
    rows = run(settings).rows
    first = [row for row in rows if row["phase"] == "first_order"]
    assert first[-1]["samples"] <= 2800 == 28 * 100
    second = [row for row in rows if row["phase"] == "second_order"]
    assert all((row["samples"] - 2800) % 1437 == 0 for row in second)
    assert rows[-1]["samples"] <= 12 * 1437


@pytest.mark.parametrize(("handover", "batch", "promised"), [
    ("none", 100, True), ("metric", 100, True), ("pairs", 100, False), ("both", 100, False), ("pairs", "full", True),
])  # fmt: skip
def test_full_batch_is_promised_only_where_no_pair_spans_two_batches(handover, batch, promised):
    from fuse_lib.lab import optimizers

    settings = Settings(dataset="digits", model="linear", optimizer="fuse_pv", batch=batch, second_batch="full",
                        handover=handover)  # fmt: skip
    driver = optimizers.make([torch.nn.Parameter(torch.zeros(2))], settings, 1437)
    assert isinstance(driver.opt, FusePV)
    assert driver.full_batch is driver.opt._options.full_batch is promised


def test_a_full_batch_run_ends_when_there_is_nothing_left_to_gain():
    settings = Settings(**{**SMALL, "batch": "full", "passes": 400}, optimizer="lbfgs", l2=1e-2)
    rows = run(settings).rows
    assert rows[-1]["status"] in ("converged", "no_progress")
    assert rows[-1]["grad_norm"] < 1e-3
    assert rows[-1]["samples"] < 400 * 1437


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_that_diverges_ends_with_a_row_that_says_so(optimizer):
    settings = Settings(**{**SMALL, "model": "mlp"}, optimizer=optimizer, lr=1e30)
    rows, about = run(settings)
    assert rows[-1]["status"] == about["status"] == "diverged"
    assert not math.isfinite(rows[-1]["train_loss"])
    assert rows[-1]["samples"] < 3 * 1437 / 2  # noticed at the first point


def test_l2_is_part_of_the_objective():
    with_l2 = run(Settings(**SMALL, l2=0.1)).rows[0]
    without = run(Settings(**SMALL)).rows[0]
    model = models.build("linear", DIGITS.in_shape, 10, seed=0)
    penalty = 0.05 * sum(p.square().sum() for p in model.parameters()).item()
    assert with_l2["train_loss"] == pytest.approx(without["train_loss"] + penalty, rel=1e-6)
    assert with_l2["test_loss"] == without["test_loss"]


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_pieces_give_what_the_whole_gives(l2):
    model = models.build("mlp", DIGITS.in_shape, 10, seed=0)
    x, y = DIGITS.x_train, DIGITS.y_train
    found = []
    for chunk in (10_000, 500):
        objective = Objective(model, budget=1437, l2=l2, chunk=chunk)
        loss = objective.closure(x, y)()
        found.append(
            (loss, [p.grad.clone() for p in model.parameters()], *objective.train_loss(x, y), *objective.test(x, y))
        )
        assert (objective.evals, objective.samples) == (1, 1437)
    torch.testing.assert_close(*found)


def test_an_evaluation_beyond_the_budget_is_refused_before_it_is_made():
    model = models.build("linear", DIGITS.in_shape, 10, seed=0)
    objective = Objective(model, budget=250, l2=0.0, chunk=10_000)
    closure = objective.closure(DIGITS.x_train[:100], DIGITS.y_train[:100])
    closure()
    closure()
    model.zero_grad()
    with pytest.raises(Spent):
        closure()
    assert (objective.evals, objective.samples) == (2, 200)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("optimizer", ["lbfgs", "torch_lbfgs"])
def test_a_budget_that_ends_within_a_search_leaves_no_trial_point(optimizer):
    """The end is a point that the optimizer had accepted, never a trial."""
    losses = [
        run(Settings(**{**SMALL, "batch": "full", "passes": passes}, optimizer=optimizer, lr=50.0)).rows[-1][
            "train_loss"
        ]
        for passes in range(1, 12)
    ]
    assert all(b <= a * (1 + 1e-6) for a, b in itertools.pairwise(losses)), losses


def test_batches_are_without_replacement_and_drop_the_rest():
    n = 25
    batches = Batches(torch.arange(float(n)), torch.arange(n), seed=3)
    passes = [torch.cat([batches.draw(10)[1] for _ in range(2)]) for _ in range(3)]
    assert all(len(set(p.tolist())) == 20 for p in passes)
    assert not torch.equal(passes[0], passes[1])
    x, y = batches.draw(10)
    assert torch.equal(x.long(), y)
    same = Batches(torch.arange(float(n)), torch.arange(n), seed=3)
    assert torch.equal(torch.cat([same.draw(10)[1] for _ in range(2)]), passes[0])


def test_a_batch_keeps_channels_last():
    x = torch.rand(6, 3, 4, 4).to(memory_format=torch.channels_last)
    batches = Batches(x, torch.arange(6), seed=0)
    assert batches.draw(4)[0].is_contiguous(memory_format=torch.channels_last)
    assert not batches.draw(4)[0].is_contiguous()


def test_holdout_and_train_rows():
    rows, about = run(Settings(**SMALL, holdout=300, train_rows=500))
    assert (about["rows_train"], about["rows_test"]) == (500, 300)
    assert about["unofficial"] is True
    assert all(row["unofficial"] is True for row in rows)
    assert rows[-1]["samples"] == 1500


def test_model_seed_is_apart_from_the_order():
    one, two = (run(Settings(**SMALL, seed=seed, model_seed=7)).rows for seed in (0, 1))
    assert one[0]["train_loss"] == two[0]["train_loss"]
    assert one[-1]["train_loss"] != two[-1]["train_loss"]


def test_a_blend_is_told_by_its_theta():
    rows = run(Settings(**SMALL, optimizer="fuse", switchover="theta:0.5")).rows
    assert {(row["phase"], row["theta"]) for row in rows} == {("blend", 0.5)}
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_what_an_evaluation_point_takes_is_not_in_the_seconds(monkeypatch):
    measured = Objective.test

    def slow(self, x, y):
        time.sleep(0.5)
        return measured(self, x, y)

    monkeypatch.setattr(Objective, "test", slow)
    start = time.perf_counter()
    rows = run(Settings(**{**SMALL, "points": 3})).rows
    assert rows[-1]["seconds"] < time.perf_counter() - start - 4 * 0.5 + 0.01


@pytest.mark.parametrize("optimizer", ["adam", "fuse_pv", "torch_lbfgs"])
def test_channels_last_changes_the_last_digits_at_most(optimizer):
    small = {**SMALL, "model": "densenet", "passes": 1, "batch": 300, "model_options": {"depth": 7, "growth": 4}}
    small |= {"optimizer": optimizer}
    one, two = (run(Settings(**small, channels_last=last)).rows[-1] for last in (False, True))
    assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-4)


def test_a_model_with_batch_norm_is_measured_in_evaluation_mode_and_trained_in_training_mode():
    model = models.build("densenet", (1, 8, 8), 10, seed=0, depth=4, growth=2)
    objective = Objective(model.train(), budget=1000, l2=0.0, chunk=10_000)
    x, y = DIGITS.x_train[:100], DIGITS.y_train[:100]
    before = [b.clone() for b in model.buffers()]
    objective.train_loss(x, y)
    objective.test(x, y)
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    assert model.training
    objective.closure(x, y)()
    assert not all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))


def test_fresh_norm_measures_as_the_rows_themselves_are_normalised_and_leaves_all_as_it_was():
    model = models.build("densenet", (1, 8, 8), 10, seed=0, depth=4, growth=2).train()
    objective = Objective(model, budget=1000, l2=0.0, chunk=10_000)
    x, y = DIGITS.x_train[:400], DIGITS.y_train[:400]
    in_training = F.cross_entropy(model(x), y).item()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [b.clone() for b in model.buffers()]
    stale = objective.train_loss(x, y)[0]
    with objective.fresh_norm(x):
        fresh = objective.train_loss(x, y)[0]
    assert fresh == pytest.approx(in_training, rel=1e-3)  # the variance is divided by n − 1
    assert abs(stale - in_training) > 0.02
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    assert {m.momentum for m in norms} == {0.1}
    assert model.training
    with pytest.raises(KeyError), objective.fresh_norm(x):
        raise KeyError
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))


@pytest.mark.parametrize("eval_after", [None, 0.5])
def test_fresh_norm_changes_what_is_measured_and_not_the_run(eval_after):
    small = {**SMALL, "model": "densenet", "passes": 1, "model_options": {"depth": 4, "growth": 2}, "lr": 0.1}
    ends = {}
    for fresh in (False, True):
        given = {**small, "eval_after": eval_after, "fresh_norm": fresh}
        ends[fresh], more = (run(Settings(**{**given, "points": points})).rows[-1] for points in (1, 4))
        assert without_seconds([{**more, "run_id": ""}]) == without_seconds([{**ends[fresh], "run_id": ""}])
    assert ends[False]["test_loss"] != ends[True]["test_loss"]
    without = {"model": "mlp", "passes": 1}
    plain, fresh = (run(Settings(**{**SMALL, **without}, fresh_norm=fresh)).rows[-1] for fresh in (False, True))
    assert without_seconds([{**plain, "run_id": ""}]) == without_seconds([{**fresh, "run_id": ""}])


def test_measuring_touches_no_gradient():
    model = models.build("linear", DIGITS.in_shape, 10, seed=0)
    objective = Objective(model, budget=1000, l2=0.1, chunk=10_000)
    objective.closure(DIGITS.x_train[:100], DIGITS.y_train[:100])()
    before = [p.grad.clone() for p in model.parameters()]
    objective.train_loss(DIGITS.x_train, DIGITS.y_train)
    assert all(torch.equal(a, p.grad) for a, p in zip(before, model.parameters(), strict=True))


def test_a_data_set_that_was_loaded_already():
    rows = run(Settings(**SMALL), dataset=DIGITS).rows
    assert without_seconds(rows) == without_seconds(run(Settings(**SMALL)).rows)
