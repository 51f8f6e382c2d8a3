"""Make the bundled samples again, from the full Fashion-MNIST and from scikit-learn.

    python data/make_samples.py --fashion-mnist FOLDER     # the folder that holds FashionMNIST/raw/
    python data/make_samples.py --digits                   # needs scikit-learn

Both can be given at once; --out FOLDER writes elsewhere than beside this script. The content of the
files is the same each time, byte for byte; the gzip around it may differ between versions of zlib.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import random
from pathlib import Path

import torch
from torch import Tensor

from fuse_lib.data import load

SEED = 20250304
IMAGES, LABELS = "{}-images-idx3-ubyte.gz", "{}-labels-idx1-ubyte.gz"


def shuffled(items: list[int], rng: random.Random) -> list[int]:
    """The items in random order. Of Python's generator only random() is promised never to change."""
    return [item for _, item in sorted((rng.random(), item) for item in items)]


def by_class(y: Tensor, rng: random.Random) -> list[list[int]]:
    """For each label the rows that have it, in random order."""
    return [shuffled((y == label).nonzero().flatten().tolist(), rng) for label in range(10)]


def fashion_mnist_rows(y: Tensor, per_class: int, rng: random.Random) -> list[int]:
    """So many rows of each class, mixed."""
    return shuffled([row for rows in by_class(y, rng) for row in rows[:per_class]], rng)


def digits_rows(y: Tensor, rng: random.Random) -> tuple[list[int], list[int]]:
    """Train and test rows. Every fifth of the rows sorted by class goes to test: the shares of the
    classes are then equal in both, up to one row."""
    rows = [row for rows in by_class(y, rng) for row in rows]
    test = rows[::5]
    return shuffled(sorted(set(rows) - set(test)), rng), shuffled(test, rng)


def write(folder: Path, part: str, x: Tensor, y: Tensor) -> None:
    """Images (N, H, W) and labels (N,), both uint8, as two gzipped IDX files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ((IMAGES, x), (LABELS, y)):
        header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        content = header + array.contiguous().numpy().tobytes()
        path = folder / name.format(part)
        path.write_bytes(gzip.compress(content, compresslevel=9, mtime=0))  # no time in it: the same file each time
        print(f"{hashlib.md5(content).hexdigest()}  {tuple(array.shape)!s:<16} {path.parent.name}/{path.name}")


def make_fashion_mnist(root: Path, out: Path) -> None:
    full = load("fashion-mnist", root=root)  # its md5s are checked
    rng = random.Random(SEED)
    for part, x, y, per_class in (
        ("train", full.x_train, full.y_train, 200),
        ("t10k", full.x_test, full.y_test, 100),
    ):
        rows = fashion_mnist_rows(y, per_class, rng)
        pixels = x[rows, 0].mul(255).round().to(torch.uint8)  # back to what is in the file
        write(out / "fashion-mnist-sample", part, pixels, y[rows].to(torch.uint8))


def make_digits(out: Path) -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = torch.from_numpy(bunch.images).to(torch.uint8), torch.from_numpy(bunch.target).to(torch.uint8)
    for part, rows in zip(("train", "t10k"), digits_rows(y, random.Random(SEED)), strict=True):
        write(out / "digits", part, x[rows], y[rows])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion-mnist", type=Path, metavar="FOLDER", help="the folder that holds FashionMNIST/raw/")
    parser.add_argument("--digits", action="store_true", help="from scikit-learn")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="default: beside this script")
    chosen = parser.parse_args(arguments)
    if not (chosen.fashion_mnist or chosen.digits):
        parser.error("nothing to make: give --fashion-mnist FOLDER, --digits, or both")
    if chosen.fashion_mnist:
        make_fashion_mnist(chosen.fashion_mnist, chosen.out)
    if chosen.digits:
        make_digits(chosen.out)


if __name__ == "__main__":
    main()
