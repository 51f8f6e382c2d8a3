"""What `load` returns: four tensors and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True, repr=False, eq=False)
class Dataset:
    """A train and a test part, wholly on one device.

    name: as it was asked for.
    x_train, x_test: images, float (N, C, H, W); `source` tells how the pixels were scaled.
    y_train, y_test: labels, int64 (N,), from 0 to len(classes) − 1.
    classes: the classes' names in the order of the labels.
    source: a sentence: which files, whether they were checked, which rows. It names no folder, so
        that a recorded run reads the same everywhere.
    unofficial: True where train and test are another division than the publisher's, or rows of those are
        missing, so that a figure measured on it is not strictly comparable with a published one.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]
    source: str
    unofficial: bool = False

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image: what `models.build` wants to know."""
        return tuple(self.x_train.shape[1:])

    def take(self, train: int | None = None, test: int | None = None) -> Dataset:
        """The first rows of each part (None: all of them), as views, not copies.

        Raises:
            ValueError: more rows than there are, or fewer than one.

        >>> from fuse_lib.data import load
        >>> small = load("digits").take(train=100)
        >>> len(small.x_train), len(small.x_test)
        (100, 360)
        """
        parts, said = {}, []
        for part, rows in (("train", train), ("test", test)):
            if rows is None:
                continue
            _check(rows, part, len(getattr(self, f"x_{part}")))
            said.append(f"the first {rows:,} {part} rows")
            parts |= {f"x_{part}": getattr(self, f"x_{part}")[:rows], f"y_{part}": getattr(self, f"y_{part}")[:rows]}
        return replace(self, **parts, source="; ".join([self.source, *said]))

    def holdout(self, rows: int) -> Dataset:
        """The last train rows in the place of the test part, and the others as train.

        For choosing settings (a learning rate, a switch point): a setting chosen by its test accuracy
        makes that accuracy look better than it is. Choose on `data.holdout(500)`, report on `data`.

        Raises:
            ValueError: `rows` is not between 1 and one less than the train rows.

        >>> from fuse_lib.data import load
        >>> choose = load("digits").holdout(300)
        >>> len(choose.x_train), len(choose.x_test), choose.unofficial
        (1137, 300, True)
        """
        _check(rows, "rows", len(self.x_train) - 1)
        return replace(
            self,
            x_train=self.x_train[:-rows],
            y_train=self.y_train[:-rows],
            x_test=self.x_train[-rows:],
            y_test=self.y_train[-rows:],
            source=f"{self.source}; the last {rows:,} train rows are held out in the place of the test part",
            unofficial=True,
        )

    def __repr__(self) -> str:
        def part(name: str, x: Tensor) -> str:
            dtype = str(x.dtype).removeprefix("torch.")
            return f"  {name:<8} {len(x):,} images {tuple(x.shape[1:])}, {dtype} on {x.device}"

        shown = ", ".join(self.classes[:10]) + (", …" if len(self.classes) > 10 else "")
        return "\n".join(
            [
                f"Dataset {self.name!r}" + (" (unofficial split)" if self.unofficial else ""),
                part("train", self.x_train),
                part("test", self.x_test),
                f"  {'classes':<8} {len(self.classes)}: {shown}",
                f"  {'source':<8} {self.source}",
            ]
        )


def _check(rows: object, name: str, most: int) -> None:
    if not (isinstance(rows, int) and not isinstance(rows, bool) and 1 <= rows <= most):
        raise ValueError(f"{name}: got {rows!r}; allowed is an integer from 1 to {most:,}")
