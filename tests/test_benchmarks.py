"""benchmarks/: evaluations are counted as they are made, tables grow without loss. Nothing is timed here."""

import dataclasses
import importlib.util
import math
import sys
from pathlib import Path

import pytest
import torch

from fuse_lib import LBFGS
from fuse_lib.optim.observation import Observation

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(FOLDER))
pd = pytest.importorskip("pandas")
pytest.importorskip("seaborn")
import automatic_16  # noqa: E402
import automatic_tasks  # noqa: E402
import batch_size_07  # noqa: E402
import complexity_09  # noqa: E402
import curvature_15  # noqa: E402
import curvature_arms  # noqa: E402
import curvature_tasks  # noqa: E402
import growth  # noqa: E402
import memory  # noqa: E402
import overhead_14  # noqa: E402
import pairs_11  # noqa: E402
import plot  # noqa: E402
import rivals  # noqa: E402
import sensitivity_13  # noqa: E402
import soft_inequalities_10  # noqa: E402
import soft_switchover_10  # noqa: E402
import tables  # noqa: E402

sys.path.remove(str(FOLDER))
NEEDS = {"torchzero": "torchzero", "pytorch-minimize": "torchmin", "SciPy": "scipy"}


class Quadratic:
    """½ Σ a_i (x_i − 1)² + 1 over two tensors, which counts its calls itself."""

    gap, cap = 1e-4, 3000

    def __init__(self):
        self.calls = 0

    def loss(self, params):
        self.calls += 1
        a = torch.linspace(1.0, 30.0, 6, dtype=params[0].dtype)
        return 0.5 * (a * (torch.cat([p.flatten() for p in params]) - 1.0).square()).sum() + 1.0


START = [torch.zeros(2, 2), torch.zeros(2)]


def contestant(name):
    for beginning, module in NEEDS.items():
        if name.startswith(beginning) and importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    return rivals.contestants()[name]


