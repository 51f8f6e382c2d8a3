"""How the time of one L-BFGS iteration grows with d and m.

    OMP_NUM_THREADS=1 python benchmarks/growth.py     appends rows to data/results/bench_growth.csv

As in iteration.py: `LBFGS(full_batch=True)`, history full, the closure's time taken off, beside the floor of two
matrix-vector products with the (2m, d) matrix that is the history. Sizes whose history and floor need more than LIMIT
bytes are left out. At small d the time is that of the operations' number, not of their size: the fixed cost.
"""

from __future__ import annotations

from iteration import measure
from tables import RESULTS, append, origin

from fuse_lib import LBFGS

OUT = RESULTS / "bench_growth.csv"
LIMIT = 8 * 2**30
DIMENSIONS = [10**k for k in range(3, 8)]
HISTORIES = [5, 20, 100]


def needed(d: int, m: int) -> int:
    """Bytes: the history with its row to spare, the floor's matrix, and a dozen vectors, float32."""
    return 4 * d * (2 * (m + 1) + 2 * m + 12)


def main() -> None:
    for m in HISTORIES:
        for d in DIMENSIONS:
            if needed(d, m) > LIMIT:
                print(f"d = {d}, m = {m}: left out, needs {needed(d, m) / 2**30:.1f} GiB", flush=True)
                continue
            repeats = max(5, min(40, 40_000_000 // (m * d)))
            ms = measure(d, m, repeats, {"ours": lambda x, m=m: LBFGS([x], history_size=m, full_batch=True)})
            row = {"d": d, "m": m, "ms": round(ms["ours"], 4), "floor ms": round(ms["floor"], 4),
                   "ms / floor": round(ms["ours"] / ms["floor"], 2)}  # fmt: skip
            append(OUT, [row | origin()])
            print(row, flush=True)


if __name__ == "__main__":
    main()
