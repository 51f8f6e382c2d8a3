"""A stored number that is wrong is found, in each notebook; and its checked numbers hold with one thread.

Each notebook is copied, and each of its checked cells put there three times: as it is, with one digit or boolean of its
stored output changed, and as it is. nbval has to reject the second and nothing else; so a checked cell must stand being
run again, as learners do. The copy runs as a whole with one thread, and all its outputs are compared but figures and
cells tagged nbval-ignore-output, whose numbers depend on the clock or the thread count: this is the first of the two
passes over all notebooks, and `make test` makes the other, with two.
"""

import copy
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import pytest

from tests.notebooks import course

SANITIZE = Path(__file__).with_name("sanitize.cfg")


def changed(text):
    """The text with its last digit or boolean another."""
    found = list(re.finditer(r"\b(True|False)\b|\d", text))
    if not found:
        raise ValueError(f"a checked output has no number and no boolean: {text!r}")
    at, old = found[-1].span(), found[-1][0]
    new = {"True": "False", "False": "True"}.get(old) or str((int(old) + 1) % 10)
    return text[: at[0]] + new + text[at[1] :]


def with_wrong_twins(notebook):
    """→ the copy, and the places in it (counted in code cells, as nbval counts) that must fail."""
    copied, wrong, cells = copy.deepcopy(notebook), [], []
    for cell in copied.cells:
        cells.append(cell)
        if course.CHECKED in course.tags(cell):
            twin, again = copy.deepcopy(cell), copy.deepcopy(cell)
            twin.id, again.id = f"{cell.id}-changed", f"{cell.id}-again"
            change(twin)
            cells += [twin, again]
            wrong.append(sum(c.cell_type == "code" for c in cells) - 2)
    copied.cells = cells
    return copied, wrong


def change(cell):
    """Change one stored number of a checked cell: in what it printed, or else in the value it ended with."""
    for output in cell.outputs:
        if output.output_type == "stream":
            output.text = changed(output.text)
            return
        if "text/plain" in output.get("data", {}):
            output.data["text/plain"] = changed(output.data["text/plain"])
            return
    raise ValueError("a checked cell stores neither printed text nor a value")


def nbval(path, threads):
    """→ the names of the cells that passed and of those that failed."""
    report = path.with_suffix(".xml")
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-p", "no:cacheprovider", "--nbval",
               "--nbval-cell-timeout=600", f"--nbval-sanitize-with={SANITIZE}", f"--junitxml={report}",
               str(path)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, cwd=path.parent, env=environment, capture_output=True, text=True, check=False)
    assert report.exists(), done.stdout + done.stderr
    cases = [(int(c.get("name").split()[-1]), c) for c in ET.parse(report).iter("testcase")]
    failed = {n for n, c in cases if c.find("failure") is not None or c.find("error") is not None}
    return {n for n, _ in cases} - failed, failed, done.stdout[-6000:]


@pytest.mark.slow
@course.each
def test_a_changed_number_is_found_and_nothing_else_is_with_one_thread(path, tmp_path):
    notebook, wrong = with_wrong_twins(course.load(path))
    nbformat.write(notebook, tmp_path / path.name)
    passed, failed, said = nbval(tmp_path / path.name, threads=1)
    assert wrong
    assert not failed & {n + 1 for n in wrong}, f"a checked cell gives something else when it is run again\n{said}"
    assert failed == set(wrong), said
    assert len(passed) == sum(c.cell_type == "code" for c in notebook.cells) - len(wrong)


@pytest.mark.parametrize(
    ("before", "after"),
    [("a: True", "a: False"), ("5 of 5", "5 of 6"), ("x 1.29", "x 1.20"), ("False, 3 below", "False, 4 below")],
)
def test_one_digit_or_boolean_is_changed(before, after):
    assert changed(before) == after


def test_a_check_without_a_number_is_an_error():
    with pytest.raises(ValueError, match="no number"):
        changed("done")
