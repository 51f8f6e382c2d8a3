"""fuse_lib.data: every set by name, every way in which a file can be wrong, and the samples themselves."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import importlib.util
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fuse_lib import data
from fuse_lib.data import catalog, formats, getting, loading, places

REPO = Path(__file__).resolve().parent.parent
FULL = Path(os.environ.get("FUSE_DATA") or REPO.parent / "shared" / "data")


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch, tmp_path):
    """No test sees the user's own data or cache."""
    monkeypatch.delenv("FUSE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def a_set(name: str, rows: tuple[int, int], monkeypatch, **fields) -> dict[str, bytes]:
    """Put a set of a few 4x4 images in the place of the real one in the catalog. → its files, packed."""
    rng = np.random.default_rng(0)
    real = catalog.CATALOG[name]
    contents = []
    for n in rows:
        contents += [idx_bytes(rng.integers(0, 256, (n, 4, 4), dtype=np.uint8))]
        contents += [idx_bytes(np.arange(n, dtype=np.uint8) % 10)]
    files = {f"{file}.gz": gzip.compress(content) for file, content in zip(real.files, contents, strict=True)}
    digests = [formats.MD5(md5(packed), md5(content)) for packed, content in zip(files.values(), contents, strict=True)]
    entry = replace(real, files=dict(zip(real.files, digests, strict=True)), rows=rows, **fields)
    monkeypatch.setattr(loading, "CATALOG", {**loading.CATALOG, name: entry})
    return files


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


TRAIN_IMAGES = "MNIST/raw/train-images-idx3-ubyte.gz"


@pytest.fixture
def mnist(monkeypatch) -> dict[str, bytes]:
    return a_set("mnist", (12, 5), monkeypatch)


# --- bundled -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rows", "shape", "train_classes", "test_classes"),
    [
        ("fashion-mnist-sample", (2000, 1000), (1, 28, 28), [200] * 10, [100] * 10),
        (
            "digits",
            (1437, 360),
            (1, 8, 8),
            [142, 146, 141, 147, 144, 146, 145, 143, 139, 144],
            [36, 36, 36, 36, 37, 36, 36, 36, 35, 36],
        ),
    ],
)
def test_bundled_set(name, rows, shape, train_classes, test_classes):
    d = data.load(name)
    assert (len(d.x_train), len(d.x_test)) == (len(d.y_train), len(d.y_test)) == rows
    assert d.in_shape == shape
    assert d.x_train.dtype == torch.float32
    assert d.y_train.dtype == torch.int64
    assert d.y_train.bincount().tolist() == train_classes
    assert d.y_test.bincount().tolist() == test_classes
    assert (d.x_train.min(), d.x_train.max()) == (0, 1)
    assert len(d.classes) == 10
    assert not d.unofficial
    assert "bundled" in d.source
    # In random order: the first hundred rows have all classes.
    assert len(d.y_train[:100].unique()) == 10


def test_the_sample_is_the_default():
    assert data.load().name == "fashion-mnist-sample"


def test_no_row_is_in_train_and_test():
    for name in ("fashion-mnist-sample", "digits"):
        d = data.load(name)
        rows = torch.cat([d.x_train, d.x_test]).flatten(1)
        assert len(rows.unique(dim=0)) == len(rows)


def test_readme_and_catalog_give_the_same_digests():
    readme = (REPO / "data" / "README.md").read_text(encoding="utf-8")
    for name in ("fashion-mnist-sample", "digits"):
        for file, digests in catalog.CATALOG[name].files.items():
            assert f"`{file}.gz`" in readme
            assert digests.content in readme


def test_a_damaged_bundled_file_says_how_to_mend_it(monkeypatch, tmp_path):
    name = "digits/train-images-idx3-ubyte.gz"
    copies = {f"data/{p.parent.name}/{p.name}": p.read_bytes() for p in (REPO / "data").glob("*/*.gz")}
    copies[f"data/{name}"] = gzip.compress(b"something else")
    write(tmp_path, copies)
    monkeypatch.setattr(places.resources, "files", lambda _: tmp_path / "fuse_lib")
    with pytest.raises(data.DataDamaged, match=r"digits.train-images(?s:.)*expected md5(?s:.)*Reinstall"):
        data.load("digits")
    assert len(data.load("fashion-mnist-sample").x_train) == 2000  # the other set still loads


