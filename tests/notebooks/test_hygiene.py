"""What every notebook of the course keeps to."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

from fuse_lib import notebooks

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
sys.path.insert(0, str(FOLDER))
import build  # noqa: E402

ALL = notebooks.every(FOLDER)
each = pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)


def load(path):
    return nbformat.read(path, as_version=4)


def text_of(path):
    return "\n".join(c.source for c in load(path).cells if c.cell_type == "markdown")


def code_cells(path):
    return [c for c in load(path).cells if c.cell_type == "code"]


def test_there_are_notebooks_and_each_has_a_source():
    assert ALL
    assert [p.stem for p in ALL] == [s.stem for s in build.sources()]


@each
def test_it_holds_the_cells_of_its_source(path):
    """Also that the public address in badges and install cells is the one in pyproject.toml."""
    assert build.is_current(FOLDER / "source" / f"{path.stem}.py"), "run `make notebooks`"


@each
def test_badge_and_install_cell_name_the_public_address(path):
    address = build.address()
    raw = path.read_text(encoding="utf-8")
    assert "@repository" not in raw
    assert f"colab.research.google.com/github/{address['repository_path']}/blob/{address['branch']}" in raw
    assert f"git+{address['repository']}@{address['branch']}" in raw


@each
def test_head_and_foot(path):
    text = text_of(path)
    assert re.match(rf"# {path.stem[:2]} · \S", text)
    for part in ("**You will learn**", "**You need first**", "**Minutes**", "## Summary", "## References"):
        assert part in text, part
    assert re.search(r"arxiv\.org|doi\.org", text)


@each
def test_one_parameters_cell_that_papermill_reads_whole(path):
    cells = [c for c in code_cells(path) if "parameters" in c.metadata.get("tags", [])]
    assert len(cells) == 1
    lines = cells[0].source.splitlines()
    assert all(re.fullmatch(r"\w+: (int|float|str|bool) = [^=]+  # \S.*", line) for line in lines), lines
    read = notebooks.parameters(path)
    assert [p.name for p in read] == [line.partition(":")[0] for line in lines]
    assert all(p.help for p in read)
    assert {"profile", "device", "out"} <= {p.name for p in read}


@each
def test_the_last_cell_prints_the_effective_parameters(path):
    last = code_cells(path)[-1]
    printed = "".join(o.get("text", "") for o in last.outputs)
    for parameter in notebooks.parameters(path):
        assert f"'{parameter.name}'" in printed


@each
def test_format_and_metadata(path):
    notebook = load(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert not {"widgets", "papermill"} & set(notebook.metadata)
    assert len({c.id for c in notebook.cells}) == len(notebook.cells)
    assert not any("papermill" in c.metadata or "execution" in c.metadata for c in notebook.cells)
    assert path.stat().st_size <= 1.5e6


@each
def test_it_was_executed_in_order_and_nothing_failed(path):
    cells = code_cells(path)
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    outputs = [o for c in cells for o in c.outputs]
    assert not any(o.output_type == "error" for o in outputs)
    assert not any(o.get("name") == "stderr" for o in outputs), "a warning is stored in the notebook"


@each
def test_cells_are_short_and_end_without_a_semicolon(path):
    for cell in code_cells(path):
        assert not cell.source.rstrip().endswith(";")
        assert len(cell.source.splitlines()) <= 26, cell.source.splitlines()[0]


@each
def test_figures_are_png_with_alternative_text_and_words_after_them(path):
    cells = load(path).cells
    for number, cell in enumerate(cells):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            assert "image/svg+xml" not in data
            assert build.WIDGET not in data, "a widget lives in its kernel only"
            if "image/png" in data:
                assert len(output.metadata["image/png"]["alt"]) > 30
                assert cells[number + 1].cell_type == "markdown", "a figure is followed by what is seen in it"


@each
def test_something_is_checked_and_something_predicted(path):
    checked = [c for c in code_cells(path) if "nbval-check-output" in c.metadata.get("tags", [])]
    assert checked
    assert all(c.outputs for c in checked)
    assert "**Predict" in text_of(path)


@each
def test_no_path_of_a_machine_is_stored(path):
    raw = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|work|Users|tmp)/", raw)
