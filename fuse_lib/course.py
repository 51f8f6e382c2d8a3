"""The whole course at once: every notebook executed into one folder, and an index page with all their figures.

The page is written anew after each notebook, so that it is there when the rest is stopped; a notebook that fails is
named on it, and the next one runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import jinja2

from fuse_lib import __version__, notebooks

INDEX = "index.html"
_TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclass(frozen=True)
class Chapter:
    """What became of one notebook.

    name: of the file, without its ending. promised: minutes to run, as its head says, or None.
    minutes: by the clock. failure: None, or what went wrong, with the cell's place. page: whether there is one.
    """

    name: str
    title: str
    promised: int | None
    minutes: float
    failure: str | None
    page: bool
    figures: tuple[notebooks.Figure, ...]

    def __str__(self) -> str:
        status = "failed" if self.failure else "done"
        line = f"{self.name}: {status} in {self.minutes:.1f} minutes, {len(self.figures)} figures"
        return line if self.failure is None else f"{line}\n{self.failure}"


def run(out: Path, folder: Path | None = None) -> Iterator[Chapter]:
    """Execute the notebooks of `folder` (default: the course's), one after the other, into `out`; write the index.

    Yields: each notebook's chapter when it is done, failed ones among them.

    Raises:
        ValueError: the folder holds no notebook.
    """
    paths = notebooks.some(folder or notebooks.FOLDER)
    out.mkdir(parents=True, exist_ok=True)
    chapters: list[Chapter] = []
    for number, path in enumerate(paths, 1):
        chapters.append(_chapter(path, out))
        write_index(out, chapters, [rest.stem for rest in paths[number:]])
        yield chapters[-1]


def _chapter(path: Path, out: Path) -> Chapter:
    target, start, failure = out / path.name, time.monotonic(), None
    for old in (target, target.with_suffix(".html")):  # of an earlier run: it would pass for this one's
        old.unlink(missing_ok=True)
    try:
        notebooks.run(path, out)
    except notebooks.NotebookFailed as error:
        failure = str(error)
    except Exception as error:  # a file that is no notebook, for one: whatever it is, the next one shall run
        failure = f"{path.stem}: {type(error).__name__}: {error}"
    minutes = (time.monotonic() - start) / 60
    page = target.with_suffix(".html").exists()
    if not page:
        return Chapter(path.stem, path.stem, None, minutes, failure, page, ())
    said, figures = notebooks.minutes(path), tuple(notebooks.figures(target))
    return Chapter(path.stem, notebooks.title(path), said and said[1], minutes, failure, page, figures)


def write_index(out: Path, chapters: list[Chapter], to_come: list[str]) -> Path:
    """The index page of what has run until now. to_come: names of the notebooks that have not."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True)
    html = environment.get_template("course.html.j2").render(
        chapters=chapters,
        to_come=to_come,
        failed=[chapter for chapter in chapters if chapter.failure is not None],
        minutes=sum(chapter.minutes for chapter in chapters),
        made=time.strftime("%Y-%m-%d %H:%M"),
        machine=_machine(),
    )
    index = out / INDEX
    part = index.with_suffix(".part")
    part.write_text(html, encoding="utf-8")
    part.replace(index)
    return index


def _machine() -> str:
    """What minutes depend on: versions and threads."""
    threads = os.environ.get("OMP_NUM_THREADS")
    threads = f"OMP_NUM_THREADS={threads}" if threads else f"{os.cpu_count()} processor cores"
    return f"fuse_lib {__version__}, torch {version('torch')}, {threads}"
