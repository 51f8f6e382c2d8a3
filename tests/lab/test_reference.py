"""benchmarks/reference_08.py: each rung of the ladder changes what its name says, and nothing else."""

import importlib.util
import itertools
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "reference_08.py"
CHANGED = {
    "all images": set(),
    "equal cost": {"budget_in", "passes"},
    "epoch rule": {"loss_below", "latched", "reevaluate"},
    "batch norm": {"eval_after"},
    "initial models": {"model_seed"},
    "one-batch pairs": {"optimizer", "second_lr", "handover", "inner_steps", "max_evals", "latched", "reevaluate"},
    "handover": {"handover"},
    "dense layers": {"model_options"},
}
NOT_ADAMS = {"equal cost", "epoch rule", "one-batch pairs", "handover"}


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(FILE.parent))
    spec = importlib.util.spec_from_file_location("reference_08", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]
        sys.path.remove(str(FILE.parent))


@pytest.fixture(scope="module")
def scale(script):
    return script.Scale("cifar10", 49_923, 100, 3, 1)


def different(one, two):
    return {name for name, value in one.as_dict().items() if value != two.as_dict()[name]}


@pytest.mark.parametrize("contestant", ["adam", "fuse"])
def test_a_rung_changes_what_its_name_says(script, scale, contestant):
    ladder = [place for place in script.places([f"/{contestant}"]) if place.part == "ladder"]
    runs = [script.settings(place, 7, scale) for place in ladder]
    for (one, two), place in zip(itertools.pairwise(runs), ladder[1:], strict=True):
        wanted = set() if contestant == "adam" and place.name in NOT_ADAMS else CHANGED[place.name]
        assert different(one, two) == wanted, place
    for place in script.places([f"/{contestant}"]):
        if place.part == "alone":
            wanted = set() if contestant == "adam" and place.name in NOT_ADAMS else CHANGED[place.name]
            assert different(runs[0], script.settings(place, 7, scale)) == wanted, place


def test_the_first_rung_is_the_references_protocol(script, scale):
    adam, fuse = (script.settings(place, 42, scale) for place in script.places(["as it stands"]))
    for run in (adam, fuse):
        assert (run.batch, run.steps(49_923), run.lr) == (512, 100 * 97, 1e-3)
        assert (run.seed, run.model_seed, run.eval_after, run.budget_in) == (42, 0, 1, "epochs")
        assert run.model_options == {"depth": 5}
    assert (fuse.rule(49_923), fuse.loss_below, fuse.latched, fuse.reevaluate) == ("step:291", 2.0, False, True)
    assert (fuse.second_lr, fuse.history_size, fuse.options) == (1.0, 10, {})


def test_equal_cost_is_adams_number_of_evaluations(script, scale):
    (adam, fuse) = (script.settings(place, 0, scale) for place in script.places(["ladder/equal cost"]))
    assert fuse.budget_in == "evaluations"
    assert fuse.budget(49_923) == adam.budget(49_923) == 9700 * 512


def test_accuracy_is_of_500_images_until_it_is_mended(script):
    assert {place.name for place in script.places(["ladder"]) if place.accuracy == "test_accuracy_500"} == {
        "as it stands"
    }
    assert {place.name for place in script.places(["alone"]) if place.accuracy == "test_accuracy"} == {"all images"}
