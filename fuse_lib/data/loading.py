"""Find a set by its name, read it, and say clearly what to do where that cannot be done."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fuse_lib.data import formats
from fuse_lib.data.catalog import CATALOG, NAMES, Entry
from fuse_lib.data.dataset import Dataset
from fuse_lib.data.formats import Arrays
from fuse_lib.data.getting import fetch, not_found
from fuse_lib.data.places import PARTS, REINSTALL, DataNotFound, Place, bundled, cache, locate, places

_AGAIN = "Delete this file and get it again: load({!r}, download=True), or copy it anew."


class Found(NamedTuple):
    """A set as it was read: uint8 images, labels, names of the classes, and the source in words."""

    train: Arrays
    test: Arrays
    classes: tuple[str, ...]
    source: str
    unofficial: bool = False


def load(
    name: str = "fashion-mnist-sample",
    *,
    root: str | os.PathLike | None = None,
    download: bool = False,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """The data set of that name, wholly on `device`.

    name: "fashion-mnist-sample" and "digits" are bundled. "mnist", "fashion-mnist", "kmnist", "usps"
        and "cifar10" are looked for in `root`, or without it in the folder that the environment
        variable FUSE_DATA names; then in the cache, $XDG_CACHE_HOME/fuse_lib or ~/.cache/fuse_lib.
        In each, first the publisher's files where torchvision keeps them (MNIST/raw/*-ubyte.gz or
        unpacked, usps.bz2, cifar-10-batches-py/), checked by md5; then the plain layout,
        <name>/train.npz and <name>/test.npz with x and y. Any other name is a set of your own in
        the plain layout: x uint8 (N, H, W) or (N, H, W, 3), y integers (N,), both parts.
    download: let torchvision fetch a set that is found nowhere, into the cache, checked by md5.
    dtype: of the images, a floating one. Pixels are divided by 255 (digits: by 16), so that they lie
        in [0, 1]. CIFAR-10's then go through (x − 0.5)/0.5 into [−1, 1], as in FUSE's reference code.

    A KMNIST of which only the test images can be had is returned as 8,000 train and 2,000 test rows
    of those, in file order, with `unofficial=True`. So is a set of these names in the plain layout that has another
    number of rows than the publisher's. Nothing else stands in for anything.

    Raises:
        ValueError: the name is unknown, dtype is not a floating one, or a set of your own is not as above.
        DataNotFound: the set is in none of these places, or could not be downloaded.
        DataDamaged: a file is there but its content is wrong. Other sets load nevertheless.

    >>> load("digits")
    Dataset 'digits'
      train    1,437 images (1, 8, 8), float32 on cpu
      test     360 images (1, 8, 8), float32 on cpu
      classes  10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
      source   scikit-learn's digits, in a split of this course (scikit-learn gives none); ...
    """
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype: got {dtype!r}; allowed is a floating one, as torch.float32")
    searched = places(root)
    entry = (isinstance(name, str) and CATALOG.get(name)) or _own(name, searched)
    found = _bundled_set(entry) if entry.bundled else _full_set(entry, searched, download)

    def scaled(x: Tensor) -> Tensor:
        x = x.to(device).to(dtype).div_(entry.top)  # moved as bytes, a quarter of the way's cost
        return x.sub_(0.5).div_(0.5) if entry.centred else x

    return Dataset(
        name=name,
        x_train=scaled(found.train[0]),
        y_train=found.train[1].to(device),
        x_test=scaled(found.test[0]),
        y_test=found.test[1].to(device),
        classes=found.classes,
        source=f"{found.source}; {entry.pixels}",
        unofficial=found.unofficial,
    )


def _own(name: object, searched: list[Place]) -> Entry:
    """The entry of a set that is not in the catalog, of which at least one part must be there."""
    proper = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\")
    if proper and any((place.folder / name / part).is_file() for place in searched for part in PARTS):
        return Entry(name, classes=(), rows=(0, 0), files={})
    close = difflib.get_close_matches(str(name).lower().replace("_", "-"), NAMES, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(
        f"name: got {name!r}{hint}; allowed is one of {', '.join(NAMES)}, or the name of a folder of your own with "
        f"train.npz and test.npz in {' or '.join(str(place.folder) for place in searched)}"
    )


def _bundled_set(entry: Entry) -> Found:
    train, test = _read(entry, {file: bundled(f"{file}.gz") for file in entry.files}, REINSTALL)
    return Found(train, test, entry.classes, f"{entry.about}; bundled, md5 checked")


def _full_set(entry: Entry, searched: list[Place], download: bool) -> Found:
    """The first that is there: the set in one of the places, a download, the test images alone."""
    for place in searched:
        if found := _official(entry, place) or _plain(entry, place):
            return found
    if download and entry.torchvision:
        fetch(entry, cache())
        return _official(entry, Place("the cache", cache()))
    for place in searched:
        if entry.test_only and (found := _test_only(entry, place)):
            return found
    raise DataNotFound(not_found(entry, searched))


def _official(entry: Entry, place: Place) -> Found | None:
    """The publisher's files, if all of them are there."""
    paths = {file: locate(place.folder, file) for file in entry.files}
    if not paths or None in paths.values():
        return None
    train, test = _read(entry, paths, _AGAIN.format(entry.name))
    return Found(train, test, entry.classes, f"the publisher's files in {place.label}, md5 checked")


