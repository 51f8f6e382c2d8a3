"""Where files are looked for: the user's folder, the cache, and what comes with the course."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import NamedTuple

PARTS = ("train.npz", "test.npz")  # the plain layout, below a folder of the set's name
REINSTALL = "Reinstall fuse_lib; in a checkout: git checkout -- data"


class DataNotFound(FileNotFoundError):
    """A set cannot be had; the message lists where it was looked for and how to get it."""


class Place(NamedTuple):
    """A folder that sets are looked for in, and what to call it."""

    label: str
    folder: Path


def places(root: str | os.PathLike | None) -> list[Place]:
    """`root`, or else the folder that FUSE_DATA names, and then the cache."""
    if root is not None:
        return [Place("root", Path(root).expanduser()), Place("the cache", cache())]
    if folder := os.environ.get("FUSE_DATA"):
        return [Place("$FUSE_DATA", Path(folder).expanduser()), Place("the cache", cache())]
    return [Place("the cache", cache())]


def cache() -> Path:
    """$XDG_CACHE_HOME/fuse_lib or ~/.cache/fuse_lib; not made before something is put there."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fuse_lib"


def locate(folder: Path, file: str) -> Path | None:
    """The file, packed or not. The packed one first: its digest is the published one."""
    return next((path for path in (folder / f"{file}.gz", folder / file) if path.is_file()), None)


def bundled(relative_path: str | os.PathLike) -> Path:
    """The path of a file that comes with the course: `bundled("results/table.csv")`.

    An installed wheel has a copy of the folder data/ inside the package; a checkout has it beside it.

    Raises:
        DataNotFound: there is no such file.

    >>> bundled("digits/LICENSE").read_text().startswith("Optical Recognition")
    True
    """
    package = Path(str(resources.files("fuse_lib")))
    folders = (package / "_bundled", package.parent / "data")
    for folder in folders:
        if (folder / relative_path).exists():
            return folder / relative_path
    looked = "".join(f"\n  {folder}" for folder in folders)
    raise DataNotFound(f"{os.fspath(relative_path)}: no such bundled file. Looked in{looked}\n{REINSTALL}")
