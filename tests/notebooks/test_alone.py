"""A downloaded notebook: alone in an empty folder, on a Colab that has torch but no fuse_lib and no data, offline.

Three run always, the others with FUSE_ALONE=all (`make alone`), for each takes as long as it takes to run.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from fuse_lib import cli
from tests.notebooks import course

COLAB = 'import sys, types; sys.modules["google.colab"] = types.ModuleType("google.colab")\n'
CLOSED = "http://127.0.0.1:9"


@pytest.fixture
def colab(tmp_path):
    """A fresh environment with everything that is installed here but fuse_lib. → its Python."""
    venv.create(tmp_path / "env", with_pip=False)
    ours = [Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")]
    python = tmp_path / "env" / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    fresh = Path(subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip())
    for item in {item.name: item for folder in ours for item in folder.iterdir()}.values():
        # Links, one by one: a line in a .pth file would let pip find the fuse_lib that is installed here.
        if "fuse_lib" not in item.name and item.suffix != ".pth" and not (fresh / item.name).exists():
            (fresh / item.name).symlink_to(item)
    (fresh / "colab.pth").write_text(COLAB)
    return python


def without_network():
    """→ the command that cuts off what follows it, or nothing where the system does not allow it."""
    if shutil.which("unshare"):
        for command in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                return command
    return []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
@pytest.mark.parametrize("path", course.CHOSEN, ids=lambda p: p.stem)
def test_it_runs_alone_and_offline_and_takes_the_minutes_it_says(path, colab, wheel, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    shutil.copy(path, folder)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "FUSE_", "JUPYTER", "XDG_", "VIRTUAL"))}
    closed = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), CLOSED)
    proxies = {"no_proxy": "127.0.0.1,localhost", "PIP_NO_INDEX": "1", **closed}
    environment = {**kept, **proxies, "HOME": str(tmp_path), "FUSE_LIB_SOURCE": str(wheel)}
    cut_off = without_network()
    script = Path(__file__).with_name("alone.py")
    command = [*cut_off, colab, script, folder / path.name, *(["--no-network"] if cut_off else [])]
    there = {"cwd": folder, "env": environment, "capture_output": True, "text": True, "check": False}
    before = subprocess.run([colab, "-c", "import torch, fuse_lib"], **there)
    assert "No module named 'fuse_lib'" in before.stderr, "the environment is not fresh"
    done = subprocess.run(command, **there)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    print(f"{path.stem} alone: {seen['seconds']:.0f} s, {'no network' if cut_off else 'proxies that refuse'}")
    assert Path(seen["fuse_lib"]).is_relative_to(tmp_path / "env"), "the wheel's fuse_lib ran, not the checkout's"
    assert not (cut_off and seen["network"])
    course.check_minutes(path, seen["seconds"])


@pytest.mark.parametrize("path", course.ALL[:1], ids=lambda p: p.stem)
def test_a_full_set_that_is_not_there_is_an_error_that_says_how_to_get_it(path, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("FUSE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cli.main(["run", str(path), "-p", "dataset=mnist", "-o", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    for part in ("mnist: not found", "How to get it", "FUSE_DATA", "download=True"):
        assert part in message, message
