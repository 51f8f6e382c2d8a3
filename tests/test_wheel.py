"""The wheel alone is enough for a downloaded notebook: it carries the samples, the results and the page template."""

import subprocess
import sys
import zipfile


def test_it_carries_what_a_notebook_needs(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for needed in ("_bundled/fashion-mnist-sample/", "_bundled/digits/", "_bundled/results/", "templates/fuse/"):
        assert any(needed in name for name in names), needed
    assert wheel.stat().st_size < 5e6


def test_it_works_without_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    script = """
import fuse_lib, sys
from fuse_lib import data, plots
assert fuse_lib.__file__.startswith(sys.argv[1]), fuse_lib.__file__
assert len(data.load().x_train) == 2000
assert data.bundled("results/00_learning_rates.csv").is_file()
"""
    site = str(tmp_path / "site")
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {site!r})\n{script}", site]
    subprocess.run(command, cwd=tmp_path, check=True)