def test_bundled_prefers_the_copy_inside_the_package(monkeypatch, tmp_path):
    monkeypatch.setattr(places.resources, "files", lambda _: tmp_path / "fuse_lib")
    write(tmp_path, {"fuse_lib/_bundled/results/t.csv": b"in the wheel", "data/results/t.csv": b"beside"})
    assert data.bundled("results/t.csv").read_text() == "in the wheel"
    with pytest.raises(data.DataNotFound, match=r"results/u.csv: no such bundled file(?s:.)*_bundled"):
        data.bundled("results/u.csv")


def script(name):
    spec = importlib.util.spec_from_file_location(name, REPO / "data" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def same_content(made: Path) -> None:
    for path in made.glob("*/*.gz"):
        bundled = REPO / "data" / path.relative_to(made)
        assert gzip.decompress(path.read_bytes()) == gzip.decompress(bundled.read_bytes())


def test_digits_can_be_made_again(tmp_path):
    pytest.importorskip("sklearn")
    script("make_samples").main(["--digits", "--out", str(tmp_path)])
    assert len(list(tmp_path.glob("digits/*.gz"))) == 4
    same_content(tmp_path)


def test_the_samples_files_hold_no_time():
    for path in (REPO / "data").glob("*/*.gz"):
        assert path.read_bytes()[4:8] == bytes(4)


# --- where files are looked for ------------------------------------------------------------------


def test_packed_unpacked_and_repacked_files_read_the_same(mnist, tmp_path):
    packed = data.load("mnist", root=write(tmp_path / "a", mnist))
    assert packed.x_train.shape == (12, 1, 4, 4)
    assert packed.y_test.tolist() == [0, 1, 2, 3, 4]
    unpacked = {name.removesuffix(".gz"): gzip.decompress(content) for name, content in mnist.items()}
    repacked = {name: gzip.compress(gzip.decompress(content), 1, mtime=7) for name, content in mnist.items()}
    for folder, files in (("b", unpacked), ("c", repacked)):
        other = data.load("mnist", root=write(tmp_path / folder, files))
        assert torch.equal(other.x_train, packed.x_train)
        assert torch.equal(other.y_test, packed.y_test)


def test_root_comes_before_fuse_data_and_both_before_the_cache(mnist, monkeypatch, tmp_path):
    write(tmp_path / "xdg" / "fuse_lib", mnist)
    assert "the cache" in data.load("mnist").source
    assert "the cache" in data.load("mnist", root=tmp_path).source
    monkeypatch.setenv("FUSE_DATA", str(write(tmp_path / "data", mnist)))
    assert "$FUSE_DATA" in data.load("mnist").source
    source = data.load("mnist", root=write(tmp_path / "root", mnist)).source
    assert "in root" in source
    assert str(tmp_path) not in source


def test_a_home_may_be_written_as_tilde(mnist, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(write(tmp_path / "home", mnist)))
    assert len(data.load("mnist", root="~").x_train) == 12


def test_a_set_that_is_nowhere_says_where_it_was_looked_for_and_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("FUSE_DATA", str(tmp_path / "nowhere"))
    (tmp_path / "xdg" / "fuse_lib").mkdir(parents=True)
    with pytest.raises(data.DataNotFound) as caught:
        data.load("fashion-mnist")
    message = str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    assert f"{tmp_path / 'nowhere'} ($FUSE_DATA): no such folder" in message
    assert f"{tmp_path / 'xdg' / 'fuse_lib'} (the cache): missing FashionMNIST/raw/train-images" in message
    assert "load('fashion-mnist', download=True)" in message
    assert "fashion-mnist/train.npz" in message


def test_without_fuse_data_the_message_mentions_it():
    with pytest.raises(data.DataNotFound, match="FUSE_DATA, which would name a folder"):
        data.load("usps")


def test_a_missing_part_is_named(mnist, tmp_path):
    del mnist["MNIST/raw/t10k-labels-idx1-ubyte.gz"]
    with pytest.raises(data.DataNotFound, match=r"\(root\): missing MNIST/raw/t10k-labels-idx1-ubyte or"):
        data.load("mnist", root=write(tmp_path, mnist))


def test_a_root_one_folder_too_deep_is_not_found(mnist, tmp_path):
    with pytest.raises(data.DataNotFound, match=r"a folder that holds MNIST/raw/train-images-idx3-ubyte\.gz"):
        data.load("mnist", root=write(tmp_path, mnist) / "MNIST")


@pytest.mark.parametrize("name", ["fashion_mnist", "MNIST", "", "..", "a/b", None, 3, ["mnist"]])
def test_an_unknown_name_lists_the_known_ones(name, mnist, tmp_path):
    with pytest.raises(ValueError, match="name: got") as caught:
        data.load(name, root=write(tmp_path, mnist))
    assert all(known in str(caught.value) for known in data.NAMES)


def test_a_near_miss_is_guessed():
    with pytest.raises(ValueError, match="did you mean 'fashion-mnist'"):
        data.load("Fashion_MNIST")


# --- damaged files -------------------------------------------------------------------------------


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [flipped, lambda c: c[:-9], lambda c: c[:30], lambda c: b"", lambda c: c + b"x", lambda c: b"<html>404</html>"],
    ids=["flipped", "cut", "half", "empty", "longer", "a page"],
)
@pytest.mark.parametrize("packed", [True, False])
def test_a_damaged_file_is_named_and_other_sets_load(damage, packed, mnist, monkeypatch, tmp_path):
    if not packed:
        mnist = {name.removesuffix(".gz"): gzip.decompress(content) for name, content in mnist.items()}
    victim = TRAIN_IMAGES if packed else TRAIN_IMAGES.removesuffix(".gz")
    broken = damage(mnist[victim])
    write(tmp_path, {**mnist, victim: broken})
    write(tmp_path, a_set("fashion-mnist", (3, 2), monkeypatch))
    with pytest.raises(data.DataDamaged) as caught:
        data.load("mnist", root=tmp_path)
    message = str(caught.value)
    for part in (str(tmp_path / victim), md5(mnist[victim]), md5(broken), f"{len(broken):,} bytes", "download=True"):
        assert part in message
    assert len(data.load("fashion-mnist", root=tmp_path).x_train) == 3


