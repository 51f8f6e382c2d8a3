"""Tables of measurements: some only grow (`append`), in some a run made anew takes the old one's place (`replace`)."""

from __future__ import annotations

import functools
from pathlib import Path

import pandas as pd
from provenance import provenance

from fuse_lib import lab

RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"


@functools.cache
def origin() -> dict[str, object]:
    """`provenance` and the processor, as columns of a table: what a time depends on. The same throughout a process."""
    return {**provenance(), "processor": lab.provenance()["processor"]}


ORIGIN = ("threads", "machine", "processor", "device", "torch", "fuse_lib", "commit")


def of_origin(table: pd.DataFrame, where: dict[str, object]) -> pd.DataFrame:
    """The rows of this origin."""
    columns = [name for name in ORIGIN if name in table]
    wanted = pd.Series({name: str(where[name]) for name in columns})
    return table[(table[columns].astype(str) == wanted).all(axis=1)].reset_index(drop=True) if columns else table


def newest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that have the last row's origin."""
    return of_origin(table, table.iloc[-1].to_dict())


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def append(path: Path, rows: list[dict]) -> None:
    """Add rows to a CSV file. A killed run leaves the old table or the new one; columns may be new or missing."""
    new = pd.DataFrame(rows)
    old = read(path)
    _write(path, pd.concat([old, new], ignore_index=True) if len(old) else new)


def replace(path: Path, rows: pd.DataFrame, key: list[str], order: bool = False) -> None:
    """Put rows into a CSV file in the place of all old rows that have the key of one of them, atomically.

    key: columns. With those of a whole experiment ("dataset", "model") its old rows go, however many it had.
    order: sort the table by the key. Otherwise the new rows are at its end.
    """
    old = read(path)
    if len(old):
        new = pd.MultiIndex.from_frame(rows[key])
        rows = pd.concat([old[~pd.MultiIndex.from_frame(old[key]).isin(new)], rows], ignore_index=True)
    _write(path, rows.sort_values(key, kind="stable") if order else rows)


def _write(path: Path, table: pd.DataFrame) -> None:
    part = path.with_suffix(".part")
    table.to_csv(part, index=False)
    part.replace(path)
