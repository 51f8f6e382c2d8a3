"""fuse_lib.lab.grid and .records: many runs, and what is left of them when something is killed."""

import itertools
import json
import math
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fuse_lib import cli
from fuse_lib.lab import COLUMNS, RunsFailed, Settings, expand, grid, memory, records, run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PLAN = {
    "dataset": "digits", "model": "linear", "batch": 100, "passes": 8, "points": 4, "seed": [0, 1],
    "contestants": [{"optimizer": "adam"}, {"optimizer": "torch_lbfgs"},
                    {"optimizer": "fuse_pv", "switchover": "passes:2", "second_batch": "full", "handover": "metric"}],
}  # fmt: skip
LONG = {"dataset": "digits", "model": "mlp", "batch": 20, "optimizer": "adam", "points": 100}  # 3 ms a pass, about


def rows_of(out):
    """rows.csv but for the seconds."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in records.read(Path(out) / "rows.csv")]


def files(out):
    return {path.name: path.stat().st_mtime_ns for path in (Path(out) / "runs").iterdir()}


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def workers_of(pid):
    """The dask workers among the descendants of a process."""
    psutil = pytest.importorskip("psutil")
    family = psutil.Process(pid).children(recursive=True)
    return [p for p in family if p.is_running() and "spawn_main" in " ".join(p.cmdline())]


def seconds_of(pid):
    """Processor time that a process has used."""
    times = pytest.importorskip("psutil").Process(pid).cpu_times()
    return times.user + times.system


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The plan's grid, made without interruption in this process."""
    out = tmp_path_factory.mktemp("unbroken")
    grid(expand(PLAN), out, workers=0, progress=False)
    return out


def test_a_grid_is_its_runs_one_under_the_other(unbroken):
    wanted = [row for settings in expand(PLAN) for row in run(settings).rows]
    assert rows_of(unbroken) == [{k: v for k, v in row.items() if k != "seconds"} for row in wanted]
    assert not [path for path in unbroken.rglob("*") if "partial" in path.name or path.suffix == ".tmp"]


def test_settings_and_provenance_go_with_each_run(unbroken):
    import pandas as pd

    about = pd.read_csv(unbroken / "runs.csv")
    assert about["run_id"].tolist() == [settings.run_id for settings in expand(PLAN)]
    assert {"lr", "switchover", "seed", "commit", "torch", "processor", "threads", "started"} <= set(about)
    assert (about["threads"] == 1).all()
    assert (about["status"] == "spent").all()


def test_what_is_done_is_not_repeated(unbroken, tmp_path):
    before = files(unbroken)
    table = grid(expand(PLAN), unbroken, workers=0, progress=False)
    assert files(unbroken) == before
    assert [*table.columns] == [*COLUMNS]
    assert len(table) == len(rows_of(unbroken))


def test_rows_are_read_as_they_were_written(tmp_path):
    rows = run(Settings(dataset="digits", model="linear", batch=100, passes=1)).rows
    rows[-1] |= {"train_loss": float("inf"), "grad_norm": 0.1 + 0.2, "run_id": "123456789012", "dataset": 'a, "b"'}
    records.write(tmp_path / "x.csv", records.text(rows))
    assert records.read(tmp_path / "x.csv") == rows


def test_a_kept_run_that_lacks_a_column_is_still_read(tmp_path):
    """A column that was added later: "nan" for the runs that were kept before."""
    (settings,) = expand({"dataset": "digits", "model": "linear", "batch": 100, "passes": 1})
    grid([settings], tmp_path, workers=0, progress=False)
    path = tmp_path / "runs" / f"{settings.run_id}.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    at = COLUMNS.index("test_accuracy_500")
    path.write_text("".join(",".join(line[:at] + line[at + 1 :]) + "\n" for line in lines))
    table = grid([settings], tmp_path, workers=0, progress=False)
    assert table["test_accuracy_500"].isna().all()
    assert all(math.isnan(row["test_accuracy_500"]) for row in rows_of(tmp_path))


