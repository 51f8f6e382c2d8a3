"""The data sets of the course, as plain tensors.

    from fuse_lib import data
    sample = data.load()                          # bundled: 2,000 + 1,000 rows of Fashion-MNIST
    full = data.load("fashion-mnist")             # from $FUSE_DATA or the cache, else an error that says how
    full = data.load("fashion-mnist", download=True)
    mine = data.load("my-set", root="folder")     # folder/my-set/train.npz and test.npz

These sets are small, so there is no loader: all rows lie on the device, and a minibatch is an index.

>>> import torch
>>> digits = load("digits")
>>> rows = torch.randperm(len(digits.x_train))[:64]
>>> digits.x_train[rows].shape, digits.y_train[rows].shape
(torch.Size([64, 1, 8, 8]), torch.Size([64]))

A set that was not asked for by name is never returned, and a damaged file is never read.
"""

from __future__ import annotations

from fuse_lib.data.catalog import NAMES
from fuse_lib.data.dataset import Dataset
from fuse_lib.data.formats import DataDamaged
from fuse_lib.data.loading import load
from fuse_lib.data.places import DataNotFound, bundled

__all__ = ["NAMES", "DataDamaged", "DataNotFound", "Dataset", "bundled", "load"]
