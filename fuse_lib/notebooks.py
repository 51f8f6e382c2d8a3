"""The notebooks as programs: find one, read its minutes and parameters, execute it, write its page and figures.

Papermill executes; nbconvert writes the page. What is added is what papermill lets pass: an unknown
parameter or a value of the wrong type is an error that lists the right ones.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pandas as pd
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from fuse_lib import pages

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
QUIET = ["--IPKernelApp.log_level=40"]  # of the kernel: its warnings about itself are not the reader's
TYPES = {"int": int, "float": float, "str": str, "bool": None}


class NotebookFailed(RuntimeError):
    """A cell raised, or the kernel died; the message names the notebook and the cell."""


@dataclass(frozen=True)
class Figure:
    """A figure in a notebook's outputs: its PNG, its alternative text, and the id of the cell that drew it."""

    png: bytes
    alt: str
    cell: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return pages.png_size(base64.b64encode(self.png[:24]).decode())


@dataclass(frozen=True)
class Parameter:
    """A line of the parameters cell: `name: type = default  # help`."""

    name: str
    type: str
    default: str
    help: str

    def parse(self, text: str) -> object:
        """The value that `text` stands for.

        Raises:
            ValueError: the text is none of that type.

        >>> Parameter("seeds", "int", "5", "how many").parse("3")
        3
        """
        if self.type == "bool":
            if text.lower() not in ("true", "false"):
                raise ValueError(f"{self.name}: got {text!r}; allowed is true or false")
            return text.lower() == "true"
        try:
            return TYPES[self.type](text)
        except ValueError:
            raise ValueError(f"{self.name}: got {text!r}; allowed is a value of type {self.type}") from None

    def __str__(self) -> str:
        return f"{self.name}: {self.type} = {self.default}  {self.help}"


def every(folder: Path = FOLDER) -> list[Path]:
    """The course's notebooks in reading order."""
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def some(folder: Path = FOLDER) -> list[Path]:
    """The same.

    Raises:
        ValueError: there is none.
    """
    if paths := every(folder):
        return paths
    raise ValueError(f"notebooks: got {folder}; allowed is a folder with NN_name.ipynb in it")


def find(which: str, folder: Path = FOLDER) -> Path:
    """A notebook by number ("00", "4"), by name ("00_start_here", "start_here") or by path.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if which.endswith(".ipynb") and Path(which).is_file():
        return Path(which)
    key = which.removesuffix(".ipynb")
    key = key.zfill(2) if key.isdigit() else key
    for path in every(folder):
        if key in (path.stem[:2], path.stem, path.stem[3:]):
            return path
    names = ", ".join(path.stem for path in every(folder)) or f"none, for {folder} holds no notebook"
    raise ValueError(f"notebook: got {which!r}; allowed is a path or one of {names}")


def title(path: Path) -> str:
    """The first heading."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown" and (found := re.match(r"#\s+(.+)", cell.source)):
            return found[1].strip()
    return path.stem


def minutes(path: Path) -> tuple[int, int] | None:
    """Minutes to read and minutes to run, as the notebook's head says them. None where it does not say."""
    for cell in nbformat.read(path, as_version=4).cells:
        if found := re.search(r"\*\*Minutes\*\*: (\d+) to read, (\d+) to run\.", cell.source):
            return int(found[1]), int(found[2])
    return None


def parameters(path: Path) -> list[Parameter]:
    """The parameters of a notebook, in their order."""
    found = papermill.inspect_notebook(str(path))
    return [Parameter(p["name"], p["inferred_type_name"], p["default"], p["help"].strip()) for p in found.values()]


def chosen(path: Path, assignments: list[str]) -> dict[str, object]:
    """Values from "name=value" texts.

    Raises:
        ValueError: an unknown name, a repeated one, a value of the wrong type or no "="; the message lists
            the parameters.
    """
    known = {p.name: p for p in parameters(path)}
    values: dict[str, object] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        listing = "\n  ".join(map(str, known.values()))
        if not equals or name not in known or name in values:
            why = "is set twice" if name in values else "is no parameter" if equals else "has no '='"
            raise ValueError(f"-p: {text!r} {why}; allowed for {path.stem} is name=value with one of\n  {listing}")
        values[name] = known[name].parse(value)
    return values