def test_a_damaged_file_is_not_passed_over_for_a_good_one_elsewhere(mnist, tmp_path):
    write(tmp_path / "xdg" / "fuse_lib", mnist)
    with pytest.raises(data.DataDamaged):
        data.load("mnist", root=write(tmp_path / "root", {**mnist, TRAIN_IMAGES: b""}))


def test_an_unpacked_file_without_a_known_digest_is_checked_by_its_length(monkeypatch, tmp_path):
    files = a_set("kmnist", (12, 5), monkeypatch, test_only=3)
    packed = "KMNIST/raw/train-images-idx3-ubyte.gz"
    unpacked = packed.removesuffix(".gz")
    entry = loading.CATALOG["kmnist"]
    known = {**entry.files, unpacked: formats.MD5(md5(files[packed]))}
    monkeypatch.setattr(loading, "CATALOG", {"kmnist": replace(entry, files=known)})
    content = gzip.decompress(files.pop(packed))
    assert len(data.load("kmnist", root=write(tmp_path, {**files, unpacked: content})).x_train) == 12
    with pytest.raises(data.DataDamaged, match="the header says shape"):
        data.load("kmnist", root=write(tmp_path, {unpacked: content[:-1]}))


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08", b"\0\0\x08\x00", b"\0\0\x0d\x01\0\0\0\x01a", b"\0\0\x08\x02\0\0"]
)
def test_idx_refuses_what_is_no_idx_file(content):
    with pytest.raises(data.DataDamaged, match="not an IDX file"):
        formats.idx(content, Path("f"), "")


# --- KMNIST without its train images -------------------------------------------------------------


def kmnist_without_train_images(monkeypatch) -> dict[str, bytes]:
    files = a_set("kmnist", (12, 10), monkeypatch, test_only=8)
    del files["KMNIST/raw/train-images-idx3-ubyte.gz"]
    return files


def test_kmnist_without_train_images_is_split_and_flagged(monkeypatch, tmp_path):
    files = kmnist_without_train_images(monkeypatch)
    d = data.load("kmnist", root=write(tmp_path, files))
    assert d.unofficial
    assert "unofficial" in repr(d)
    assert "not the official split" in d.source
    assert d.y_train.tolist() == list(range(8))  # in file order
    assert d.y_test.tolist() == [8, 9]


