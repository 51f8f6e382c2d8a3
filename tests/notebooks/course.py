"""What the tests of the notebooks share: which there are, what is in them, and how long they say they take."""

import os
import re
from pathlib import Path

import nbformat
import pytest

from fuse_lib import notebooks

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
ALL = notebooks.every(FOLDER)
# Those that run once more by themselves and in a browser; the others do so with FUSE_ALONE=all (`make alone`).
CHOSEN = [p for p in ALL if p.stem[:2] in ("00", "03", "04") or os.environ.get("FUSE_ALONE") == "all"]
CHECKED, IGNORED = "nbval-check-output", "nbval-ignore-output"
each = pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)


def load(path):
    return nbformat.read(path, as_version=4)


def tags(cell):
    return cell.metadata.get("tags", [])


def text_of(path):
    return "\n".join(c.source for c in load(path).cells if c.cell_type == "markdown")


def code_cells(path):
    return [c for c in load(path).cells if c.cell_type == "code"]


def has_widget(cell):
    """Whether the cell makes controls: its own code calls `explore`."""
    return cell.cell_type == "code" and re.search(r"\bexplore\(", cell.source) is not None


def minutes(path):
    """What the head promises: minutes to read, minutes to run."""
    found = re.search(r"\*\*Minutes\*\*: (\d+) to read, (\d+) to run\.", text_of(path))
    assert found, 'the head says "**Minutes**: N to read, M to run."'
    return int(found[1]), int(found[2])


def check_minutes(path, seconds):
    """A measured run is within a factor of three of what the head promises; a quick one may always be quicker."""
    promised = 60 * minutes(path)[1]
    assert seconds <= 3 * max(promised, 20), f"took {seconds:.0f} s; the head promises {promised} s"
    assert promised <= 60 or seconds >= promised / 3, f"took only {seconds:.0f} s; the head says {promised} s"