def _plain(entry: Entry, place: Place) -> Found | None:
    """The plain layout, if both its files are there."""
    paths = [place.folder / entry.name / part for part in PARTS]
    if not all(path.is_file() for path in paths):
        return None
    (x, y, names), (x_test, y_test, _) = map(formats.npz, paths)
    if x.shape[1:] != x_test.shape[1:]:
        shapes = f"{tuple(x.shape[1:])} in train.npz and {tuple(x_test.shape[1:])} in test.npz"
        raise ValueError(f"{paths[1]}: x: got images {shapes}; allowed is one shape (C, H, W) for both")
    needed = 1 + int(max(y.max(), y_test.max()))
    classes = entry.classes or names or tuple(map(str, range(needed)))
    if needed > len(classes):
        raise ValueError(f"{paths[0]}: y: got a label {needed - 1} in train or test; allowed is < {len(classes)}")

    source = f"{entry.name}/train.npz and test.npz in {place.label}"
    for part, rows, full in zip(("train", "test"), (len(x), len(x_test)), entry.rows, strict=True):
        source += f", {rows:,} of {full:,} {part} rows" if full else f", {rows:,} {part} rows"
    unofficial = any(entry.rows) and entry.rows != (len(x), len(x_test))
    return Found((x, y), (x_test, y_test), classes, source, unofficial)


def _test_only(entry: Entry, place: Place) -> Found | None:
    """A split of the test images, where those are there and the train images are not."""
    train_images, _, *test_files = entry.files
    paths = {file: locate(place.folder, file) for file in test_files}
    if None in paths.values() or locate(place.folder, train_images):
        return None
    x, y = _images_and_labels(*_contents(entry, paths, _AGAIN.format(entry.name)))
    k = entry.test_only
    source = (
        f"the publisher's test images in {place.label}, md5 checked. The train images are missing, so the first "
        f"{k:,} of these are train and the last {len(x) - k:,} test: not the official split, and not comparable "
        "with published figures"
    )
    return Found((x[:k], y[:k]), (x[k:], y[k:]), entry.classes, source, unofficial=True)


def _read(entry: Entry, paths: dict[str, Path], way_out: str) -> tuple[Arrays, Arrays]:
    return _READERS[entry.kind](_contents(entry, paths, way_out))


def _contents(entry: Entry, paths: dict[str, Path], way_out: str) -> list:
    """What is in the files: bytes, or, of IDX files, the arrays."""
    checked = {path: formats.checked(path, entry.files[file], way_out) for file, path in paths.items()}
    if entry.kind == "idx":
        return [formats.idx(content, path, way_out) for path, content in checked.items()]
    return list(checked.values())


def _images_and_labels(x: Tensor, y: Tensor) -> Arrays:
    return x.unsqueeze(1), y.long()  # (N, H, W) → (N, 1, H, W)


def _cifar(batches: list[bytes]) -> tuple[Arrays, Arrays]:
    *train, test = map(formats.cifar_batch, batches)
    images, labels = zip(*train, strict=True)
    return (torch.cat(images), torch.cat(labels)), test


_READERS: dict[str, Callable[[list], tuple[Arrays, Arrays]]] = {
    "idx": lambda arrays: (_images_and_labels(*arrays[:2]), _images_and_labels(*arrays[2:])),
    "libsvm": lambda texts: tuple(map(formats.libsvm, texts)),
    "pickle": _cifar,
}
