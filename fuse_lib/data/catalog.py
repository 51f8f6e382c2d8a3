"""Which sets there are by name: their files, what those must contain, their classes, how pixels are scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fuse_lib.data.formats import MD5

DIGITS = tuple("0123456789")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Entry:
    """One set.

    rows: of the train and the test part, in full.
    files: path below the data folder → its MD5. IDX files are named without the `.gz` they may have.
        Their order is the one that `kind`'s reader wants.
    kind: "idx", "libsvm" or "pickle".
    top: the largest pixel value, which becomes 1.
    centred: whether (x − 0.5)/0.5 follows, so that pixels lie in [−1, 1].
    torchvision: the class in torchvision.datasets that can download it; None: it is bundled, or one's own.
    megabytes: the size of that download.
    test_only: where only the test images can be had, so many of them serve as train; 0: never.
    about: how the source of a bundled set is told.
    """

    name: str
    classes: tuple[str, ...]
    rows: tuple[int, int]
    files: Mapping[str, MD5]
    kind: str = "idx"
    top: int = 255
    centred: bool = False
    torchvision: str | None = None
    megabytes: int = 0
    test_only: int = 0
    about: str = ""

    @property
    def bundled(self) -> bool:
        """Whether it comes with the course. A set of one's own has no known files."""
        return bool(self.files) and self.torchvision is None

    @property
    def pixels(self) -> str:
        """How the pixels were scaled, in words."""
        return "pixels scaled to [-1, 1]" if self.centred else "pixels scaled to [0, 1]"


def _idx(folder: str, *md5: MD5) -> Mapping[str, MD5]:
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    return MappingProxyType({f"{folder}/{name}": digest for name, digest in zip(names, md5, strict=True)})


_ENTRIES = (
    Entry(
        "fashion-mnist-sample",
        FASHION,
        (2_000, 1_000),
        # data/make_samples.py prints the digests.
        _idx(
            "fashion-mnist-sample",
            MD5(content="81ef1b0f4cce21475e703bf8c80149d4"),
            MD5(content="43a23ab54672fb43dbfa96d25449d868"),
            MD5(content="e62cd644cfdaf09dc9a385546c243355"),
            MD5(content="dbb80b3506aef4c510567661a184f397"),
        ),
        about="2,000 train and 1,000 test rows drawn from Fashion-MNIST's, equally many of each class",
    ),
    Entry(
        "digits",
        DIGITS,
        (1_437, 360),
        _idx(
            "digits",
            MD5(content="ed10f6d1f9cac10ccba73de4c22e56e7"),
            MD5(content="de23a91e15d0fbf6f42af2e33288dfa9"),
            MD5(content="8f713d0c1d13d74bd0ef94f0735453e9"),
            MD5(content="cc482997575529b960a19e9b51807d75"),
        ),
        top=16,
        about="scikit-learn's digits, in a split of this course (scikit-learn gives none)",
    ),
    Entry(
        "mnist",
        DIGITS,
        (60_000, 10_000),
        _idx(
            "MNIST/raw",
            MD5("f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
            MD5("d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
            MD5("9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
            MD5("ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
        ),
        torchvision="MNIST",
        megabytes=12,
    ),
    Entry(
        "fashion-mnist",
        FASHION,
        (60_000, 10_000),
        _idx(
            "FashionMNIST/raw",
            MD5("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
            MD5("25c81989df183df01b3e8a0aad5dffbe", "9018921c3c673c538a1fc5bad174d6f9"),
            MD5("bef4ecab320f06d8554ea6380940ec79", "8181f5470baa50b63fa0f6fddb340f0a"),
            MD5("bb300cfdad3c16e7a12a480ee83cd310", "15d484375f8d13e6eb1aabb0c3f46965"),
        ),
        torchvision="FashionMNIST",
        megabytes=31,
    ),
    Entry(
        "kmnist",
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        (60_000, 10_000),
        _idx(
            "KMNIST/raw",
            MD5("bdb82020997e1d708af4cf47b453dcf7"),  # of the unpacked file no digest is published
            MD5("e144d726b3acfaa3e44228e80efcd344", "949e75301f8813e0dc5800dcc320fc52"),
            MD5("5c965bf0a639b31b8f53240b1b52f4d7", "bf305b8cd328700fbc17f5acbc2856d2"),
            MD5("7320c461ea6c1c855c0b718fb2a4b134", "9f55f451c0988b028eccdf7d5cc265ab"),
        ),
        torchvision="KMNIST",
        megabytes=21,
        test_only=8_000,
    ),
    Entry(
        "usps",
        DIGITS,
        (7_291, 2_007),
        MappingProxyType(
            {
                "usps.bz2": MD5("ec16c51db3855ca6c91edd34d0e9b197"),
                "usps.t.bz2": MD5("8ea070ee2aca1ac39742fdd1ef5ed118"),
            }
        ),
        kind="libsvm",
        torchvision="USPS",
        megabytes=8,
    ),
    Entry(
        "cifar10",
        CIFAR10,
        (50_000, 10_000),
        MappingProxyType(
            {
                "cifar-10-batches-py/data_batch_1": MD5(content="c99cafc152244af753f735de768cd75f"),
                "cifar-10-batches-py/data_batch_2": MD5(content="d4bba439e000b95fd0a9bffe97cbabec"),
                "cifar-10-batches-py/data_batch_3": MD5(content="54ebc095f3ab1f0389bbae665268c751"),
                "cifar-10-batches-py/data_batch_4": MD5(content="634d18415352ddfa80567beed471001a"),
                "cifar-10-batches-py/data_batch_5": MD5(content="482c414d41f54cd18b22e5b47cb7c3cb"),
                "cifar-10-batches-py/test_batch": MD5(content="40351d587109b95175f43aff81a1287e"),
            }
        ),
        kind="pickle",
        centred=True,
        torchvision="CIFAR10",
        megabytes=170,
    ),
)

CATALOG: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
NAMES = tuple(CATALOG)
