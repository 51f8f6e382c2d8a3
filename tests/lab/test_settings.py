"""fuse_lib.lab.settings and .plan: what is allowed, what a run is called, what a plan expands to."""

import dataclasses
import json
import sys

import pytest

from fuse_lib.lab import CONTESTANTS, Settings, expand, read
from fuse_lib.lab.optimizers import SOME_TAKE, in_steps


def test_the_name_of_a_run_is_stable():
    """Recorded tables depend on it: a change here renames every run that was ever kept."""
    assert Settings().run_id == "bb90828f77b3"
    assert Settings(optimizer="fuse_pv", lr=1e-2, options={"damped": True}).run_id == "25ff40782dc9"


def test_a_value_that_is_the_default_names_the_same_run():
    assert Settings(optimizer="adam", lr=1e-3).run_id == Settings().run_id
    assert Settings(passes=10).run_id == Settings(passes=10.0).run_id


@pytest.mark.parametrize("change", [
    {"seed": 1}, {"passes": 11}, {"batch": "full"}, {"lr": 0.1}, {"l2": 1e-4}, {"optimizer": "sgd"}, {"model": "cnn"},
    {"dataset": "digits"}, {"options": {"eps": 1e-7}}, {"model_options": {"hidden": [5]}}, {"chunk": 5},
    {"budget_in": "epochs"}, {"eval_after": 0},
], ids=lambda change: next(iter(change)))  # fmt: skip
def test_any_other_value_names_another_run(change):
    assert Settings(**change).run_id != Settings().run_id


