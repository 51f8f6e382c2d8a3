"""Make cifar10/train.npz and test.npz, the plain layout of fuse_lib.data, from lossless mosaics of CIFAR-10.

    python data/make_cifar10.py FOLDER                 # writes into the cache, where load("cifar10") finds it
    python data/make_cifar10.py FOLDER --out OTHER     # OTHER/cifar10/…; set FUSE_DATA=OTHER

FOLDER, or FOLDER/cifar10, holds a mosaic for each original batch, train_1.webp … train_5.webp and test.webp: 50 images
of 32x32 pixels a row, in the batch's order, the last row filled up with black; and labels.npz with <part>_labels, one
for each image, <part>_index, the images' positions in the official train or test set, and classes, the ten names.
Needs numpy and Pillow.

Images that the mosaics lack are lacking here, too; `load` then calls the set unofficial. The positions are kept beside
the images, as `index`. The files come out the same each time, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path

import numpy as np
from PIL import Image

from fuse_lib.data.places import cache

PARTS = {"train": ("train_1", "train_2", "train_3", "train_4", "train_5"), "test": ("test",)}
SIDE, ACROSS = 32, 50  # pixels of an image, images in a row of a mosaic


def tiles(path: Path, count: int) -> np.ndarray:
    """The first `count` images of a mosaic, uint8 (count, 32, 32, 3).

    Raises:
        ValueError: the mosaic is not of whole images, or has too few.
    """
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    height, width, _ = pixels.shape
    if width != ACROSS * SIDE or height % SIDE or height // SIDE * ACROSS < count:
        raise ValueError(
            f"{path}: got {width}x{height} pixels; allowed is {ACROSS * SIDE} across and {SIDE} for each "
            f"{ACROSS} of its {count} images"
        )
    x = pixels.reshape(-1, SIDE, ACROSS, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
    return x[:count]


def part(folder: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """x, y and index of a train or test part."""
    with np.load(folder / "labels.npz") as labels:
        y = [labels[f"{name}_labels"] for name in names]
        index = [labels[f"{name}_index"] for name in names]
        classes = labels["classes"].astype(str)
    x = [tiles(folder / f"{name}.webp", len(some)) for name, some in zip(names, y, strict=True)]
    return {"x": np.concatenate(x), "y": np.concatenate(y), "index": np.concatenate(index), "classes": classes}


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """An npz file that is there whole or not at all. Not compressed: it is read at each start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with half.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(half, path)
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    print(f"{digest}  {arrays['x'].shape!s:<20} {path}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the mosaics")
    parser.add_argument("--out", type=Path, default=cache(), help=f"default: the cache, {cache()}")
    chosen = parser.parse_args(arguments)
    folder = next((f for f in (chosen.folder, chosen.folder / "cifar10") if (f / "labels.npz").is_file()), None)
    if folder is None:
        parser.error(f"folder: {chosen.folder} has no labels.npz, nor has {chosen.folder / 'cifar10'}")
    for name, names in PARTS.items():
        write(chosen.out / "cifar10" / f"{name}.npz", part(folder, names))


if __name__ == "__main__":
    main()