def settings(one):
    return one.grid[len(one.grid) // 2] if one.grid else {}


@pytest.mark.parametrize("name", rivals.contestants())
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_each_call_of_the_function_is_counted_until_the_target_is_reached(name):
    one, problem = contestant(name), Quadratic()
    done = rivals.run(one, settings(one), problem, START, best=1.0)
    assert done.evals == problem.calls
    assert done.lowest <= 1.0 + Quadratic.gap
    evals = [e for e, _ in done.reached]
    assert len(evals) == len(rivals.GAPS)
    assert evals == sorted(evals)
    assert evals[-1] == done.evals


@pytest.mark.parametrize("name", rivals.contestants())
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_is_not_reached_is_said_and_the_cap_is_kept(name):
    one, problem = contestant(name), Quadratic()
    done = rivals.run(one, settings(one), problem, START, best=0.95, cap=4)
    assert done.evals == problem.calls == 4
    assert len(done.reached) < len(rivals.GAPS)


def test_the_three_ways_to_ask_give_one_value_and_gradient():
    problem = Quadratic()
    one = rivals.Run(problem, START, -math.inf, 10, dtype=torch.float64)
    x = one.vector() + torch.arange(6)
    of_array, gradient = one.of_array(x.numpy())
    leaf = x.clone().requires_grad_()
    of_vector = one.of_vector(leaf)
    of_vector.backward()
    assert one.closure().item() == of_array == of_vector.item()
    assert torch.equal(torch.from_numpy(gradient), leaf.grad)
    assert torch.equal(torch.cat([p.grad.flatten() for p in one.params]), leaf.grad)
    assert one.evals == problem.calls == 3


def test_a_start_is_left_as_it_is():
    rivals.run(rivals.contestants()["fuse_lib L-BFGS, 10"], {}, Quadratic(), START, best=1.0)
    assert all((p == 0).all() for p in START)


@pytest.mark.parametrize("name", rivals.PROBLEMS)
def test_the_objective_is_cross_entropy_and_a_penalty_of_the_weights(name):
    problem = rivals.PROBLEMS[name]
    start = problem.start(3)
    activation = {torch.tanh: torch.nn.Tanh, torch.relu: torch.nn.ReLU}[problem.activation]
    images = rivals.data.load(problem.dataset)
    model = rivals.models.build("mlp", images.in_shape, seed=3, hidden=problem.hidden, activation=activation)
    penalty = sum(layer.weight.square().sum() for layer in model if hasattr(layer, "weight"))
    expected = torch.nn.functional.cross_entropy(model(images.x_train), images.y_train) + 0.5e-4 * penalty
    torch.testing.assert_close(problem.loss(start), expected)
    torch.testing.assert_close(problem.loss([p.double() for p in start]).float(), expected)


def test_tuning_takes_the_candidate_of_the_fewest_evaluations():
    class Small(Quadratic):
        def start(self, seed):
            assert seed == rivals.TUNING
            return START

    one = rivals.Contestant(rivals.adam, grid=({"lr": 1e-4}, {"lr": 0.3}, {"lr": 1e-3}))
    assert rivals.tuned(one, Small(), 1.0) == {"lr": 0.3}
    assert rivals.tuned(rivals.Contestant(rivals.ours, {"m": 5}), Small(), 1.0) == {}


def test_the_summary_counts_a_run_that_did_not_arrive_as_endless():
    rows = [
        {"problem": "p", "contestant": who, "wanted": 1e-4, "evals 1e-04": evals, "seconds 1e-04": seconds}
        for who, runs in {"fuse_lib L-BFGS, 10": [(10, 1.0), (20, 2.0), (30, 3.0)],
                          "rival": [(None, None), (40, 1.0), (50, 4.0)],
                          "lost": [(None, None), (None, None), (10, 1.0)]}.items()
        for evals, seconds in runs
    ]  # fmt: skip
    found = rivals.summary(pd.DataFrame(rows)).loc["p"]
    assert found.evals.to_dict() == {"fuse_lib L-BFGS, 10": 20, "rival": 50, "lost": math.inf}
    assert found.arrived["rival"] == "2 of 3"
    assert found["evals / best of ours"]["rival"] == 2.5
    assert found["seconds / best of ours"]["rival"] == 2.0


def test_a_table_grows_and_keeps_what_it_had(tmp_path):
    path = tmp_path / "t.csv"
    tables.append(path, [{"d": 1, "ms": 0.5, "threads": 1, "commit": "a"}])
    before = path.read_text().splitlines()
    tables.append(path, [{"d": 2, "ms": 0.25, "threads": 1, "commit": "b", "processor": "P"}])
    table = tables.read(path)
    assert path.read_text().splitlines()[1] == before[1] + ","
    assert table.d.tolist() == [1, 2]
    assert table.processor.isna().tolist() == [True, False]
    assert tables.newest(table).d.tolist() == [2]
    assert not path.with_suffix(".part").exists()
    assert not len(tables.read(tmp_path / "none.csv"))


def test_what_the_sizes_of_growth_need_covers_the_history():
    history = growth.LBFGS([torch.nn.Parameter(torch.zeros(1000))], history_size=20)._second_phase().history
    history.allocate()
    assert growth.needed(1000, 20) > history._buffer.nbytes + 4 * 1000 * 2 * 20


def test_the_peak_is_taken_of_the_optimizer_that_is_named():
    x = torch.nn.Parameter(torch.zeros(3))
    assert isinstance(memory.optimizer("torch, float32", x, 5), torch.optim.LBFGS)
    opt = memory.optimizer("full batch, bfloat16", x, 5)
    assert opt._options.full_batch
    assert opt._options.history_dtype == torch.bfloat16
    assert not memory.optimizer("minibatch, float32", x, 5)._options.full_batch
    assert memory.expected("full batch, bfloat16", 20) == 26
    assert memory.expected("full batch, float32", 20) == 46


def test_the_figure_says_which_runs_did_not_arrive():
    rows = [
        {"problem": problem, "contestant": who, "start": start, "wanted": 1e-4,
         "evals 1e-04": None if (who, problem) == ("Adam", "hard") else 10 + start,
         "seconds 1e-04": None if (who, problem) == ("Adam", "hard") else 0.1}
        for problem in ("easy", "hard") for who in ("fuse_lib L-BFGS, 10", "torch L-BFGS, 10", "Adam")
        for start in range(3)
    ]  # fmt: skip
    figure = plot.of_rivals(pd.DataFrame(rows))
    said = {ax.get_title(): [t.get_text() for t in ax.texts if "reached" in t.get_text()] for ax in figure.axes[:2]}
    assert said == {"easy": [], "hard": ["not\nreached"]}
    plot.plt.close(figure)


@pytest.mark.parametrize("name", plot.FIGURES)
def test_the_recorded_tables_can_be_drawn(name, tmp_path):
    table = tables.read(tables.RESULTS / f"{name}.csv")
    if not len(table):
        pytest.skip("not recorded")
    latest = plot.latest(table)
    figure = plot.FIGURES[name](latest)
    if "problem" in table:
        assert set(latest.problem) == set(table.problem)
    assert all(ax.get_xlabel() or ax.get_ylabel() for ax in figure.axes)
    plot.plt.close(figure)


def test_the_direction_of_enough_exact_pairs_is_newtons():
    """With d conjugate steps BFGS knows a quadratic; a pair without positive curvature is left out."""
    hessian = torch.diag(torch.tensor([1.0, 4.0, 9.0, 30.0], dtype=torch.float64))
    s = torch.eye(4, dtype=torch.float64) * torch.tensor([[0.1], [1.0], [3.0], [0.5]])
    g = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
    found, kept = batch_size_07.direction(s, s @ hessian, g)
    assert kept == 4
    torch.testing.assert_close(found, -torch.linalg.solve(hessian, g))
    more_s, more_y = torch.cat([s, s[:1]]), torch.cat([s @ hessian, -s[:1]])
    again, kept = batch_size_07.direction(more_s, more_y, g)
    assert kept == 4
    torch.testing.assert_close(again, found)
    assert batch_size_07.direction(s, -s, g)[1] == 0


def test_the_scatter_of_vectors_is_their_variance_and_bias_in_units_of_the_reference():
    reference = torch.tensor([3.0, 4.0], dtype=torch.float64)
    v = reference + torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 5.0], [0.0, -5.0]], dtype=torch.float64)
    found = batch_size_07.scatter(v, reference, reference, "gradient")
    assert found["error"] == pytest.approx(52 / 4 / 25)
    assert found["variance"] == pytest.approx(52 / 3 / 25)
    assert found["error_median"] == pytest.approx(1 / 25)  # torch's median of four is the second
    assert found["descent"] == 1.0 - batch_size_07.scatter(v, reference, reference, "both")["descent"]