@pytest.mark.parametrize("optimizer", CONTESTANTS)
def test_settings_can_be_made_again_from_their_dict(optimizer):
    run = Settings(optimizer=optimizer)
    again = Settings(**json.loads(json.dumps(run.as_dict())))
    assert again == run
    assert again.run_id == run.run_id
    assert {name for name in SOME_TAKE if name in CONTESTANTS[optimizer].takes} >= {
        name for name in SOME_TAKE if getattr(run, name) is not None
    }


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().seed = 3


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"optimizer": "adamw"}, "optimizer: got 'adamw'; allowed is one of adam, adam_cosine, sgd"),
        ({"model": "resnet"}, "model: got 'resnet'; allowed is one of linear"),
        ({"optimizer": "adam", "handover": "pairs"}, "handover: got 'pairs'; adam does not know it. It takes lr"),
        ({"optimizer": "lbfgs", "second_batch": 5}, "second_batch: got 5; lbfgs does not know it"),
        ({"optimizer": "fuse_pv", "switchover": "epoch:3"}, "switchover: got 'epoch:3'"),
        ({"optimizer": "fuse_pv", "switchover": "budget:1.5"}, "budget:F with 0 ≤ F ≤ 1"),
        ({"optimizer": "fuse_pv", "switchover": "passes:x"}, "passes:P with P ≥ 0"),
        ({"optimizer": "fuse_pv", "switchover": "theta:0.5"}, "which blends"),
        ({"optimizer": "fuse_pv", "handover": "all"}, "handover: got 'all'; allowed is one of none, pairs"),
        ({"optimizer": "fuse_pv", "second_batch": "all"}, "second_batch: got 'all'; allowed is an integer ≥ 1 or"),
        ({"optimizer": "fuse_pv", "max_evals": 1}, "max_evals: got 1; allowed is an integer ≥ 2"),
        ({"lr": 0}, "lr: got 0; allowed is a finite number > 0"),
        ({"lr": float("inf")}, "lr: got inf"),
        ({"l2": -1}, "l2: got -1; allowed is a finite number ≥ 0"),
        ({"seed": 1.5}, "seed: got 1.5"),
        ({"seed": True}, "seed: got True"),
        ({"seed": 10**20}, "seed: got 100000000000000000000; allowed is an integer ≥ 0, below 2⁶³"),
        ({"model_seed": 2**63}, "model_seed: got 9223372036854775808; allowed"),
        ({"batch": 0}, "batch: got 0"),
        ({"passes": 0}, "passes: got 0"),
        ({"points": 0}, "points: got 0"),
        ({"options": {"betas": {1, 2}}}, "options: got"),
        ({"options": 3}, "options: got 3"),
        ({"channels_last": 1}, "channels_last: got 1"),
        ({"dataset": ""}, "dataset: got ''"),
        ({"holdout": 0}, "holdout: got 0"),
        ({"budget_in": "steps"}, "budget_in: got 'steps'; allowed is one of evaluations, epochs"),
        ({"eval_after": -1}, "eval_after: got -1; allowed is a finite number ≥ 0"),
        ({"latched": True}, "latched: got True; adam does not know it"),
        ({"optimizer": "adam_lbfgs", "latched": 1, "loss_below": 2}, "latched: got 1; allowed is True or False"),
        ({"optimizer": "adam_lbfgs", "latched": False}, "latched: got False; allowed without loss_below is True"),
        ({"optimizer": "adam_lbfgs", "loss_below": 0}, "loss_below: got 0; allowed is a finite number > 0"),
        ({"optimizer": "adam_lbfgs", "switchover": "never"}, "got 'never'; allowed for adam_lbfgs is passes:P"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_is_not_allowed(given, match):
    with pytest.raises(ValueError, match=match):
        Settings(**given)


def test_budget_batch_and_steps():
    run = Settings(optimizer="fuse_pv", passes=2.5, batch=100, second_batch="full", switchover="passes:1")
    assert run.budget(1000) == 2500
    assert run.steps(1000) == 25
    assert (run.batch_rows(1000), run.batch_rows(1000, "second_order")) == (100, 1000)
    assert run.rule(1000) == "step:10"
    with pytest.raises(ValueError, match="batch: got 100; allowed is at most 99"):
        run.batch_rows(99)
    with pytest.raises(ValueError, match=r"passes: got 0\.05; allowed is a budget of one batch"):
        Settings(passes=0.05, batch=100).budget(1000)


def test_a_budget_in_epochs_is_of_whole_minibatches():
    run = Settings(passes=2.5, batch=300, budget_in="epochs", eval_after=2)
    assert (run.budget(1000), run.steps(1000), run.eval_steps(1000)) == (2250, 7, 6)
    assert Settings().eval_steps(1000) == float("inf")


def test_other_switchovers_are_the_librarys_own():
    assert in_steps("gradnorm:1e-3:50", rows=10, batch=2, steps=7) == "gradnorm:1e-3:50"
    assert in_steps("passes:0.5", rows=105, batch=10, steps=7) == "step:5"  # ten steps a pass: the rest is dropped


PLAN = {
    "dataset": ["digits", "usps"], "seed": [0, 1], "passes": 2,
    "contestants": [{"optimizer": "adam", "lr": [1e-3, 1e-2]}, {"optimizer": "lbfgs", "seed": 7}],
}  # fmt: skip


def test_a_plan_is_all_combinations():
    runs = expand(PLAN)
    assert len(runs) == 2 * 2 * 2 + 2
    assert {(r.dataset, r.seed) for r in runs if r.optimizer == "lbfgs"} == {("digits", 7), ("usps", 7)}
    assert len({r.run_id for r in runs}) == len(runs)
    assert expand({"seed": [3, 3]}) == [Settings(seed=3)]
    assert expand({}) == [Settings()]


def test_a_list_within_a_table_of_options_is_a_value():
    (run,) = expand({"model_options": {"hidden": [8, 4]}})
    assert run.model_options == {"hidden": [8, 4]}


@pytest.mark.parametrize(
    ("plan", "match"),
    [
        (
            {"optimiser": "adam"},
            r"optimiser: no such setting \(did you mean 'optimizer'\?\); allowed is dataset, model",
        ),
        ({"contestants": [{"learning_rate": 1}]}, "learning_rate: no such setting"),
        ({"contestants": [{"contestants": []}]}, "contestants: no such setting"),
        ({"contestants": {"optimizer": "adam"}}, "contestants: got"),
        ({"contestants": []}, r"contestants: got \[\]"),
        ({"seed": []}, "seed: got an empty list"),
        ({"seed": [0, "1"]}, "seed: got '1'"),
    ],
)
def test_a_bad_plan_says_what_is_wrong(plan, match):
    with pytest.raises(ValueError, match=match):
        expand(plan)


def test_a_plan_in_a_file(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    assert read(tmp_path / "plan.json") == expand(PLAN)
    if sys.version_info >= (3, 11):
        (tmp_path / "plan.toml").write_text(
            'dataset = ["digits", "usps"]\nseed = [0, 1]\npasses = 2\n[[contestants]]\noptimizer = "adam"\n'
            'lr = [1e-3, 1e-2]\n[[contestants]]\noptimizer = "lbfgs"\nseed = 7\n'
        )
        assert read(tmp_path / "plan.toml") == expand(PLAN)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [("plan.json", "{", "plan.json: .*allowed is a JSON or TOML file"), ("plan.json", "[]", "got a list"),
     ("plan.json", '{"sead": 1}', "plan.json: sead: no such setting"), ("plan.toml", "a = ", "plan.toml"),
     ("plan.json", None, "plan.json")],
)  # fmt: skip
def test_a_bad_file_is_named(tmp_path, name, content, match):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=match):
        read(tmp_path / name)
