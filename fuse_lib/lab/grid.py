"""Many runs, on dask.distributed or in this process, kept as they end.

A run is one task: it needs its settings and the data set by name, and returns its rows. So a worker that dies loses
only what it was at, which another worker begins anew, and the rows do not depend on who made them. Only the process
that calls `grid` writes; workers need no common file system, but must find the data sets (FUSE_DATA).
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from fuse_lib.lab.loop import COLUMNS, Result, Row, run
from fuse_lib.lab.memory import ENVIRONMENT
from fuse_lib.lab.records import Folder
from fuse_lib.lab.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

_DEATHS = 10  # so many workers may die at a task before it counts as failed; dask's own 3 are few in a long grid
_ONE_AT_A_TIME = threading.Lock()  # in a process: the number of threads and the random state are the process's


class RunsFailed(RuntimeError):
    """Some runs of a grid ended with an exception; the others are kept."""


def grid(
    runs: Sequence[Settings],
    out: str | os.PathLike,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    threads: int = 1,
    device: str = "cpu",
    progress: bool = True,
) -> pd.DataFrame:
    """Make the runs that are not in the folder yet; return the rows of all of them.

    out: see `records.py` for what is written there. A grid that was killed goes on when it is called again.
    workers: processes on this machine; None: one for each `threads` processors; 0: none, the runs are made in this one.
    scheduler: the address of a dask scheduler, in the place of processes of our own: "tcp://host:8786".
    threads: of torch in a run. The last digits of a result depend on it.

    Raises:
        RunsFailed: after all runs, where some ended with an exception.
        ValueError: an argument that is not allowed, or a scheduler that does not answer.

    >>> import tempfile
    >>> runs = [Settings(dataset="digits", model="linear", batch=100, passes=1, seed=seed) for seed in range(2)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = grid(runs, folder, workers=0, progress=False)
    >>> rows["seed"].unique().tolist(), rows["samples"].max().item()
    ([0, 1], 1400)
    """
    _check("workers", workers, 0, none=True)
    _check("threads", threads, 1)
    if scheduler is not None and workers is not None:
        raise ValueError(f"workers: got {workers!r} beside scheduler={scheduler!r}, which has its own; allowed is None")
    folder = Folder(out)
    run_ids = list(dict.fromkeys(run.run_id for run in runs))
    pending = {run.run_id: run for run in runs if not folder.done(run.run_id)}
    failed: dict[str, list[str]] = {}
    with _Progress(len(run_ids), len(run_ids) - len(pending), progress) as bar:
        if not pending:
            results: Iterator = iter(())
        elif workers == 0:
            results = _here(pending, folder, bar, threads, device)
        else:
            results = _distributed(pending, folder, bar, workers, scheduler, threads, device)
        for run_id, result in results:
            if isinstance(result, Exception):
                failed.setdefault(f"{type(result).__name__}: {result}", []).append(run_id)
            else:
                folder.finish(result)
            bar.end(run_id)
    folder.summarise(run_ids)
    if failed:
        said = [f"{run_ids[0]}{f' and {len(run_ids) - 1} more' if run_ids[1:] else ''}: {message}"
                for message, run_ids in failed.items()]  # fmt: skip
        raise RunsFailed(f"{sum(map(len, failed.values()))} of {len(pending)} runs failed\n" + "\n".join(said))
    import pandas as pd

    return pd.DataFrame(folder.rows(run_ids), columns=[*COLUMNS])


def _here(pending: dict[str, Settings], folder: Folder, bar: _Progress, threads: int, device: str) -> Iterator:
    def note(rows: list[Row]) -> None:
        folder.partial(rows[-1]["run_id"], rows)
        bar.at(rows[-1]["run_id"], (len(rows) - 1) / settings.points)

    for run_id, settings in pending.items():
        try:
            yield run_id, _one(settings, threads, device, note)
        except Exception as error:  # the other runs shall be made
            yield run_id, error


def _distributed(
    pending: dict[str, Settings],
    folder: Folder,
    bar: _Progress,
    workers: int | None,
    scheduler: str | None,
    threads: int,
    device: str,
) -> Iterator:
    import distributed

    topic, lock = f"fuse_lib.lab-{uuid.uuid4().hex}", threading.Lock()
    rows: dict[str, list[Row]] = {run_id: [] for run_id in pending}

    def heard(event: tuple[float, dict]) -> None:  # in the client's thread
        row = event[1]["row"]
        with lock:
            if (so_far := rows.get(row["run_id"])) is None:
                return  # it has ended in the meantime
            if row["samples"] == 0:
                so_far.clear()  # begun, or begun anew by another worker
            so_far.append(row)
            folder.partial(row["run_id"], so_far)
            bar.at(row["run_id"], (len(so_far) - 1) / pending[row["run_id"]].points)

    with _client(scheduler, _processes(workers, threads, len(pending))) as client:
        client.subscribe_topic(topic, heard)
        if not client.scheduler_info()["workers"]:
            bar.say(f"no workers at {scheduler} yet; waiting for them")
        # A key of this call's own: another client at the same scheduler may be at the same run.
        futures = {
            client.submit(_task, settings, threads, device, topic, key=f"{run_id}-{topic[-8:]}", pure=False): run_id
            for run_id, settings in pending.items()
        }
        for future in distributed.as_completed(list(futures)):
            run_id = futures.pop(future)
            with lock:
                del rows[run_id]
            yield run_id, (future.exception() or future.result())


@contextlib.contextmanager
def _client(scheduler: str | None, workers: int) -> Iterator:
    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=20)
        except (OSError, ValueError, ImportError) as error:
            raise ValueError(f"scheduler: got {scheduler!r}, which does not answer ({error}); allowed is the address "
                             "that `dask scheduler` prints, tcp://host:8786") from error  # fmt: skip
        with client:
            yield client
        return
    settings = {
        "distributed.scheduler.allowed-failures": _DEATHS,
        "distributed.comm.timeouts.connect": "60s",
        **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in ENVIRONMENT.items()},
    }
    with (
        _same_environment(),
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0",
            memory_limit=0, silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield client


@contextlib.contextmanager
def _same_environment() -> Iterator:
    """dask leaves the variables that it sets for its workers behind in this process; here they go."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def _processes(workers: int | None, threads: int, runs: int) -> int:
    from dask.system import CPU_COUNT

    return min(runs, max(1, CPU_COUNT // threads) if workers is None else workers)


def _task(settings: Settings, threads: int, device: str, topic: str) -> Result:
    """On a worker: one run, its rows told as it goes."""
    from distributed import get_worker

    worker = get_worker()
    return _one(settings, threads, device, lambda rows: worker.log_event(topic, {"row": rows[-1]}))


def _one(settings: Settings, threads: int, device: str, on_row) -> Result:
    with _ONE_AT_A_TIME:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return run(settings, device=device, on_row=on_row)
        finally:
            torch.set_num_threads(before)


class _Progress:
    """A bar of runs, with fractions of those that are under way, and the time left.

    Where it is not shown there is none: even a disabled tqdm starts a thread, and takes a lock that forked processes
    share, which one killed at that moment would hold for ever.
    """

    def __init__(self, total: int, done: int, shown: bool) -> None:
        self._bar = None
        if shown:
            from tqdm.auto import tqdm

            form = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]"
            self._bar = tqdm(total=total, initial=done, desc="runs", bar_format=form)
        self._at: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def at(self, run_id: str, share: float) -> None:
        """The run has come so far, 0 … 1."""
        if self._bar is None:
            return
        with self._lock:
            self._bar.update(min(share, 1.0) - self._at.get(run_id, 0.0))
            self._at[run_id] = min(share, 1.0)

    def end(self, run_id: str) -> None:
        self.at(run_id, 1.0)

    def say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text)


def _check(name: str, value: object, least: int, none: bool = False) -> None:
    ok = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not (ok or (none and value is None)):
        raise ValueError(f"{name}: got {value!r}; allowed is an integer ≥ {least}{' or None' if none else ''}")
