"""From files to tensors: IDX, LIBSVM text, CIFAR's pickles, npz. Each is checked before it is read.

Images come out as uint8 (N, C, H, W), labels as int64 (N,). Only npz and the pickles need numpy.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import math
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

Arrays = tuple[Tensor, Tensor]  # images, labels
MOST_CLASSES = 100_000  # every class up to the largest label gets a name; larger ones are ids or a fill value
_OPEN = {".gz": gzip.decompress, ".bz2": bz2.decompress}


class DataDamaged(ValueError):
    """A file is there, but its content is not what it has to be: damaged, cut off or half downloaded."""


class MD5(NamedTuple):
    """Hex digests of a file as its publisher gives it, and of what is inside it once decompressed.

    A file is good if either fits: gzip writes other bytes from version to version around the same
    content. None: not known.
    """

    file: str | None = None
    content: str | None = None


def checked(path: Path, md5: MD5, way_out: str) -> bytes:
    """The file's decompressed content, if its digest is the expected one.

    Raises:
        DataDamaged: it is not; the message names the file, what was expected, what was found, and `way_out`.
    """
    blob = path.read_bytes()
    packed, found, why = path.suffix in _OPEN, _digest(blob), ""
    try:
        content = _OPEN[path.suffix](blob) if packed else blob
    except (EOFError, OSError, ValueError, zlib.error) as error:  # gzip's and bz2's, for cut or flipped bytes
        why = f", which do not decompress ({error})"
    else:
        inside = _digest(content) if packed else found
        if found == md5.file or inside == md5.content:
            return content
        if not packed and md5.content is None:
            return content  # no digest of the unpacked file is published; the reader checks its length
    expected = md5.file if packed and md5.file else f"{md5.content}{' once unpacked' if packed else ''}"
    raise DataDamaged(
        f"{path}: damaged or only partly downloaded: expected md5 {expected}, "
        f"found {found} in {len(blob):,} bytes{why}. {way_out}"
    )


def idx(content: bytes, path: Path, way_out: str) -> Tensor:
    """The array in an IDX file of bytes (LeCun's format): two zeros, type 8, the number of axes, each
    axis' length as a big-endian 32-bit integer, then the data. → uint8, of the shape that the header says.

    Raises:
        DataDamaged: the header is none, or the length does not fit it.

    >>> idx(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 7, 8, 9]), Path("x"), "").tolist()
    [[7, 8, 9]]
    """
    axes = content[3] if len(content) > 3 else 0
    start = 4 + 4 * axes
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    if content[:3] != b"\0\0\x08" or axes == 0 or len(content) != start + math.prod(shape):
        raise DataDamaged(
            f"{path}: damaged or not an IDX file of bytes: the header says shape {shape}, "
            f"found {len(content):,} bytes in all. {way_out}"
        )
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).reshape(shape)


def libsvm(content: bytes) -> Arrays:
    """USPS in LIBSVM's text format: `label index:value …` with labels from 1 and values in [−1, 1].

    The values are made uint8 as torchvision does, (v + 1)/2 · 255 rounded down, so that both read the same.
    """
    rows = [line.split() for line in content.decode("ascii").splitlines()]
    values = [[float(item.partition(":")[2]) for item in row[1:]] for row in rows]
    x = torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 16, 16)
    return ((x + 1) / 2 * 255).to(torch.uint8), torch.tensor([int(row[0]) - 1 for row in rows])


def cifar_batch(content: bytes) -> Arrays:
    """One of CIFAR-10's pickled batches. A pickle can run code: only bytes with the known md5 may come here."""
    batch = pickle.loads(content, encoding="latin1")
    return torch.from_numpy(batch["data"]).reshape(-1, 3, 32, 32), torch.tensor(batch["labels"])


def npz(path: Path) -> tuple[Tensor, Tensor, tuple[str, ...] | None]:
    """One part of a set in the plain layout → images, labels, and the classes' names if they are there.

    x: uint8, (N, H, W) or channels last (N, H, W, C) with C = 1 or 3, as image files are.
    y: integers from 0, (N,). classes (optional): strings, in the order of the labels.

    Raises:
        DataDamaged: not an npz file, or one whose checksum fails.
        ValueError: x, y or classes are not as above; the message names which, and what it is.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        if junk := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"no array in {junk}")  # numpy hands out the bytes
    except (AttributeError, EOFError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataDamaged(f"{path}: damaged or not an npz file ({error}). Write it again with numpy.savez") from error
    for key in ("x", "y"):
        _check(key in arrays, path, "keys", sorted(arrays), "x and y, and optionally classes")
    x, y, classes = arrays["x"], arrays["y"], arrays.get("classes")

    if x.ndim == 3:
        x = x[..., None]
    ok = x.dtype == np.uint8 and x.ndim == 4 and x.shape[3] in (1, 3) and x.size > 0
    what = f"{arrays['x'].dtype} of shape {arrays['x'].shape}"
    _check(ok, path, "x", what, "uint8 of shape (N, H, W), or channels last (N, H, W, 1) or (N, H, W, 3)")
    ok = y.dtype.kind in "iu" and y.shape == (len(x),)
    _check(ok, path, "y", f"{y.dtype} of shape {y.shape}", f"integers ≥ 0 of shape ({len(x)},), one for each image")
    least, most = int(y.min()), int(y.max())
    _check(least >= 0 and most < MOST_CLASSES, path, "y", f"labels from {least} to {most}",
           f"integers ≥ 0 and < {MOST_CLASSES}, the numbers of classes")  # fmt: skip
    if classes is not None:
        ok = classes.dtype.kind == "U" and classes.ndim == 1
        _check(ok, path, "classes", f"{classes.dtype} of shape {classes.shape}", "an array of strings, (K,)")
        classes = tuple(classes.tolist())
    images = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    return images, torch.from_numpy(y.astype(np.int64)), classes


def _digest(blob: bytes) -> str:
    return hashlib.md5(blob, usedforsecurity=False).hexdigest()


def _check(ok: bool, path: Path, key: str, got: object, allowed: str) -> None:
    if not ok:
        raise ValueError(f"{path}: {key}: got {got}; allowed is {allowed}")
