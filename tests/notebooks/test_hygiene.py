"""What every notebook of the course keeps to."""

import ast
import re
import shutil
import sys
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup

from fuse_lib import notebooks, pages
from tests.notebooks.course import (
    ALL,
    CHECKED,
    FOLDER,
    IGNORED,
    code_cells,
    each,
    has_widget,
    load,
    minutes,
    tags,
    text_of,
)

sys.path.insert(0, str(FOLDER))
import build

WIDE = 160  # characters of source, inline formulas among them; links, tables and displayed formulas may be wider


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
def test_something_is_checked(path):
    checked = [c for c in code_cells(path) if CHECKED in tags(c)]
    assert checked
    assert all(c.outputs for c in checked)


@each
def test_few_outputs_are_left_out_of_the_comparison(path):
    """Controls, whose output names them, and a few cells whose numbers depend on the clock or the thread count."""
    ignored = [c for c in code_cells(path) if IGNORED in tags(c)]
    assert not any(CHECKED in tags(c) for c in ignored)
    assert all(c in ignored for c in code_cells(path) if has_widget(c))
    assert len([c for c in ignored if not has_widget(c)]) <= 5


@each
def test_a_prediction_is_asked_for_before_the_main_result(path):
    """What is checked first may be a formula, so: before the last. It is a quote with lettered answers."""
    cells = load(path).cells
    main = max(n for n, c in enumerate(cells) if CHECKED in tags(c))
    asked = [c.source for c in cells[:main] if c.cell_type == "markdown" and "> **Predict" in c.source]
    assert asked
    assert any("(a)" in text and "(b)" in text for text in asked)


@each
def test_minutes_are_promised(path):
    read, run = minutes(path)
    assert 1 <= read <= 60
    assert 1 <= run <= 5


@each
def test_no_path_of_a_machine_is_stored(path):
    raw = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|work|Users|tmp)/", raw)


@each
def test_after_controls_comes_the_same_as_a_static_figure(path):
    cells = load(path).cells
    for number, cell in enumerate(cells):
        if has_widget(cell):
            after = cells[number + 1]
            images = [o for o in after.get("outputs", []) if "image/png" in o.get("data", {})]
            assert images, f"no figure after {cell.source.splitlines()[0]!r}"
            last = ast.parse(cell.source).body[-1]
            assert "explore(" in ast.unparse(last), "the controls are what the cell ends with, or nobody sees them"
            assert "plots.show(" in after.source


@each
def test_text_lines_are_readable_in_an_editor(path):
    for cell in load(path).cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                free = "](http" in line or line.lstrip().startswith(("|", "$$"))
                assert free or len(line) <= WIDE, line


@each
def test_links_lead_somewhere(path):
    """Beside the notebook, or in this checkout where they name the public address; and the next one is linked."""
    text, address = text_of(path), build.address()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target = re.sub(rf"^{re.escape(address['repository'])}/(blob|tree)/{address['branch']}/", "../", link)
        if target.startswith("#"):
            headings = [
                line.lstrip("#").strip().replace(" ", "-") for line in text.splitlines() if line.startswith("#")
            ]
            assert target[1:] in headings, link
        elif "://" not in target:
            assert (FOLDER / target.partition("#")[0]).exists(), link
    following = ALL[ALL.index(path) + 1 :][:1]
    for after in following:
        assert f"({after.name})" in text, f"no link to the next notebook, {after.name}"
        assert f"[{notebooks.title(after)}]({after.name})" in text, "the link's text is the next one's title"


@each
def test_the_page_has_the_figures_with_their_alternative_texts(path, tmp_path):
    stored = [o for c in code_cells(path) for o in c.outputs if "image/png" in o.get("data", {})]
    page = notebooks.write_page(Path(shutil.copy(path, tmp_path))).read_text(encoding="utf-8")
    images = BeautifulSoup(page, "html.parser").find_all("img", src=re.compile("^data:image/png"))
    assert [image["alt"] for image in images] == [o.metadata["image/png"]["alt"] for o in stored]
    if pages.convert is not None:
        assert "MathJax" not in page, "a formula that latex2mathml does not know needs a network"
