"""`python -m fuse_lib course`: every notebook in turn, failures named, and an index page of all figures."""

import nbformat
import pytest
from bs4 import BeautifulSoup

from fuse_lib import cli, course, notebooks

HEAD = "# {title}\n\n**Minutes**: 5 to read, 2 to run."
DRAW = """import matplotlib.pyplot as plt
from fuse_lib import plots
fig, ax = plt.subplots(figsize=(2, 1))
plots.show(fig, alt="A frame that is <empty>.")"""


def write(folder, name, title, *code):
    cells = [nbformat.v4.new_markdown_cell(HEAD.format(title=title)), *map(nbformat.v4.new_code_cell, code)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    kernel["language_info"] = {"name": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A course of three tiny notebooks whose second fails. → its folder, and the exit status."""
    folder, out = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("out")
    write(folder, "00_good", "00 · Good & small", DRAW, DRAW)
    write(folder, "01_bad", "01 · Bad", DRAW, "raise ValueError('unlucky')", DRAW)
    write(folder, "02_after", "02 · After it", "print('reached')")
    return out, cli.main(["course", "--notebooks", str(folder), "-o", str(out)])


@pytest.fixture(scope="module")
def index(executed):
    return BeautifulSoup((executed[0] / "index.html").read_text(encoding="utf-8"), "html.parser")


def test_a_failure_is_the_exit_status_and_the_next_one_runs(executed):
    out, status = executed
    assert status == 1
    assert "reached" in (out / "02_after.html").read_text(encoding="utf-8")


def test_the_index_names_the_failure_and_its_cell(index):
    assert "1 of 3 notebooks failed: 01_bad." in index.text
    assert "01_bad: cell 2 failed with ValueError: unlucky" in index.find(id="01_bad").pre.text
    assert index.find(id="00_good").pre is None
    assert [row.find_all("td")[-1].text for row in index.tbody.find_all("tr")] == ["done", "failed", "done"]


def test_the_index_has_minutes_measured_and_said(index):
    cells = [[td.text for td in row.find_all("td")[1:3]] for row in index.tbody.find_all("tr")]
    measured, said = zip(*cells, strict=True)
    assert set(said) == {"2"}
    assert all(0 <= float(minutes) < 2 for minutes in measured)


def test_the_index_has_all_figures_with_their_alternative_texts(executed, index):
    counts = {section["id"]: len(section.find_all("figure")) for section in index.find_all("section")}
    assert counts == {"00_good": 2, "01_bad": 1, "02_after": 0}
    for figure in index.find_all("figure"):
        assert figure.img["alt"] == "A frame that is <empty>."
        assert figure.img["alt"] in figure.figcaption.text
        assert (executed[0] / figure.img["src"]).read_bytes().startswith(b"\x89PNG")


def test_every_link_leads_somewhere(executed, index):
    """A figure's to the cell that drew it, on the notebook's page."""
    out, _ = executed
    for link in index.find_all("a"):
        file, _, place = link["href"].partition("#")
        page = BeautifulSoup((out / (file or "index.html")).read_text(encoding="utf-8"), "html.parser")
        assert not place or page.find(id=place), link["href"]


def test_an_earlier_page_does_not_pass_for_this_runs(tmp_path):
    folder, out = tmp_path / "notebooks", tmp_path / "out"
    folder.mkdir(), out.mkdir()
    (folder / "00_broken.ipynb").write_text("no notebook", encoding="utf-8")
    (out / "00_broken.html").write_text("an earlier one", encoding="utf-8")
    (chapter,) = course.run(out, folder)
    assert "00_broken: " in chapter.failure
    assert not chapter.page
    assert not (out / "00_broken.html").exists()
    assert "It has no page." in (out / "index.html").read_text(encoding="utf-8")


def test_the_index_is_there_after_each_notebook(tmp_path):
    folder, out = tmp_path / "notebooks", tmp_path / "out"
    folder.mkdir()
    write(folder, "00_first", "00 · First", "print(1)")
    write(folder, "01_second", "01 · Second", "print(2)")
    running = course.run(out, folder)
    next(running)
    assert "still to run: 01_second" in (out / "index.html").read_text(encoding="utf-8")
    next(running)
    assert "still to run" not in (out / "index.html").read_text(encoding="utf-8")


def test_a_kernel_that_dies_is_a_failure_with_its_cell(tmp_path):
    write(tmp_path, "00_dies", "00 · Dies", "print(1)", "import os\nos._exit(1)")
    with pytest.raises(notebooks.NotebookFailed, match="00_dies: the kernel died in cell 2"):
        notebooks.run(tmp_path / "00_dies.ipynb", tmp_path / "out")


def test_a_folder_without_notebooks_is_an_error(tmp_path, capsys):
    assert cli.main(["course", "--notebooks", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "allowed is a folder with" in capsys.readouterr().err


def test_list_shows_the_minutes(tmp_path, capsys):
    write(tmp_path, "00_good", "00 · Good", "steps: int = 3  # how many")
    assert cli.main(["list", "--notebooks", str(tmp_path)]) == 0
    assert "00_good: 00 · Good (5 minutes to read, 2 to run)" in capsys.readouterr().out