@pytest.mark.parametrize(
    ("ending", "content"),
    [("csv", b""), ("csv", b"\xff\xfe"), ("csv", None), ("csv", "half a line"), ("json", b""), ("json", b"{")],
)
def test_a_damaged_record_is_named_with_the_way_out(tmp_path, ending, content):
    """By a full disk or half a copy; we leave whole files."""
    settings = Settings(dataset="digits", model="linear", batch=100, passes=1, points=2)
    rows = grid([settings], tmp_path, workers=0, progress=False)
    path = tmp_path / "runs" / f"{settings.run_id}.{ending}"
    whole = path.read_bytes()
    if content is None:  # cut between two lines
        content = whole[: whole.rindex(b"\n", 0, -1) + 1]
    path.write_bytes(whole[:-30] if content == "half a line" else content)
    with pytest.raises(ValueError, match=rf"{settings.run_id}.{ending}: no whole record .*; delete {settings.run_id}"):
        grid([settings], tmp_path, workers=0, progress=False)
    path.with_suffix(".csv").unlink()
    again = grid([settings], tmp_path, workers=0, progress=False)
    assert again.drop(columns="seconds").equals(rows.drop(columns="seconds"))


def test_rows_of_a_run_under_way_are_readable(tmp_path):
    folder = records.Folder(tmp_path)
    seen = []

    def keep(rows):
        folder._written.clear()  # as if five seconds had gone by
        folder.partial(rows[0]["run_id"], rows)
        seen.append(len(records.read(tmp_path / "runs" / f"{rows[0]['run_id']}.partial.csv")))

    result = run(Settings(dataset="digits", model="linear", batch=100, passes=1, points=4), on_row=keep)
    assert seen == [1, 2, 3, 4, 5]
    folder.finish(result)
    assert not [*tmp_path.rglob("*.partial.csv")]


def test_one_bad_run_does_not_stop_the_others(tmp_path):
    runs = [Settings(dataset="digits", model="linear", passes=1, batch=100, seed=0),
            Settings(dataset="digits", model="linear", passes=1, batch=5000, seed=0),
            Settings(dataset="digits", model="linear", passes=1, batch=5000, seed=1),
            Settings(dataset="digits", model="linear", passes=1, batch=100, seed=1)]  # fmt: skip
    with pytest.raises(
        RunsFailed, match=rf"2 of 4 runs failed\n{runs[1].run_id} and 1 more: ValueError: batch: got 5000"
    ):
        grid(runs, tmp_path, workers=0, progress=False)
    assert {row["run_id"] for row in rows_of(tmp_path)} == {runs[0].run_id, runs[3].run_id}