def test_a_whole_kmnist_elsewhere_comes_before_the_split(monkeypatch, tmp_path):
    whole = a_set("kmnist", (12, 10), monkeypatch, test_only=8)
    write(tmp_path / "xdg" / "fuse_lib", whole)
    d = data.load("kmnist", root=write(tmp_path / "root", kmnist_without_train_images(monkeypatch)))
    assert not d.unofficial
    assert len(d.x_train) == 12


def test_kmnist_with_train_images_but_not_their_labels_is_not_split(monkeypatch, tmp_path):
    files = a_set("kmnist", (12, 10), monkeypatch, test_only=8)
    del files["KMNIST/raw/train-labels-idx1-ubyte.gz"]
    with pytest.raises(data.DataNotFound, match="missing KMNIST/raw/train-labels"):
        data.load("kmnist", root=write(tmp_path, files))


def test_no_other_set_is_split(mnist, tmp_path):
    del mnist[TRAIN_IMAGES]
    with pytest.raises(data.DataNotFound):
        data.load("mnist", root=write(tmp_path, mnist))


# --- USPS and CIFAR-10 ---------------------------------------------------------------------------


def replace_files(name: str, files: dict[str, bytes], monkeypatch) -> None:
    """Let the catalog expect these files. As in the real one, a pickle's digest is that of the content."""
    real = catalog.CATALOG[name]
    assert list(files) == list(real.files)
    digests = {
        file: formats.MD5(content=md5(content)) if real.kind == "pickle" else formats.MD5(md5(content))
        for file, content in files.items()
    }
    monkeypatch.setattr(loading, "CATALOG", {name: replace(real, files=digests)})


def test_usps_text(monkeypatch, tmp_path):
    def line(label: int, values: list[float]) -> str:
        return f"{label} " + " ".join(f"{i}:{v:.6f}" for i, v in enumerate(values, 1)) + " \n"

    train = bz2.compress((line(10, [-1.0] * 256) + line(1, [1.0] + [0.0] * 255)).encode())
    test = bz2.compress(line(5, [0.5] * 256).encode())
    files = {"usps.bz2": train, "usps.t.bz2": test}
    replace_files("usps", files, monkeypatch)
    d = data.load("usps", root=write(tmp_path, files))
    assert d.x_train.shape == (2, 1, 16, 16)
    assert d.y_train.tolist() == [9, 0]
    assert d.y_test.tolist() == [4]
    assert d.x_train[1].flatten()[:2].mul(255).tolist() == [255, 127]  # rounded down, as torchvision does
    with pytest.raises(data.DataDamaged, match=r"usps.t.bz2(?s:.)*do not decompress"):
        data.load("usps", root=write(tmp_path, {"usps.t.bz2": test[:-10]}))


def cifar_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {
        file: pickle.dumps({"data": rng.integers(0, 256, (2, 3072), dtype=np.uint8), "labels": [k, k + 1]})
        for k, file in enumerate(catalog.CATALOG["cifar10"].files)
    }


def test_cifar_batches(monkeypatch, tmp_path):
    files = cifar_files()
    replace_files("cifar10", files, monkeypatch)
    d = data.load("cifar10", root=write(tmp_path, files))
    assert d.x_train.shape == (10, 3, 32, 32)
    assert d.y_train.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert d.y_test.tolist() == [5, 6]
    assert (d.x_train.min(), d.x_train.max()) == (-1, 1)
    first = pickle.loads(files["cifar-10-batches-py/data_batch_1"])["data"][0]
    assert torch.allclose(d.x_train[0].flatten(), torch.from_numpy(first).float() / 127.5 - 1, atol=1e-6)


class Trap:
    """A pickle that runs code when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_with_another_digest_is_never_opened(monkeypatch, tmp_path):
    files = cifar_files()
    replace_files("cifar10", files, monkeypatch)
    files["cifar-10-batches-py/test_batch"] = pickle.dumps(Trap(tmp_path / "ran"))
    with pytest.raises(data.DataDamaged, match="test_batch"):
        data.load("cifar10", root=write(tmp_path, files))
    assert not (tmp_path / "ran").exists()


def test_every_pickle_in_the_catalog_has_a_digest_that_is_always_checked():
    assert all(digests.content for digests in catalog.CATALOG["cifar10"].files.values())


# --- one's own -----------------------------------------------------------------------------------


def save(root: Path, name: str = "flowers", part: str = "train", **arrays) -> Path:
    (root / name).mkdir(parents=True, exist_ok=True)
    np.savez_compressed(root / name / f"{part}.npz", **arrays)
    return root


def flowers(root: Path, **changed) -> Path:
    """A set of colour images; `changed` are arrays of the train part."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8), np.array([0, 1, 2, 0, 1, 2])
    save(root, **{"x": x, "y": y, **changed})
    return save(root, part="test", x=x[:2], y=y[:2])


