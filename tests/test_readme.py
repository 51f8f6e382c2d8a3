"""The README's examples run, and its links lead somewhere."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_blocks_run_one_after_another():
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert len(blocks) == 2
    names: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["step"] >= 100  # it went through the switch
    assert str(names["opt"].switchover) == "LossBelow(target=0.1)"


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


def test_own_rule_is_ten_lines():
    block = re.findall(r"```python\n(.*?)```", TEXT, re.S)[1]
    start = block.index("@dataclass")
    body = block[start : block.index("opt = ")].strip().splitlines()
    assert len(body) <= 10
