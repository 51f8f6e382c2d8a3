"""The README's examples run, and its links lead somewhere."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_blocks_run_one_after_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # one writes a checkpoint
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert len(blocks) == 3
    names: dict = {}
    exec(compile(blocks[0], "README.md", "exec"), names)
    assert names["step"] >= 100  # it went through the switch
    exec(compile(blocks[1], "README.md", "exec"), names)
    assert names["opt"].phase == "second_order"
    assert names["opt"].last_step.stop_reason is None
    exec(compile(blocks[2], "README.md", "exec"), names)
    assert str(names["opt"].switchover) == "LossBelow(target=0.1)"


def test_the_checkpoint_of_the_minibatch_loop_goes_on_to_the_same_loss(tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    first, second = re.findall(r"```python\n(.*?)```", TEXT, re.S)[:2]
    names: dict = {}
    exec(compile(first, "README.md", "exec"), names)
    whole = second.replace("torch.save(", "state = torch.get_rng_state(); torch.save(")
    assert whole != second
    exec(compile(whole, "README.md", "exec"), names)
    loss = names["closure"]().item()

    made, loop = second.split("for step in range(170):")
    names["saved"] = torch.load("checkpoint.pt", weights_only=True)
    torch.manual_seed(1)  # other weights
    load = "\n".join(f'{name}.load_state_dict(saved["{name}"])' for name in ("net", "opt", "schedule"))
    torch_state = "torch.set_rng_state(state)\nfor step in range(101, 170):"
    exec(compile(f"{made}\n{load}\n{torch_state}{loop}", "README.md", "exec"), names)
    assert names["closure"]().item() == loss


def test_the_loop_in_the_readme_reaches_a_lower_loss_than_adam_alone():
    import torch

    block = re.findall(r"```python\n(.*?)```", TEXT, re.S)[0]
    losses = {}
    for rule in ("step:100", "never"):
        names: dict = {}
        torch.manual_seed(0)
        exec(compile(block.replace("step:100", rule), "README.md", "exec"), names)
        losses[rule] = float(names["closure"]().detach())
    assert losses["step:100"] < losses["never"]


def test_links_to_files_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_addresses_are_the_projects_own():
    """pyproject.toml names it once; here it stands in commands that people copy."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    repository = re.search(r'^repository = "https://github.com/([^"]+)"', pyproject, re.M).group(1)
    branch = re.search(r'^branch = "([^"]+)"', pyproject, re.M).group(1)
    named = re.findall(r"github\.com/([\w-]+/[\w-]+)", TEXT) + re.findall(r"/github/([\w-]+/[\w-]+)/", TEXT)
    assert len(named) >= 3
    assert set(named) == {repository}
    assert f"/github/{repository}/blob/{branch}/" in TEXT


def test_own_rule_is_ten_lines():
    block = re.findall(r"```python\n(.*?)```", TEXT, re.S)[2]
    start = block.index("@dataclass")
    body = block[start : block.index("opt = ")].strip().splitlines()
    assert len(body) <= 10
