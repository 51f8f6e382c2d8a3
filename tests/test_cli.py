"""`python -m fuse_lib`: the right notebook with the right parameters, or an error that helps."""

import nbformat
import pytest

from fuse_lib import cli, lab, notebooks
from fuse_lib.lab import records

CELLS = [
    ("markdown", "# 00 · A small notebook", []),
    ("code", 'steps: int = 3  # how many\nrate: float = 0.1  # how fast\n'
     'slow: bool = False  # wait\nname: str = "a"  # who', ["parameters"]),
    ("code", "assert steps != 13, 'unlucky'\nprint(steps, rate, slow, name)", []),
    ("code", "import matplotlib.pyplot as plt\nfrom fuse_lib import plots\nfig, ax = plt.subplots()\nax.plot([1, 2])\n"
     "plots.show(fig, alt='A line that <rises>.')", []),
]  # fmt: skip


KERNEL = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}


@pytest.fixture
def folder(tmp_path):
    notebook = nbformat.v4.new_notebook(metadata=KERNEL)
    for kind, source, tags in CELLS:
        make = nbformat.v4.new_markdown_cell if kind == "markdown" else nbformat.v4.new_code_cell
        notebook.cells.append(make(source, metadata={"tags": tags} if tags else {}))
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / "00_small.ipynb")
    return tmp_path / "notebooks"


@pytest.mark.parametrize("which", ["00", "0", "00_small", "small", "00_small.ipynb"])
def test_find_by_number_name_or_file(folder, which):
    assert notebooks.find(which, folder).name == "00_small.ipynb"


def test_find_lists_what_there_is(folder):
    with pytest.raises(ValueError, match=r"notebook: got '07'.*00_small"):
        notebooks.find("07", folder)


def test_parameters_are_read_whole(folder):
    found = notebooks.parameters(folder / "00_small.ipynb")
    assert [(p.name, p.type, p.help) for p in found] == [
        ("steps", "int", "how many"), ("rate", "float", "how fast"), ("slow", "bool", "wait"), ("name", "str", "who"),
    ]  # fmt: skip


def test_values_get_their_parameters_type(folder):
    values = notebooks.chosen(folder / "00_small.ipynb", ["steps=5", "rate=1e-3", "slow=true", "name=b=c"])
    assert values == {"steps": 5, "rate": 1e-3, "slow": True, "name": "b=c"}


@pytest.mark.parametrize(
    "bad", ["step=5", "steps", "steps=five", "slow=1", "rate=fast", "steps=1.5"], ids=lambda text: text
)
def test_a_wrong_parameter_lists_the_right_ones(folder, bad):
    with pytest.raises(ValueError, match="allowed"):
        notebooks.chosen(folder / "00_small.ipynb", [bad])


def test_run_writes_notebook_page_and_figures(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["run", str(folder / "00_small.ipynb"), "-p", "steps=7", "-o", str(out)]) == 0
    page = (out / "00_small.html").read_text(encoding="utf-8")
    assert "7 0.1 False a" in page
    assert 'alt="A line that &lt;rises&gt;."' in page
    assert "<title>00 · A small notebook</title>" in page
    assert (out / "00_small_figures" / "figure_1.png").read_bytes().startswith(b"\x89PNG")
    assert str(out / "00_small.ipynb") in capsys.readouterr().out


@pytest.mark.parametrize("writes", [True, False])
def test_run_prints_where_it_left_its_row(tmp_path, capsys, writes):
    row = tmp_path / "a.csv"
    notebook = nbformat.v4.new_notebook(metadata=KERNEL)
    notebook.cells.append(nbformat.v4.new_code_cell('out: str = ""  # a CSV file', metadata={"tags": ["parameters"]}))
    if writes:
        notebook.cells.append(nbformat.v4.new_code_cell('open(out, "w").write("steps\\n3\\n")'))
    nbformat.write(notebook, tmp_path / "00_row.ipynb")
    assert cli.main(["run", str(tmp_path / "00_row.ipynb"), "-p", f"out={row}", "-o", str(tmp_path / "build")]) == 0
    assert (f"row       {row}" in capsys.readouterr().out.splitlines()) == writes


def test_a_failing_cell_is_named_and_the_rest_is_kept(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["run", str(folder / "00_small.ipynb"), "-p", "steps=13", "-o", str(out)]) == 1
    message = capsys.readouterr().err
    assert "AssertionError" in message
    assert "unlucky" in message
    assert (out / "00_small.html").exists()


