"""A grid that is killed again and again. Run by test_grid.py in a process of its own.

    python killed.py KILLS SEED PLAN OUT

Each attempt is a forked child, so that torch is imported once; it makes the grid in its own process and is killed by
SIGKILL at a random moment, before or after a further run is whole. Once KILLS attempts were killed, the last is let
through. Prints a number for each kill: how many runs were whole after it.
"""

import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from fuse_lib import lab


def whole(out: Path) -> int:
    return len([path for path in (out / "runs").glob("[0-9a-f]*.csv") if "partial" not in path.name])


def ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main(kills: int, seed: int, plan: Path, out: Path) -> None:
    rng, runs = random.Random(seed), lab.read(plan)
    with tempfile.TemporaryDirectory() as folder:  # imports what is imported late, before the first fork
        lab.grid(runs[:1], folder, workers=0, progress=False)
    start = time.perf_counter()
    lab.run(runs[0])
    one = time.perf_counter() - start  # seconds of a run
    if threading.active_count() > 1:  # a lock that one of them holds at a fork is held in the child for ever
        sys.exit(f"threads beside the main one: {threading.enumerate()}")
    for killed in range(kills + 1):
        target = whole(out) + rng.randrange(2)
        child = os.fork()
        if child == 0:
            lab.grid(runs, out, workers=0, progress=False)
            os._exit(0)
        if killed < kills:
            while whole(out) < target and not ended(child):
                time.sleep(0.001)
            time.sleep(rng.uniform(0.0, one))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if killed < kills:
            if not os.WIFSIGNALED(status):
                sys.exit("the grid ended before it could be killed")
            print(whole(out), flush=True)
        elif status:
            sys.exit(f"the last attempt ended with {status}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
