"""A grid's folder: each run's rows and what belongs to them, written so that a kill at any moment leaves whole files.

out/runs/<run_id>.json           the run's settings, versions, machine; written first
out/runs/<run_id>.csv            its rows; once this is there, the run is done
out/runs/<run_id>.partial.csv    the rows so far of a run that goes on, or that was killed
out/rows.csv                     all rows of the grid's runs, in the grid's order
out/runs.csv                     a row for each of them: settings, provenance, how it ended
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_lib.lab.loop import COLUMNS, Result, Row

if TYPE_CHECKING:
    import pandas as pd

_STRINGS = ("run_id", "dataset", "model", "optimizer", "phase", "status")
_KINDS = {**dict.fromkeys(_STRINGS, str), **dict.fromkeys(("seed", "evals", "samples"), int),
          "unofficial": lambda value: value == "True"}  # fmt: skip
_EVERY = 5.0  # seconds between two writings of a run's partial rows


class Folder:
    """The folder of a grid. Made where it is not there."""

    def __init__(self, out: str | os.PathLike) -> None:
        self.out = Path(out)
        self.runs = self.out / "runs"
        self.runs.mkdir(parents=True, exist_ok=True)
        self._written: dict[str, float] = {}

    def done(self, run_id: str) -> bool:
        """Whether the run is finished and its rows are here."""
        return (self.runs / f"{run_id}.csv").is_file()

    def partial(self, run_id: str, rows: list[Row]) -> None:
        """Keep the rows so far, at most every few seconds."""
        now = time.monotonic()
        if now - self._written.get(run_id, -math.inf) >= _EVERY:
            self._written[run_id] = now
            write(self.runs / f"{run_id}.partial.csv", text(rows))

    def finish(self, result: Result) -> None:
        """Keep a finished run."""
        run_id = result.about["run_id"]
        write(self.runs / f"{run_id}.json", json.dumps(result.about, indent=1, ensure_ascii=False) + "\n")
        write(self.runs / f"{run_id}.csv", text(result.rows))
        (self.runs / f"{run_id}.partial.csv").unlink(missing_ok=True)

    def rows(self, run_ids: Iterable[str]) -> list[Row]:
        """The rows of the finished ones among these runs, one under the other.

        Raises:
            ValueError: what is kept of one is damaged; so does `about`.
        """
        return [row for run_id in filter(self.done, run_ids) for row in self._kept(run_id, "csv", _whole)]

    def about(self, run_ids: Iterable[str]) -> pd.DataFrame:
        """A row for each finished run: its settings (tables among them as JSON), then the rest."""
        import pandas as pd

        found = []
        for run_id in filter(self.done, run_ids):
            about = self._kept(run_id, "json", lambda path: json.loads(path.read_text(encoding="utf-8")))
            settings = {k: json.dumps(v) if isinstance(v, dict) else v for k, v in about.pop("settings").items()}
            found.append({"run_id": about.pop("run_id"), **settings, **about})
        return pd.DataFrame(found)

    def _kept(self, run_id: str, ending: str, read: Callable[[Path], Any]) -> Any:
        """What one of a finished run's files holds. We leave them whole; a full disk or a copy may not."""
        path = self.runs / f"{run_id}.{ending}"
        try:
            return read(path)
        except (OSError, TypeError, ValueError, csv.Error) as error:
            raise ValueError(
                f"{path}: no whole record of a run ({error}); delete {run_id}.csv beside it, and the run is made again"
            ) from error

    def summarise(self, run_ids: list[str]) -> None:
        """Write rows.csv and runs.csv."""
        write(self.out / "rows.csv", text(self.rows(run_ids)))
        write(self.out / "runs.csv", self.about(run_ids).to_csv(index=False))


def is_grid(folder: Path) -> bool:
    """Whether this is a grid's folder. Its tables are written last; a grid that goes on, or was killed, has none."""
    return any((folder / "runs").glob("*.json"))


def text(rows: list[Row]) -> str:
    """Rows as CSV. A float is written so that reading it gives the same bits; "nan" and "inf" as Python has them."""
    out = io.StringIO()
    # Runs kept by an earlier version may lack a column.
    writer = csv.DictWriter(out, COLUMNS, restval="nan", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: repr(v) if isinstance(v, float) else v for name, v in row.items()} for row in rows)
    return out.getvalue()


def read(path: str | os.PathLike) -> list[Row]:
    """The rows of a file, the same that were written. (pandas.read_csv may round the last bit.)"""
    with open(path, encoding="utf-8", newline="") as file:
        return [{name: _KINDS.get(name, float)(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _whole(path: Path) -> list[Row]:
    """The rows of a run that has ended."""
    rows = read(path)
    if not rows or rows[-1].get("status") == "running":
        raise ValueError(f"the last of {len(rows)} rows does not say how the run ended")
    return rows


def write(path: Path, text: str) -> None:
    """A file that is there whole or not at all, whenever we are killed."""
    half = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with half.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(half, path)