def test_own_data(tmp_path):
    d = data.load("flowers", root=flowers(tmp_path))
    x = np.load(tmp_path / "flowers" / "train.npz")["x"]
    assert d.in_shape == (3, 5, 4)
    assert torch.equal(d.x_train, torch.from_numpy(x).permute(0, 3, 1, 2) / 255)
    assert d.classes == ("0", "1", "2")
    assert "6 train rows" in d.source


def test_own_data_in_grey_with_names_from_fuse_data(monkeypatch, tmp_path):
    x = np.zeros((6, 5, 4), np.uint8)
    flowers(tmp_path, x=x, classes=np.array(["rose", "tulip", "lily"]))
    save(tmp_path, part="test", x=x[:2, ..., None], y=np.array([2, 2], dtype=np.uint8))
    monkeypatch.setenv("FUSE_DATA", str(tmp_path))
    d = data.load("flowers")
    assert d.in_shape == (1, 5, 4)
    assert d.classes == ("rose", "tulip", "lily")
    assert d.y_test.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"x": np.zeros((6, 5, 4, 3), np.float32)}, "x: got float32"),
        ({"x": np.zeros((6, 3, 5, 4), np.uint8)}, "channels last"),
        ({"x": np.zeros((0, 5, 4, 3), np.uint8), "y": np.zeros(0, int)}, "x: got uint8 of shape \\(0,"),
        ({"x": np.zeros((6, 8, 8, 3), np.uint8)}, "one shape"),
        ({"y": np.zeros(5, int)}, "one for each image"),
        ({"y": np.zeros(6)}, "y: got float64"),
        ({"y": np.full(6, -1)}, "integers ≥ 0"),
        ({"y": np.array([0, 1, 2, 0, 1, 10**6])}, "y: got labels from 0 to 1000000; allowed is .* < 100000"),
        ({"y": np.array([0, 1, 2, 0, 1, 2**63], np.uint64)}, "to 9223372036854775808; allowed is integers ≥ 0"),
        ({"x": np.zeros((6, 0, 4), np.uint8)}, r"x: got uint8 of shape \(6, 0, 4\)"),
        ({"classes": np.array(["a", "b"])}, "y: got a label 2"),
        ({"classes": np.array([1, 2, 3])}, "classes: got int64"),
    ],
)
def test_own_data_that_is_not_as_asked_for(arrays, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        data.load("flowers", root=flowers(tmp_path, **arrays))


def test_own_data_without_x(tmp_path):
    flowers(tmp_path)
    save(tmp_path, images=np.zeros((6, 5, 4), np.uint8), y=np.zeros(6, int))
    with pytest.raises(ValueError, match=r"train.npz: keys: got \['images', 'y'\]"):
        data.load("flowers", root=tmp_path)


def test_own_data_without_a_test_part(tmp_path):
    (flowers(tmp_path) / "flowers" / "test.npz").unlink()
    with pytest.raises(data.DataNotFound, match=r"missing flowers/test\.npz"):
        data.load("flowers", root=tmp_path)


@pytest.mark.parametrize(
    "damage",
    [flipped, lambda c: c[: len(c) // 2], lambda c: b"", lambda c: b"text"],
    ids=["flipped", "half", "empty", "text"],
)
def test_own_data_damaged(damage, tmp_path):
    path = flowers(tmp_path) / "flowers" / "train.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(data.DataDamaged, match=r"train.npz: damaged or not an npz file"):
        data.load("flowers", root=tmp_path)


def test_a_zip_file_of_something_else_is_named(tmp_path):
    path = flowers(tmp_path) / "flowers" / "train.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", b"no array")
        file.writestr("y.npy", b"")
    with pytest.raises(data.DataDamaged, match=r"train.npz: damaged or not an npz file \(no array in \['x', 'y'\]"):
        data.load("flowers", root=tmp_path)


def test_a_pickle_inside_an_npz_is_not_opened(tmp_path):
    flowers(tmp_path, y=np.array([Trap(tmp_path / "ran")] * 6, dtype=object))
    with pytest.raises(data.DataDamaged):
        data.load("flowers", root=tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_known_set_in_the_plain_layout_keeps_its_scaling_and_tells_its_rows(tmp_path):
    x, y = np.full((4, 32, 32, 3), 255, np.uint8), np.arange(4)
    save(save(tmp_path, "cifar10", x=x, y=y), "cifar10", "test", x=x * 0, y=y)
    d = data.load("cifar10", root=tmp_path)
    assert (d.x_train.unique().item(), d.x_test.unique().item()) == (1, -1)
    assert d.classes[0] == "airplane"
    assert "4 of 50,000 train rows, 4 of 10,000 test rows" in d.source


def test_a_known_set_in_the_plain_layout_is_official_only_with_all_its_rows(monkeypatch, tmp_path):
    x, y = np.zeros((4, 32, 32, 3), np.uint8), np.arange(4)
    save(save(tmp_path, "cifar10", x=x, y=y), "cifar10", "test", x=x[:2], y=y[:2])
    for rows, unofficial in (((4, 2), False), ((4, 3), True), ((5, 2), True)):
        entry = replace(catalog.CATALOG["cifar10"], rows=rows)
        monkeypatch.setattr(loading, "CATALOG", {**loading.CATALOG, "cifar10": entry})
        assert data.load("cifar10", root=tmp_path).unofficial is unofficial
    assert data.load("flowers", root=flowers(tmp_path)).unofficial is False  # its publisher is the user


# --- CIFAR-10 from mosaics -----------------------------------------------------------------------


def mosaics(root: Path, counts: dict[str, int]) -> dict[str, np.ndarray]:
    """A folder as make_cifar10.py wants it. → the images of each part."""
    image = pytest.importorskip("PIL.Image")
    rng, images, labels = np.random.default_rng(0), {}, {"classes": np.array(catalog.CIFAR10)}
    for name, count in counts.items():
        images[name] = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        canvas = np.zeros((-(-count // 50) * 32, 1600, 3), np.uint8)
        for k, pixels in enumerate(images[name]):
            row, column = 32 * (k // 50), 32 * (k % 50)
            canvas[row : row + 32, column : column + 32] = pixels
        image.fromarray(canvas).save(root / f"{name}.webp", lossless=True, exact=True)
        labels |= {f"{name}_labels": (np.arange(count) % 10).astype(np.uint8)}
        labels |= {f"{name}_index": np.arange(count, dtype=np.uint16)}
    np.savez(root / "labels.npz", **labels)
    return images


COUNTS = {"train_1": 53, "train_2": 50, "train_3": 1, "train_4": 2, "train_5": 3, "test": 51}


def test_cifar10_from_mosaics(tmp_path, capsys):
    images = mosaics(tmp_path, COUNTS)
    make = script("make_cifar10").main
    make([str(tmp_path)])  # into the cache
    d = data.load("cifar10")
    assert d.unofficial
    train = np.concatenate([images[name] for name in COUNTS if name != "test"]).transpose(0, 3, 1, 2)
    assert np.array_equal(d.x_train.add(1).mul(127.5).round().numpy(), train)
    assert np.array_equal(d.x_test.add(1).mul(127.5).round().numpy(), images["test"].transpose(0, 3, 1, 2))
    assert d.y_train[:54].tolist() == [*(np.arange(53) % 10), 0]
    said = capsys.readouterr().out
    make([str(tmp_path), "--out", str(tmp_path / "again")])
    again = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()] == [line.split()[0] for line in again.splitlines()]


def test_a_mosaic_that_is_too_small_is_named(tmp_path):
    mosaics(tmp_path, COUNTS | {"train_2": 5})
    labels = dict(np.load(tmp_path / "labels.npz"))
    np.savez(tmp_path / "labels.npz", **labels | {"train_2_labels": np.zeros(51, np.uint8)})
    with pytest.raises(
        ValueError, match=r"train_2.webp: got 1600x32 pixels; allowed is 1600 across and 32 for each 50 of"
    ):
        script("make_cifar10").main([str(tmp_path)])
    assert not (tmp_path / "xdg" / "fuse_lib" / "cifar10" / "train.npz").exists()


# --- the download --------------------------------------------------------------------------------


def fake_torchvision(monkeypatch, fetch) -> None:
    datasets = SimpleNamespace(MNIST=fetch, KMNIST=fetch)
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=datasets))


def test_a_download_goes_into_the_cache_once(mnist, monkeypatch, tmp_path):
    calls = []
    fake_torchvision(monkeypatch, lambda root, train, download: calls.append(train) or write(Path(root), mnist))
    with pytest.raises(data.DataNotFound):
        data.load("mnist")  # not asked for
    assert not calls
    d = data.load("mnist", download=True)
    assert (len(d.x_train), calls) == (12, [True, False])
    assert "the cache" in data.load("mnist", download=True).source
    assert len(calls) == 2
    kept = [path.name for path in (tmp_path / "xdg" / "fuse_lib").iterdir()]
    assert kept == ["MNIST"]  # and nothing of the download's own folder


def test_a_download_that_fails_leaves_nothing(monkeypatch, tmp_path):
    def fail(root, train, download):
        write(Path(root), {TRAIN_IMAGES: b"half"})
        raise RuntimeError("no route to host")

    fake_torchvision(monkeypatch, fail)
    with pytest.raises(data.DataNotFound, match=r"the download failed: no route to host(?s:.)*FUSE_DATA"):
        data.load("mnist", download=True)
    assert not list((tmp_path / "xdg" / "fuse_lib").iterdir())


def test_a_download_of_something_else_is_not_kept(mnist, monkeypatch, tmp_path):
    fake_torchvision(monkeypatch, lambda root, **_: write(Path(root), {**mnist, TRAIN_IMAGES: b"<html>"}))
    with pytest.raises(data.DataDamaged, match="The server sent something else"):
        data.load("mnist", download=True)
    assert not list((tmp_path / "xdg" / "fuse_lib").iterdir())


def test_asking_for_a_download_gets_the_whole_kmnist_rather_than_the_split(monkeypatch, tmp_path):
    whole = a_set("kmnist", (12, 10), monkeypatch, test_only=8)
    write(tmp_path / "root", kmnist_without_train_images(monkeypatch))
    fake_torchvision(monkeypatch, lambda root, **_: write(Path(root), whole))
    assert data.load("kmnist", root=tmp_path / "root").unofficial
    assert not data.load("kmnist", root=tmp_path / "root", download=True).unofficial


def test_without_torchvision_a_download_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(data.DataNotFound, match="needs torchvision"):
        data.load("mnist", download=True)


# --- the Dataset ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype_and_device(dtype):
    d = data.load("digits", dtype=dtype, device=torch.device("cpu"))
    assert d.x_train.dtype == d.x_test.dtype == dtype
    assert torch.equal(d.x_test.double() * 16, (d.x_test.double() * 16).round())  # sixteenths are exact in each


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_all_tensors_are_on_the_device_asked_for():
    d = data.load("digits", device="cuda")
    assert all(t.is_cuda for t in (d.x_train, d.y_train, d.x_test, d.y_test))
    assert torch.equal(d.x_train.cpu(), data.load("digits").x_train)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.complex64, "float32", None])
def test_a_dtype_that_is_not_floating_is_refused(dtype):
    with pytest.raises(ValueError, match="dtype: got"):
        data.load("digits", dtype=dtype)


def test_take_and_holdout():
    d = data.load("digits")
    small = d.take(train=100, test=50)
    assert torch.equal(small.x_train, d.x_train[:100])
    assert torch.equal(small.y_test, d.y_test[:50])
    assert "the first 100 train rows; the first 50 test rows" in small.source
    assert not small.unofficial
    choose = d.holdout(37)
    assert len(choose.x_train) == len(choose.y_train) == 1400
    assert torch.equal(choose.x_test, d.x_train[1400:])
    assert torch.equal(choose.y_test, d.y_train[1400:])
    assert choose.unofficial
    assert "held out" in choose.source


@pytest.mark.parametrize("rows", [0, -1, 1437, 1.0, True, None])
def test_holdout_refuses(rows):
    with pytest.raises(ValueError, match="rows: got"):
        data.load("digits").holdout(rows)


@pytest.mark.parametrize("rows", [{"train": 1438}, {"test": 361}, {"train": 0}])
def test_take_refuses(rows):
    with pytest.raises(ValueError, match=f"{next(iter(rows))}: got .* from 1 to"):
        data.load("digits").take(**rows)


def test_a_dataset_cannot_be_changed_by_accident():
    with pytest.raises(AttributeError):
        data.load("digits").name = "other"


def test_import_is_cheap():
    heavy = ["torchvision", "sklearn", "PIL", "pandas"]
    code = f"import sys, fuse_lib.data as d; d.load('digits'); print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO)
    assert out.stdout.strip() == "[]"


# --- the full sets, where they are at hand -------------------------------------------------------


def full(name: str) -> data.Dataset:
    try:
        return data.load(name, root=FULL)
    except data.DataNotFound:
        pytest.skip(f"the full {name} is not in FUSE_DATA, nor in ../shared/data")


@pytest.mark.parametrize(
    ("name", "rows", "shape", "mean"),
    [
        ("mnist", (60_000, 10_000), (1, 28, 28), 0.1307),
        ("fashion-mnist", (60_000, 10_000), (1, 28, 28), 0.2860),
    ],
)
def test_full_set(name, rows, shape, mean):
    d = full(name)
    assert (len(d.x_train), len(d.x_test)) == rows
    assert d.in_shape == shape
    assert d.x_train.mean().item() == pytest.approx(mean, abs=1e-4)
    assert d.y_train.unique().tolist() == list(range(10))
    assert not d.unofficial


def test_full_kmnist():
    d = full("kmnist")
    assert (len(d.x_train), len(d.x_test)) == ((8_000, 2_000) if d.unofficial else (60_000, 10_000))


@pytest.mark.slow
def test_full_cifar10():
    d = full("cifar10")
    assert d.in_shape == (3, 32, 32)
    assert len(d.x_train) > 49_000
    assert (d.x_train.min(), d.x_train.max()) == (-1, 1)


@pytest.mark.slow
def test_full_cifar10_from_mosaics(tmp_path):
    pytest.importorskip("PIL")
    if not (FULL / "cifar10" / "labels.npz").is_file():
        pytest.skip("CIFAR-10's mosaics are not in FUSE_DATA, nor in ../shared/data")
    script("make_cifar10").main([str(FULL), "--out", str(tmp_path)])
    d = data.load("cifar10", root=tmp_path)
    assert d.unofficial is ((len(d.x_train), len(d.x_test)) != (50_000, 10_000))
    assert d.y_train.bincount().tolist() == [5000] * 7 + [4996, 4927, 5000]
    assert d.y_test.bincount().tolist() == [1000] * 7 + [999, 980, 1000]
    assert d.x_train.mean().item() == pytest.approx(2 * 0.4734 - 1, abs=2e-3)  # as is published of the whole set


@pytest.mark.slow
def test_usps_reads_as_torchvision_reads_it():
    datasets = pytest.importorskip("torchvision.datasets")
    d, theirs = full("usps"), datasets.USPS(FULL, train=False)
    assert (len(d.x_train), len(d.x_test)) == (7_291, 2_007)
    assert torch.equal(d.x_test.mul(255).round().to(torch.uint8)[:, 0], torch.from_numpy(theirs.data))
    assert d.y_test.tolist() == theirs.targets


def test_the_catalog_expects_what_torchvision_expects():
    datasets = pytest.importorskip("torchvision.datasets")
    for name in ("mnist", "fashion-mnist", "kmnist"):
        entry = catalog.CATALOG[name]
        theirs = dict(getattr(datasets, entry.torchvision).resources)
        assert {f"{Path(file).name}.gz": digests.file for file, digests in entry.files.items()} == theirs
    assert {file: d.file for file, d in catalog.CATALOG["usps"].files.items()} == {
        file: digest for _, file, digest in datasets.USPS.split_list.values()
    }
    theirs = dict(datasets.CIFAR10.train_list + datasets.CIFAR10.test_list)
    assert {Path(file).name: d.content for file, d in catalog.CATALOG["cifar10"].files.items()} == theirs


def test_the_sample_can_be_made_again(tmp_path):
    if not places.locate(FULL, "FashionMNIST/raw/train-images-idx3-ubyte"):
        pytest.skip("the full fashion-mnist is not in FUSE_DATA, nor in ../shared/data")
    script("make_samples").main(["--fashion-mnist", str(FULL), "--out", str(tmp_path)])
    assert len(list(tmp_path.glob("fashion-mnist-sample/*.gz"))) == 4
    same_content(tmp_path)


def test_messages_do_not_run_long():
    for name in ("mnist", "cifar10"):
        message = getting.not_found(catalog.CATALOG[name], places.places(None))
        assert max(map(len, message.splitlines())) < 200