def test_rows_take_the_place_of_those_with_their_key_and_of_no_others(tmp_path):
    path = tmp_path / "t.csv"
    for side, step, value in ((16, 64, 2.0), (16, 24, 1.0), (32, 24, 3.0), (16, 24, 4.0)):
        tables.replace(path, pd.DataFrame([{"side": side, "step": step, "value": value}]), ["side", "step"])
    assert pd.read_csv(path).value.tolist() == [2.0, 3.0, 4.0]
    tables.replace(path, pd.DataFrame({"side": [16], "step": [1], "value": [5.0]}), ["side"], order=True)
    assert pd.read_csv(path).value.tolist() == [5.0, 3.0]
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_the_design_uses_every_slice_of_every_setting_once():
    design = sensitivity_13.design(40)
    for name in ("u_threshold", "u_lr", "u_m"):
        assert sorted((design[name] * 40).astype(int)) == list(range(40))
    assert design.equals(sensitivity_13.design(40))
    assert sorted(design.seed.unique()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("task", ["digits-softmax", "rosenbrock-10"])
def test_a_run_of_the_design_repeats_and_keeps_its_budget(task, monkeypatch):
    small = {"passes": 12} if task.startswith("digits") else {"evals": 60}
    monkeypatch.setitem(sensitivity_13.EVERY, task, dataclasses.replace(sensitivity_13.EVERY[task], **small))
    one, again, never = (sensitivity_13.run(task, rule, 0.5, 1e-2, 7, 3) for rule in ("step", "step", "never"))
    assert {**one, "seconds": 0} == {**again, "seconds": 0}
    assert one["spent"] <= 1
    assert one["switched"] == pytest.approx(0.5, abs=0.05)
    assert math.isnan(never["switched"])
    assert one["loss_start"] == never["loss_start"]
    assert one["loss"] != never["loss"]


def test_without_a_switch_a_run_of_the_design_is_torchs_adam(monkeypatch):
    monkeypatch.setitem(sensitivity_13.EVERY, "rosenbrock-10", sensitivity_13.Function("rosenbrock", 10, 30))
    problem = sensitivity_13.EVERY["rosenbrock-10"].begin(2)
    opt = torch.optim.Adam(problem.params, lr=3e-2)
    for _ in range(30):
        opt.step(problem.closure("first_order"))
    assert sensitivity_13.run("rosenbrock-10", "never", 0.0, 3e-2, 5, 2)["loss"] == problem.look()[0]


def test_the_least_value_is_below_every_recorded_run():
    runs, about = (tables.read(tables.RESULTS / f"13_{name}.csv") for name in ("runs", "tasks"))
    gaps = runs.loss - runs.task.map(about.set_index("task").least)
    assert (gaps > -1e-6).all()
    wanted, points = sensitivity_13.wanted, list(sensitivity_13.design().itertuples())
    planned = [(task, at.point, rule) for task in about.task for at in points for rule in sensitivity_13.RULES
               if wanted(task, rule, at.point, at.u_threshold)]  # fmt: skip
    assert sorted(zip(runs.task, runs.point, runs.rule, strict=True)) == sorted(planned)


@pytest.mark.parametrize("task", automatic_tasks.full_batch(), ids=lambda t: t.name)
def test_a_task_of_notebook_16_is_one_function_and_its_start_is_the_seeds(task):
    (_, loss), (_, again), (_, other) = task.make(0), task.make(0), task.make(1)
    assert loss().item() == loss().item() == again().item() != other().item()


def test_the_tasks_of_notebook_16_are_half_held_out():
    for some in (automatic_tasks.full_batch(), automatic_tasks.minibatch()):
        assert sum(task.held_out for task in some) >= len(some) / 2
        assert len(some) >= 6


def test_a_run_of_notebook_16_counts_every_evaluation_of_the_trials():
    task = next(t for t in automatic_tasks.full_batch() if t.name == "rosenbrock 2-d")
    calls = 0

    def counted(seed):
        params, loss = task.make(seed)

        def one():
            nonlocal calls
            calls += 1
            return loss()

        return params, one

    losses, opt = automatic_16.run(automatic_tasks.Task("counted", counted, False), 0, "auto", 0.1, 60)
    assert len(losses) == min(calls, 60)
    assert automatic_16.tried(opt)["trials"] >= 1
    assert automatic_16.evaluations([3.0, 1.0, 2.0, 0.5], 1.0) == 2
    assert automatic_16.evaluations([3.0], 1.0) is None


def test_the_ways_on_of_notebook_16_begin_at_one_point_and_are_those_of_their_optimizers():
    """f = 1 + ½ Σ c_i x_i², from where L-BFGS is after 20 evaluations."""
    weights = torch.logspace(0, 3, 30, dtype=torch.float64)

    def make(seed):
        x = torch.nn.Parameter(torch.linspace(1, 2, 30, dtype=torch.float64))
        return [x], lambda: 1.0 + 0.5 * (weights * x * x).sum()

    task = automatic_tasks.Task("thirty", make, False)
    ends = {how: automatic_16.went_on(task, 0, 0.01, 20, how) for how in ("second phase", "adam", "new adam")}
    assert len({end["start"] for end in ends.values()}) == 1
    losses, _ = automatic_16.run(task, 0, "step:3", 0.01, 60)
    spent = next(n for n in range(20, 25) if min(losses[:n]) == ends["second phase"]["start"])
    assert ends["second phase"]["lowest 20"] == min(losses[: spent + 20])
    assert ends["adam"]["lowest 60"] != ends["new adam"]["lowest 60"]
    assert automatic_16.went_on(task, 0, 0.01, 1000, "adam") is None  # solved before


def test_half_of_the_samples_of_a_minibatch_run_are_the_second_phases():
    task = automatic_tasks.Batches("digits", "linear", 100, 50, 4, False)
    never, half = (automatic_16.train(task, 0, 1e-2, rule) for rule in ("never", "half"))
    assert never["samples"] == 400
    assert half["samples"] >= 400
    assert half["train_loss"] != never["train_loss"]


def small_quadratic():
    return soft_switchover_10.complexity_problems.quadratic(10.0, d=5)


def test_a_blend_pays_for_its_search_and_for_the_blended_point():
    """A call takes two evaluations, where the first trial is accepted; the first one more, to test the promise."""
    found = soft_switchover_10.run(small_quadratic(), "constant θ", "theta:0.5", 0.1, 0, 40.0)
    assert 14 <= found["steps"] <= 20
    alone = soft_switchover_10.run(small_quadratic(), "Adam", "never", 0.1, 0, 40.0)
    assert alone["steps"] == 40
    assert found["e 40"] < found["e 20"] < found["e0"]
    assert found["e0"] == alone["e0"]


def test_settings_are_chosen_on_the_tuning_seeds_and_decay_for_its_own_budget():
    rows = [
        {"problem": "p", "family": family, "setting": setting, "lr": lr, "part": part, "e0": 1.0, "e 20": e, "e 80": e}
        for family, setting, lr, part, e in [
            ("constant θ", "theta:0.5", 0.1, "tuning", 0.2), ("constant θ", "theta:0.9", 0.1, "tuning", 0.3),
            ("constant θ", "theta:0.9", 0.1, "reported", 0.01), ("Adam, cosine decay", "budget:20", 0.1, "tuning", 0.1),
            ("Adam, cosine decay", "budget:80", 0.3, "tuning", 0.2), ("Adam", "never", 9.0, "tuning", math.inf),
            ("Adam", "never", 0.1, "tuning", 0.9),
        ]
    ]  # fmt: skip
    found = soft_switchover_10.chosen(pd.DataFrame(rows), "p", 80.0)
    assert found["constant θ"] == ("constant θ", "theta:0.5", 0.1)
    assert found["theta:0.9"] == ("constant θ", "theta:0.9", 0.1)
    assert found["Adam, cosine decay"] == ("Adam, cosine decay", "budget:80", 0.3)
    assert found["Adam"] == ("Adam", "never", 0.1)


def test_the_points_of_a_blend_are_those_of_algorithm_3():
    problem = small_quadratic()
    steps = list(soft_inequalities_10.blends(problem, "theta:0.3", 0.1, seed=0))
    step = steps[0]
    adams = step.x - 0.1 * step.g.sign()  # the first step of Adam
    torch.testing.assert_close(step.first, adams, rtol=1e-6, atol=0)
    toward = step.second - step.x
    torch.testing.assert_close(toward / toward.norm(), -step.g / step.g.norm())  # no pair yet
    torch.testing.assert_close(step.end, 0.3 * step.first + 0.7 * step.second)
    assert torch.equal(steps[1].x, step.end)


@pytest.mark.parametrize(("f_end", "violations"), [(0.55, 0), (0.65, 1)])
def test_a_blend_above_the_weighted_mean_is_counted_as_a_violation(f_end, violations):
    problem = small_quadratic()
    problem.mu = math.nan  # not convex, as far as the table knows
    step = next(soft_inequalities_10.blends(problem, "theta:0.5", 0.1, seed=0))
    step = step._replace(f_first=0.8, f_second=0.4, f_end=f_end)
    rows = [(1, name, *both, 0.0) for name, both in soft_inequalities_10.sides(step, problem, 0.1).items()]
    table = pd.DataFrame(rows, columns=["step", "inequality", "left", "right", "rounding"])
    assert soft_inequalities_10.summary(table).violations.to_dict() == {"convexity": violations}


def test_the_inequalities_hold_on_a_convex_function():
    found = soft_inequalities_10.summary(soft_inequalities_10.table_of(small_quadratic(), "theta:0.5", 0.1, 0))
    assert set(found.index) == {"convexity", "decrease", "step bound", "rise", "together", "pairs", "theorem"}
    assert found.violations.sum() == 0
    assert (found.closest <= 1.0).all()


def test_what_counts_is_the_last_accepted_point_within_the_budget():
    points = [(0, 5.0), (3, 4.0), (103, 1.0)]
    assert [pairs_11.at(points, c) for c in (0, 2, 3, 102, 103)] == [5.0, 5.0, 4.0, 4.0, 1.0]
    assert pairs_11.at([(0, 5.0), (1, math.nan)], 4) == math.inf


@pytest.mark.parametrize(
    ("first", "second"),
    [("Adam", "L-BFGS"), ("SGD", "Newton-CG"), ("none", "CG"), ("NAdam", "none"), ("RMSprop", "AdaHessian")],
)
def test_a_pairs_closure_calls_are_all_counted(first, second):
    problem = pairs_11.problems.quadratic(10.0, d=5)
    plain, calls = problem.loss, 0

    def counting(W, rows):
        nonlocal calls
        calls += W.requires_grad and torch.is_grad_enabled()
        return plain(W, rows)

    problem.loss = counting
    points, _ = pairs_11.train(problem, first, second, 1e-2, 0, 0.2, budget=20)
    assert points[-1][0] == calls
    assert points[0] == (0, pytest.approx(plain(problem.starts([0]), None).item()))
    if first != "none" and second != "none":
        assert [c for c, _ in points[:5]] == [0, 1, 2, 3, 4], "a fifth of the budget is the first phase's"


def test_a_shuffled_pair_keeps_its_lengths_and_its_curvature_and_loses_its_direction():
    s, y, wrong = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = y if s.dot(y) > 0 else -y
    found = curvature_arms.turned(s, y, wrong)
    for one, other in ((found.norm(), y.norm()), (s.dot(found), s.dot(y))):
        torch.testing.assert_close(one, other)
    across = [v - s * s.dot(v) / s.dot(s) for v in (found, wrong)]
    torch.testing.assert_close(torch.cosine_similarity(*across, dim=0), torch.tensor(1.0, dtype=torch.float64))
    assert (found - y).norm() > 0.1 * y.norm()
    assert torch.equal(curvature_arms.turned(s, y, 3.0 * s), y)


def arm_on(f, name, steps, start=None):
    """(the optimizer after so many steps on f, its parameter, evaluations)."""
    x, calls = torch.nn.Parameter(f.x0() if start is None else start), []
    opt = curvature_arms.Arm([x], curvature_arms.ARMS[name], f.hessian, full_batch=True)

    def closure():
        opt.zero_grad()
        loss = f(x)
        loss.backward()
        calls.append(loss.item())
        return loss

    for _ in range(steps):
        opt.step(closure)
    return opt, x, calls


def test_the_true_arm_is_the_librarys_lbfgs_bit_for_bit():
    f = curvature_tasks.problems.bent_valley(100.0, dim=5)
    _, x, calls = arm_on(f, "true", 12)
    own = torch.nn.Parameter(f.x0())
    opt = LBFGS([own], full_batch=True)
    for _ in range(12):

        def closure():
            opt.zero_grad()
            loss = f(own)
            loss.backward()
            return loss

        opt.step(closure)
    assert torch.equal(x, own)
    assert len(calls) >= 12


def test_the_identity_arm_goes_along_the_gradient_and_the_shuffled_one_does_not():
    f = curvature_tasks.problems.bent_valley(100.0, dim=5)
    for name, least, most in (("identity", 1 - 1e-9, 1.0), ("shuffled", -1.0, 0.999)):
        opt, _, _ = arm_on(f, name, 8)
        second = opt._second
        second.look(second.known)
        p, slope, *_ = second.method.direction(second.known, None, 1)
        g = second.known.gradient.vector
        cosine = float(torch.cosine_similarity(p, -g, dim=0))
        assert least <= cosine <= most + 1e-12, name
        assert slope == pytest.approx(float(p.dot(g)))
        if name == "identity":
            s, y = (v[second.history.slots[-1]] for v in (second.history.S, second.history.Y))
            torch.testing.assert_close(p, -g * s.dot(y) / y.dot(y))


def test_the_exact_arm_takes_newtons_step_and_leaves_a_saddle():
    bowl = curvature_tasks.problems.bent_valley(1e4, dim=6, bend=0.0)
    assert float(bowl.gap(arm_on(bowl, "exact", 1)[1].detach())) < 1e-20
    f = curvature_tasks.problems.saddle(negative=2, positive=3, condition=50.0)
    _, x, _ = arm_on(f, "exact", 12)
    assert float(f(x.detach())) == pytest.approx(f.least, abs=1e-8)


@pytest.mark.parametrize("name", curvature_arms.ARMS)
def test_an_arm_reaches_the_minimum_of_an_easy_valley_and_never_goes_up(name):
    f = curvature_tasks.problems.bent_valley(3.0, dim=4)
    _, x, _ = arm_on(f, name, 80)
    assert float(f.gap(x.detach())) < 1e-6


def small_task():
    f = curvature_tasks.problems.saddle(negative=1, positive=3, condition=10.0)
    return curvature_tasks.Task("small", f, curvature_tasks.along(f, (1, 1e-3), (3, 1.0)), top=0.0)


@pytest.mark.parametrize("noise", ["none", "held 0.1", "fresh 0.1"])
@pytest.mark.parametrize("batch", [1, 4])
def test_no_arm_spends_more_than_its_budget_and_gaps_are_those_of_the_function(noise, batch):
    task = small_task()
    x0 = task.starts()[0]
    for arm in ("true", "FUSE-PV"):
        row = curvature_15.second(task, noise, arm, batch, 100, x0, seed=0, lr=0.1)
        assert row["used"] <= 100
        assert row["gap 100"] == row["gap 500"] <= 1.0
        assert row.get("escape", 0) <= row["used"]
    assert row["steps"] >= 20  # Adam's


def test_adam_of_many_starts_is_adam_of_each_and_its_batch_costs():
    task = small_task()
    x0 = task.starts()[:3]
    together = curvature_15.adam(task, "none", 1, 0.1, True, 100, x0)
    alone = [curvature_15.adam(task, "none", 1, 0.1, True, 100, x[None])[0] for x in x0]
    for one, other in zip(together, alone, strict=True):
        assert one.keys() == other.keys()
        assert one["gap 100"] == pytest.approx(other["gap 100"], rel=1e-6)
    dear = curvature_15.adam(task, "held 0.1", 4, 0.1, False, 100, x0)
    assert all(row.get("to 0.1", 4) % 4 == 0 for row in dear)


@pytest.mark.parametrize("batch", [1, 16])
def test_the_noise_is_one_of_a_batch_and_is_held_or_fresh(batch):
    task = small_task()
    x = task.starts()[:1].expand(4000, 4).clone().requires_grad_()

    def gradient(loss):
        return torch.autograd.grad(loss(x).sum(), x)[0]

    exact = gradient(task.f)
    size = float(torch.func.grad(task.f.function)(task.f.x0()).square().sum())
    for noise in ("held 0.5", "fresh 0.5"):
        loss = curvature_tasks.objective(task, noise, batch, seed=0)
        first, again = gradient(loss), gradient(loss)
        loss.redraw()
        assert float((first - exact).square().sum(-1).mean()) == pytest.approx(0.25 * size / batch, rel=0.1)
        assert torch.equal(first, again) == (noise == "held 0.5")
        assert not torch.equal(first, gradient(loss))
    assert torch.equal(curvature_tasks.objective(task, "fresh 0.5", batch, 0)(x), task.f(x))  # the loss is exact


def test_random_rows_are_held_within_a_step():
    f, net = curvature_tasks.problems.tanh_net(rows=60, residual=0.01)
    loss = curvature_tasks.Rows(net, 8, seed=0)
    x = f.x0()
    one = loss(x)
    assert torch.equal(one, loss(x))
    loss.redraw()
    assert not torch.equal(one, loss(x))


def test_tuning_takes_the_lowest_gap_and_the_recorded_lrs_are_inside_the_grid():
    rows = [{"budget": b, "schedule": s, "lr": lr, "gap": gap} for b, s, lr, gap in
            [(100, "cosine", 0.1, 0.5), (100, "constant", 0.3, 0.4), (500, "cosine", 1.0, 0.1)]]  # fmt: skip
    assert curvature_15.best(rows, 100)["lr"] == 0.3
    assert curvature_15.best(rows, 100, "cosine")["lr"] == 0.1
    table = pd.read_csv(curvature_15.TUNED)
    at = table.loc[table.groupby(["problem", "noise", "batch", "budget"]).gap.idxmin()]
    edge = at.lr.isin([min(curvature_15.LRS), max(curvature_15.LRS)])
    assert edge.mean() < 0.1


# ---- complexity
def test_seeds_that_run_through_one_tensor_are_independent():
    problem = small_quadratic()
    both, one = (complexity_09.first_order(problem, "Adam", 0.1, 60, False, seeds) for seeds in ([0, 1], [1]))
    assert both[1] == pytest.approx(one[0], nan_ok=True)
    assert both[0]["end gap"] != pytest.approx(both[1]["end gap"])


@pytest.mark.parametrize("lr", [0.03, 0.3])
def test_fuse_pv_that_never_switches_meets_the_targets_where_adam_does(lr):
    problem = small_quadratic()
    (adam,) = complexity_09.first_order(problem, "Adam", lr, 80, False, [2])
    ours = complexity_09.fuse(problem, "never", lr, 80, 2, 10, math.inf)
    same = [name for name in adam if name.split()[0] in ("gap", "now", "mean", "end")]
    assert len(same) >= 6
    assert {name: ours[name] for name in same} == pytest.approx({name: adam[name] for name in same})


def test_a_target_is_met_once_and_several_may_be_met_together():
    targets = complexity_09.Targets(small_quadratic(), 0)
    for passes, gap in ((1.0, 0.9), (2.0, 0.009), (3.0, 0.5), (4.0, 0.0009)):
        targets.see(passes, targets.minimum + gap * targets.f0, targets.norm0)
    gaps = {float(name.split()[1]): passes for name, passes in targets.met.items() if name.startswith("gap")}
    assert gaps[0.1] == gaps[0.01] == 2.0
    assert gaps[0.001] == 4.0
    assert min(gaps) == pytest.approx(0.001)


@pytest.mark.parametrize(("power", "rate"), [(1.0, 0.05), (2.0, 0.05), (1.0, 0.01)])
def test_the_derived_rule_switches_where_a_power_law_falls_as_slowly_as_l_bfgs(power, rate):
    rule = complexity_09.Slower(rate, 1.0)
    memory = rule.memory()
    fired = next(t for t in range(1, 1000) if rule.met(Observation(t, grad_norm_sq=t**-power), memory))
    assert fired == pytest.approx(power / rate, rel=0.1)


# ---- overhead
def test_a_timed_step_counts_its_closures_and_holds_their_time():
    run = overhead_14.Run(overhead_14.CONTESTANTS["torch L-BFGS"], (8,), *overhead_14.rows(16, torch.device("cpu")))
    for _ in range(3):
        seconds, inside, evals = run.step()
        assert 0 < inside < seconds
        assert evals >= 1
        assert run.watch.pieces == []
