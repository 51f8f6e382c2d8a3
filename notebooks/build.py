"""Write notebooks/NN_name.ipynb from notebooks/source/NN_name.py and execute them.

    python notebooks/build.py            all whose source changed, executed (unless only text changed)
    python notebooks/build.py 00 --all   this one, whatever changed;  --check: only say what is out of date

The sources are what is edited and reviewed: plain Python in jupytext's percent format. Two marks in them
stand for what is written once, in pyproject.toml: @repository@ (and @repository_path@) and @branch@.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def address() -> dict[str, str]:
    """What the marks stand for: the project's public address, from pyproject.toml."""
    fuse = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["fuse"]
    return {"repository_path": fuse["repository"].removeprefix("https://github.com/"), **fuse}


def sources() -> list[Path]:
    return sorted((HERE / "source").glob("[0-9][0-9]_*.py"))


def from_source(source: Path) -> nbformat.NotebookNode:
    """The notebook without outputs. Ids are made of the cells' places, so that a rebuild changes nothing."""
    text = source.read_text(encoding="utf-8")
    for name, value in address().items():
        text = text.replace(f"@{name}@", value)
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell["id"] = hashlib.sha1(f"{source.stem} {number}".encode()).hexdigest()[:8]
        cell.metadata.pop("lines_to_next_cell", None)
    return notebook


def target(source: Path) -> Path:
    return HERE / f"{source.stem}.ipynb"


def with_new_text(source: Path) -> nbformat.NotebookNode | None:
    """The notebook with its stored outputs, where nothing but text cells changed; else None."""
    if not target(source).exists():
        return None
    notebook, stored = from_source(source), nbformat.read(target(source), as_version=4)
    old = [c for c in stored.cells if c.cell_type == "code"]
    new = [c for c in notebook.cells if c.cell_type == "code"]
    if [(c.source, c.metadata.get("tags", [])) for c in old] != [(c.source, c.metadata.get("tags", [])) for c in new]:
        return None
    for cell, before in zip(new, old, strict=True):
        cell["outputs"], cell["execution_count"] = before.outputs, before.execution_count
    return notebook


def is_current(source: Path) -> bool:
    """Whether the notebook beside holds the cells of its source."""
    if not target(source).exists():
        return False
    cells = [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in from_source(source).cells]
    stored = nbformat.read(target(source), as_version=4).cells
    return cells == [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in stored]


def build(source: Path) -> None:
    """Execute the notebook and write it with its outputs."""
    notebook = from_source(source)
    NotebookClient(
        notebook,
        timeout=1200,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        extra_arguments=["--IPKernelApp.log_level=40"],
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day, which would differ in every build
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):  # it means nothing without the kernel it lived in
                output["data"] = {"text/plain": "(Interactive: run this cell. The figure below shows the same.)"}
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    nbformat.validate(notebook)
    nbformat.write(notebook, target(source))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", help="notebooks, such as 00 (default: all)")
    parser.add_argument("--all", action="store_true", help="also those that are up to date")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if one is out of date")
    args = parser.parse_args()
    chosen = [s for s in sources() if not args.numbers or s.stem[:2] in args.numbers]
    stale = [s for s in chosen if args.all or not is_current(s)]
    for source in stale:
        print(f"{source.stem}: {'out of date' if args.check else 'building'}", flush=True)
        if not args.check:
            kept = None if args.all else with_new_text(source)
            if kept is not None:
                nbformat.write(kept, target(source))
                continue
            try:
                build(source)
            except CellExecutionError as error:
                print(error, file=sys.stderr)
                return 1
    return int(args.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