def run(path: Path, out: Path, values: dict[str, object] | None = None) -> Path:
    """Execute a notebook into the folder `out`, saving as it goes, and write its page and figures beside it.

    Returns: the executed notebook.

    Raises:
        NotebookFailed: a cell raised or the kernel died. What was executed until then is saved, with its page.
    """
    out.mkdir(parents=True, exist_ok=True)
    target = out / path.name
    try:
        papermill.execute_notebook(
            str(path), str(target), parameters=values or {}, kernel_name="python3", extra_arguments=QUIET
        )
    except PapermillExecutionError as error:
        raise NotebookFailed(
            f"{path.stem}: cell {error.cell_index} failed with {error.ename}: {error.evalue}\n{error.source.strip()}"
        ) from None
    except DeadKernelError:
        raise NotebookFailed(
            f"{path.stem}: the kernel died in cell {_under_way(target)}; a common cause is too little memory"
        ) from None
    finally:
        if target.exists():
            write_page(target)
            write_figures(target)
    return target


def write_page(notebook: Path) -> Path:
    """An HTML page beside an executed notebook (see `fuse_lib.pages`)."""
    content = nbformat.read(notebook, as_version=4)
    content.metadata["title"] = title(notebook)
    html, _ = pages.Page().from_notebook_node(content)
    page = notebook.with_suffix(".html")
    page.write_text(html, encoding="utf-8")
    return page


def figures(notebook: Path) -> list[Figure]:
    """The figures of an executed notebook, in their order."""
    return [
        Figure(base64.b64decode(output.data["image/png"]), output.metadata.get("image/png", {}).get("alt", ""), cell.id)
        for cell in nbformat.read(notebook, as_version=4).cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


def write_figures(notebook: Path) -> list[Path]:
    """The figures of an executed notebook as PNG files in a folder beside it."""
    folder = notebook.with_name(notebook.stem + "_figures")
    folder.mkdir(exist_ok=True)
    for old in folder.glob("figure_*.png"):
        old.unlink()
    paths = []
    for number, figure in enumerate(figures(notebook), 1):
        path = folder / f"figure_{number}.png"
        path.write_bytes(figure.png)
        paths.append(path)
    return paths


def collect(folder: Path, table: Path) -> tuple[pd.DataFrame, dict[Path, str]]:
    """One table of the CSV files in `folder` and below, such as notebooks write with their parameter `out`.

    The columns are those of all files together, with `file` in front; what a file does not have is left empty. The
    table is written to `table`, which is not read if it lies in the folder.

    Returns: the table, and what was wrong with each file that could not be read.

    Raises:
        ValueError: there is no CSV file, or none that can be read; or some are a grid's, which hold each row twice.
    """
    found, unreadable = [], {}
    files = sorted(folder.rglob("*.csv"))
    _refuse_grids(folder, files)
    for file in files:
        if file.resolve() == table.resolve():
            continue
        try:
            rows = pd.read_csv(file)
        except ValueError as error:  # pandas' own errors are ValueErrors: empty, or cut off in mid-line
            unreadable[file] = str(error)
            continue
        if "file" in rows:
            unreadable[file] = "it has a column 'file' already, as if it were a collected table"
            continue
        found.append(rows)
        rows.insert(0, "file", str(file.relative_to(folder)))
    if not found:
        raise ValueError(f"folder: got {folder}; allowed is one with CSV files in it, which `-p out=FILE.csv` writes")
    whole = pd.concat(found, ignore_index=True)
    table.parent.mkdir(parents=True, exist_ok=True)
    whole.to_csv(table, index=False)
    return whole, unreadable


def _refuse_grids(folder: Path, files: list[Path]) -> None:
    """Raise where one of the files is a grid's: in its folder, or in `runs` there."""
    from fuse_lib.lab.records import is_grid

    inside = {place for file in files for place in (file.parent, file.parent.parent) if place.is_relative_to(folder)}
    for place in filter(is_grid, sorted(inside)):
        raise ValueError(
            f"folder: got {folder}, but {place} is the folder of a grid, whose tables, written when its runs have "
            f"ended, are {place / 'rows.csv'}, all rows, and {place / 'runs.csv'}, a row for each run; allowed is one "
            "with the CSV files that `-p out=FILE.csv` writes"
        )


def _under_way(target: Path) -> int | str:
    """The place of the last cell that papermill began; "?" where it began none."""
    cells = nbformat.read(target, as_version=4).cells if target.exists() else []
    begun = [n for n, cell in enumerate(cells) if cell.metadata.get("papermill", {}).get("start_time")]
    return begun[-1] if begun else "?"