def test_bad_arguments_exit_with_2(folder, capsys):
    assert cli.main(["run", str(folder / "00_small.ipynb"), "-p", "step=5"]) == 2
    assert "steps: int" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["run", "00", "--notebooks", "{notebooks}", "-o", "{file}"],
        ["course", "--notebooks", "{notebooks}", "-o", "{file}"],
        ["grid", "{plan}", "-o", "{file}"],
        ["collect", "{rows}", "-o", "{file}/table.csv"],
        ["claims", "--check", "{file}/none.md"],
        ["claims", "--write", "{file}/none.md"],
    ],
    ids=" ".join,
)
def test_a_file_in_the_way_is_named_in_a_line_not_a_traceback(folder, tmp_path, capsys, command):
    places = {"notebooks": folder, "file": tmp_path / "file", "plan": tmp_path / "plan.json", "rows": tmp_path / "rows"}
    places["rows"].mkdir()
    places["file"].write_text("not a folder")
    places["plan"].write_text('{"dataset": "digits"}')
    (places["rows"] / "a.csv").write_text("steps\n3\n")
    assert cli.main([part.format(**places) for part in command]) == 1
    said = capsys.readouterr().err
    assert said.startswith("fuse_lib: ")
    assert str(places["file"]) in said
    assert len(said.splitlines()) == 1


def test_list_shows_notebooks_and_parameters(folder, capsys):
    assert cli.main(["list", "--notebooks", str(folder)]) == 0
    listed = capsys.readouterr().out
    assert "00_small: 00 · A small notebook" in listed
    assert "rate: float = 0.1  how fast" in listed


@pytest.mark.parametrize("command", [["list"], ["course", "-o", "unused"]])
def test_a_folder_without_notebooks_is_named(tmp_path, capsys, command):
    assert cli.main([*command, "--notebooks", str(tmp_path / "nowhere")]) == 2
    assert "nowhere; allowed is a folder with NN_name.ipynb in it" in capsys.readouterr().err


def test_collect_makes_one_table_of_the_rows_of_many_runs(folder, tmp_path, capsys):
    """The rows of two notebooks with other columns; a file that is cut off is named; the table is not read again."""
    out = tmp_path / "out"
    (out / "more").mkdir(parents=True)
    (out / "a.csv").write_text("steps,rate\n3,0.1\n")
    (out / "more" / "b.csv").write_text("steps,loss\n5,0.25\n")
    (out / "empty.csv").write_text("")
    for _ in range(2):
        assert cli.main(["collect", str(out)]) == 1
        said = capsys.readouterr()
        assert "left out" in said.err
        assert "empty.csv" in said.err
        assert "(2 rows, 4 columns)" in said.out
    assert (out / "collected.csv").read_text().splitlines() == [
        "file,steps,rate,loss",
        "a.csv,3,0.1,",
        "more/b.csv,5,,0.25",
    ]


def test_collect_leaves_out_the_table_that_an_earlier_call_has_left_in_the_folder(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("steps\n3\n")
    assert cli.main(["collect", str(tmp_path)]) == 0
    assert cli.main(["collect", str(tmp_path), "-o", str(tmp_path / "other.csv")]) == 1
    said = capsys.readouterr()
    assert "collected.csv: it has a column 'file' already" in said.err
    assert (tmp_path / "other.csv").read_text() == "file,steps\na.csv,3\n"


def test_collect_without_a_row_is_an_error(tmp_path, capsys):
    assert cli.main(["collect", str(tmp_path)]) == 2
    assert "-p out=FILE.csv" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", [".", "grids/a"], ids=["the grid's folder", "below"])
@pytest.mark.parametrize("ended", [True, False])
def test_collect_refuses_a_grids_folder_and_names_its_tables(tmp_path, capsys, where, ended):
    """It has every row twice, and runs.csv has none."""
    out = tmp_path / where
    folder = records.Folder(out)
    for seed in range(2):
        settings = {"dataset": "digits", "seed": seed}
        row = dict.fromkeys(lab.COLUMNS, 0) | {"run_id": f"run-{seed}", "status": "done"}
        folder.finish(lab.Result([row], {"run_id": f"run-{seed}", "settings": settings}))
    if ended:
        folder.summarise(["run-0", "run-1"])
    assert cli.main(["collect", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"fuse_lib: folder: got {tmp_path}, but {out} is the folder of a grid")
    assert str(out / "rows.csv") in said
    assert str(out / "runs.csv") in said
    assert not list(tmp_path.rglob("collected.csv"))
