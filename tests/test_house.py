"""What is written in more than one place says the same."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONDA_NAMES = {"torch": "pytorch"}


def split(requirement):
    name, bound = re.fullmatch(r"([\w-]+)(.*)", requirement).groups()
    return CONDA_NAMES.get(name, name), bound


def test_environment_yml_has_the_names_and_ranges_of_pyproject():
    project = PROJECT["project"]
    extras = dict(project["optional-dependencies"])
    del extras["bench"]  # other optimizers, to compare with: `make bench` installs them, the course needs none
    wanted = [project["dependencies"], *extras.values()]
    wanted = dict(split(r) for group in wanted for r in group)
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    found = dict(split(r) for r in conda["dependencies"])
    assert found.pop("python") == project["requires-python"]
    assert found.pop("pip") == ""
    assert found == wanted
    assert conda["channels"] == ["conda-forge", "nodefaults"]


def test_environment_yml_gives_a_reason_beside_each_dependency():
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    start = lines.index("dependencies:") + 1
    assert all("#" in line or "python>=" in line for line in lines[start:])


def test_ranges_not_pins_and_no_index_address():
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "environment.yml", "Makefile")]
    requirements = [r for group in PROJECT["project"]["optional-dependencies"].values() for r in group]
    assert all(">=" in r and "==" not in r for r in requirements)
    assert not any(word in text for text in texts for word in ("index-url", "find-links", "pypi.org"))


def test_the_version_is_one():
    import fuse_lib

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == fuse_lib.__version__


def tracked():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in done.stdout.splitlines()]


def test_the_optimizers_layers_import_one_way():
    """Each file of optim/ imports only files that stand before it here; nothing above imports the rest of fuse_lib."""
    order = [
        "line_search", "direction", "gram", "blocks", "closure", "observation", "report", "processes", "vectors",
        "history", "rule", "checks", "criteria", "schedules", "auto", "switchover", "first_order", "point",
        "noise", "promise", "method", "differences", "quasi_newton", "conjugate_gradients", "newton_cg", "adahessian",
        "second_order", "second_state", "handover", "plain", "methods", "options", "watch", "checkpoint", "blend",
        "fuse", "lbfgs", "anchored", "__init__",
    ]  # fmt: skip
    files = sorted((ROOT / "fuse_lib" / "optim").glob("*.py"))
    assert sorted(order) == sorted(f.stem for f in files)
    for file in files:
        text = file.read_text(encoding="utf-8")
        for name in re.findall(r"from fuse_lib\.optim\.(\w+) import", text):
            assert order.index(name) < order.index(file.stem), f"{file.stem} imports {name}"
        assert not re.search(r"^(from|import) (numpy|matplotlib|pandas|fuse_lib\.(?!optim))", text, re.M), file


def test_the_labs_layers_import_one_way():
    """Each file of lab/ imports only files that stand before it here, and of fuse_lib only what lies below it."""
    order = [
        "optimizers", "settings", "batches", "objective", "provenance", "loop", "records", "plan", "memory", "counting",
        "grid", "statistics", "sensitivity", "__init__",
    ]  # fmt: skip
    files = sorted((ROOT / "fuse_lib" / "lab").glob("*.py"))
    assert sorted(order) == sorted(f.stem for f in files)
    for file in files:
        text = file.read_text(encoding="utf-8").replace("if TYPE_CHECKING:\n    from fuse_lib", "")
        for name in re.findall(r"from fuse_lib\.lab(?:\.| import )(\w+)", text):
            assert order.index(name) < order.index(file.stem), f"{file.stem} imports {name}"
        for name in re.findall(r"from fuse_lib\.(\w+)[.\w]* import", text):
            assert name in ("lab", "optim", "data", "models"), f"{file.stem} imports {name}"
        for names in re.findall(r"from fuse_lib import (.+)", text):
            allowed = {"data", "models", "lab", "__version__"}
            assert set(names.split(", ")) <= allowed, f"{file.stem} imports {names}"


def test_the_line_search_knows_no_torch_and_the_direction_no_parameter():
    optim = ROOT / "fuse_lib" / "optim"
    assert not re.search(r"^(from|import) torch", (optim / "line_search.py").read_text(encoding="utf-8"), re.M)
    for name in ("line_search", "direction", "history", "second_order"):
        code = (optim / f"{name}.py").read_text(encoding="utf-8")
        assert "param_groups" not in code, name
        assert ".grad\b" not in code, name