@pytest.mark.parametrize(
    ("given", "match"),
    [({"workers": -1}, "workers: got -1"), ({"threads": 0}, "threads: got 0"),
     ({"workers": 1, "scheduler": "tcp://127.0.0.1:1"}, "which has its own")],
)  # fmt: skip
def test_what_is_not_allowed(tmp_path, given, match):
    with pytest.raises(ValueError, match=match):
        grid([Settings()], tmp_path, **given)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_grid_killed_ten_times_at_random_ends_with_the_same_table(tmp_path):
    plan = PLAN | {"seed": [*range(8)]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    command = [sys.executable, str(HERE / "killed.py"), "10", "1", str(tmp_path / "plan.json"), str(tmp_path / "out")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    whole = [int(line) for line in done.stdout.split()]
    assert len(whole) == 10
    assert all(a <= b for a, b in itertools.pairwise(whole))  # nothing is lost
    assert len(set(whole)) > 2, "the kills must fall into different runs"
    wanted = [row for settings in expand(plan) for row in run(settings).rows]
    assert rows_of(tmp_path / "out") == [{k: v for k, v in row.items() if k != "seconds"} for row in wanted]


def test_workers_give_the_same_rows_and_a_killed_one_loses_nothing(unbroken, tmp_path):
    """Processes of our own: one is killed in the middle of a run, and the grid ends as if nothing had happened."""
    long = Settings(**LONG, passes=200)
    killed = []

    def kill():
        until(lambda: [*tmp_path.rglob(f"{long.run_id}.partial.csv")])  # it has begun
        time.sleep(0.3)
        worker = workers_of(os.getpid())[0]
        worker.kill()
        killed.append(worker.pid)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    variables = dict(os.environ)
    grid([long, *expand(PLAN)], tmp_path, workers=1, progress=False)
    thread.join()
    assert dict(os.environ) == variables
    assert killed
    assert [row for row in rows_of(tmp_path) if row["run_id"] != long.run_id] == rows_of(unbroken)
    rows = [row for row in rows_of(tmp_path) if row["run_id"] == long.run_id]
    assert (rows[0]["samples"], rows[-1]["samples"], len(rows)) == (0, 200 * 1437, 101)
    assert not [*tmp_path.rglob("*.partial.csv")]


def test_a_killed_command_leaves_no_workers_and_goes_on(tmp_path, capsys):
    """`python -m fuse_lib grid` with a worker of its own, killed by SIGKILL, then called again."""
    plan = {"seed": [0, 1, 2], **LONG, "passes": 30}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    out = tmp_path / "out"
    command = ["grid", str(tmp_path / "plan.json"), "-o", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "fuse_lib", *command, "--workers", "1"], env=environment(), stderr=subprocess.DEVNULL
    )
    first = expand(plan)[0].run_id
    until(lambda: (out / "runs" / f"{first}.csv").exists() or process.poll() is not None)
    workers = workers_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(workers) == 1
    until(lambda: not workers[0].is_running() or workers[0].status() == "zombie", 20)
    before = files(out)
    assert f"{first}.csv" in before
    assert not (out / "rows.csv").exists()
    assert cli.main([*command, "--workers", "0"]) == 0
    assert f"{out / 'runs.csv'} (3)" in capsys.readouterr().out
    assert {name: files(out)[name] for name in before if name in files(out)} == {
        name: time for name, time in before.items() if "partial" not in name
    }
    wanted = [row for settings in expand(plan) for row in run(settings).rows]
    assert rows_of(out) == [{k: v for k, v in row.items() if k != "seconds"} for row in wanted]


def test_a_scheduler_and_workers_of_their_own(unbroken, tmp_path, capsys):
    """`dask scheduler` and two `dask worker`, of which the one that has begun a run is killed."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments], env=environment(), cwd=tmp_path, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        started.append(process)
        return process

    note = tmp_path / "scheduler.json"
    plan = PLAN | {"contestants": [{**LONG, "passes": 150, "seed": 0}, *PLAN["contestants"]]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(note))
        address = json.loads(until(lambda: note.exists() and note.read_text()))["address"]
        workers = [start("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", str(k))
                   for k in range(2)]  # fmt: skip

        def kill():
            until(lambda: [*tmp_path.rglob("*.partial.csv")])
            time.sleep(0.3)
            busy = max(workers, key=lambda p: seconds_of(p.pid))
            busy.kill()

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        arguments = ["grid", str(tmp_path / "plan.json"), "-o", str(tmp_path / "out"), "--scheduler", address]
        assert cli.main(arguments) == 0
        thread.join()
        assert sorted(p.poll() is None for p in workers) == [False, True]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [row for row in rows_of(tmp_path / "out") if row["model"] == "linear"] == rows_of(unbroken)
    assert len({row["run_id"] for row in rows_of(tmp_path / "out")}) == len(expand(plan))


MEMORY = """
import resource, sys, torch
from fuse_lib.lab import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
x = torch.ones(2**24)  # 64 MB
faults = []
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    y = x + 1
    del y
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_kept_memory_is_not_asked_for_again():
    """Page faults of a step whose result has 64 MB: without it all 16,384 pages, or the huge ones among them."""
    faults = {}
    for how in ("keep", "leave", "environment"):
        extra = memory.ENVIRONMENT if how == "environment" else {}
        command = [sys.executable, "-c", MEMORY, how]
        faults[how] = int(subprocess.check_output(command, env={**environment(), **extra}, text=True))
    assert faults["leave"] > 20
    assert faults["keep"] < 10
    assert faults["environment"] < 10


def test_a_scheduler_that_does_not_answer_is_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="scheduler: got 'nonsense://x', which does not answer"):
        grid([Settings(dataset="digits")], tmp_path, scheduler="nonsense://x", progress=False)


def test_the_command_refuses_what_it_does_not_know(tmp_path, capsys):
    (tmp_path / "plan.json").write_text('{"optimiser": "adam"}')
    assert cli.main(["grid", str(tmp_path / "plan.json"), "-o", str(tmp_path)]) == 2
    assert "optimiser: no such setting (did you mean 'optimizer'?)" in capsys.readouterr().err


def test_the_command_says_which_runs_failed(tmp_path, capsys):
    (tmp_path / "plan.json").write_text('{"dataset": "digits", "batch": [100, 5000], "passes": 1}')
    assert cli.main(["grid", str(tmp_path / "plan.json"), "-o", str(tmp_path / "out"), "--workers", "0"]) == 1
    assert "1 of 2 runs failed" in capsys.readouterr().err
