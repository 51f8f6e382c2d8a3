"""Getting a set that is nowhere: torchvision's download, or else a message that says what to do."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fuse_lib.data import formats
from fuse_lib.data.catalog import Entry
from fuse_lib.data.places import PARTS, DataNotFound, Place, locate


def fetch(entry: Entry, cache: Path) -> None:
    """Let torchvision fetch the set, and move its files into the cache once they are whole.

    Moving is atomic, so that a reader beside us, or a later one after we were killed, sees no half file.
    """
    try:
        from torchvision import datasets
    except ImportError as error:
        raise DataNotFound(f"{entry.name}: download=True needs torchvision: pip install torchvision") from error
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as folder:
        try:
            for train in (True, False):
                getattr(datasets, entry.torchvision)(folder, train=train, download=True)
        except Exception as error:  # whatever went wrong in there, the way out is the same
            raise DataNotFound(
                f"{entry.name}: the download failed: {error}\n{_how_to_get(entry, tried_download=True)}"
            ) from error
        for file, md5 in entry.files.items():
            path = locate(Path(folder), file)
            formats.checked(path, md5, "The server sent something else; try again later.")
            target = cache / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


def not_found(entry: Entry, places: list[Place]) -> str:
    """Where it was looked for, what is missing there, and the ways to get it."""
    lines = [f"{entry.name}: not found. Looked in"]
    for label, folder in places:
        if not folder.is_dir():
            lines.append(f"  {folder} ({label}): no such folder")
            continue
        missing = [file for file in entry.files if locate(folder, file) is None]
        missing_plain = [f"{entry.name}/{part}" for part in PARTS if not (folder / entry.name / part).is_file()]
        either = " or ".join(_listed(files) for files in (missing, missing_plain) if files)
        lines.append(f"  {folder} ({label}): missing {either}")
    if not os.environ.get("FUSE_DATA") and places[0].label != "root":
        lines.append("  FUSE_DATA, which would name a folder to look in first, is not set")
    return "\n".join([*lines, _how_to_get(entry)])


def _how_to_get(entry: Entry, tried_download: bool = False) -> str:
    lines = ["How to get it:"]
    if entry.torchvision and not tried_download:
        lines.append(f"  load({entry.name!r}, download=True)   fetches {entry.megabytes} MB into the cache; or")
    if entry.files:
        first = next(iter(entry.files))
        packed = f"{first}.gz" if entry.kind == "idx" else first
        lines.append(f"  set FUSE_DATA (or root=) to a folder that holds {packed} and the files beside it; or")
    lines.append(f"  write {entry.name}/train.npz and test.npz there, with x (uint8) and y (see data/README.md).")
    if entry.test_only and tried_download:
        lines.append(f"  load({entry.name!r}) without the download makes do with the test images (unofficial).")
    if entry.torchvision:
        lines.append('The bundled "fashion-mnist-sample" and "digits" need none of this; ask for them by name.')
    return "\n".join(lines)


def _listed(files: list[str]) -> str:
    return ", ".join(files[:2]) + (f" and {len(files) - 2} more" if len(files) > 2 else "")
