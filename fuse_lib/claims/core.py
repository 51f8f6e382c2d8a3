"""Claims, findings, and the table of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd

from fuse_lib import data
from fuse_lib.lab.statistics import Interval

VERDICTS = ("holds", "does not hold", "depends", "not shown", "not contradicted")
HERE = Path(__file__).parent
BEGIN, END = "<!-- claims: made by `python -m fuse_lib claims --write README.md` -->", "<!-- end of claims -->"
MINUS = "−"  # as in print; a hyphen before a number breaks lines
DATASETS = {
    "usps": "USPS",
    "mnist": "MNIST",
    "mnist-12000": "12,000 of MNIST",
    "kmnist": "KMNIST",
    "fashion-mnist": "Fashion-MNIST",
    "fashion-mnist-sample": "Fashion-MNIST sample",
    "cifar10": "CIFAR-10",
    "cifar10-16": "CIFAR-10 (16x16)",
}
Case = TypeVar("Case", bound=Hashable)


@dataclass(frozen=True)
class Finding:
    """What the recorded runs say of a claim.

    verdict: "holds"; "does not hold", the runs speak against it; "depends", there are cases for and cases against it;
        "not shown", the interval holds both; "not contradicted", a bound that no run breaks, which proves nothing.
    effect: the headline, which the README shows: one or two numbers with their 95 % intervals, or counts, and what they
        are of, in words that need no notebook. Representative rather than the largest; for "depends" two cases that
        show it.
    on: for "depends": on what.
    detail: the other numbers, and under which conditions. `python -m fuse_lib claims` shows it.

    Raises:
        ValueError: an unknown verdict, or one that depends on nothing.
    """

    verdict: str
    effect: str
    on: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict: got {self.verdict!r}; allowed is one of {', '.join(VERDICTS)}")
        if (self.verdict == "depends") != bool(self.on):
            raise ValueError(
                f"on: got {self.on!r} with verdict {self.verdict!r}; allowed with 'depends', and needed there"
            )

    def __str__(self) -> str:
        return f"{self.verdict} on {self.on}" if self.on else self.verdict


@dataclass(frozen=True)
class Claim:
    """text: the claim, as short as it can be said. source: who says so. judge: reads the tables. tables: their names in
    data/results. notebook: the number of the one that shows it, "05"."""

    text: str
    source: str
    tables: tuple[str, ...]
    judge: Callable[..., Finding]
    notebook: str = ""

    def finding(self) -> Finding:
        """From the tables as they are now: `judge` is given them in the order of their names."""
        return self.judge(*(pd.read_csv(data.bundled(f"results/{name}")) for name in self.tables))


def every() -> list[Claim]:
    """The claims of all notebooks, in their order."""
    found = []
    for file in sorted(HERE.glob("c[0-9][0-9].py")):
        module = importlib.import_module(f"fuse_lib.claims.{file.stem}")
        found += [Claim(c.text, c.source, c.tables, c.judge, file.stem[1:]) for c in module.CLAIMS]
    return found


def table() -> pd.DataFrame:
    """A row a claim: claim, source, verdict, effect, detail, notebook, tables. Strings."""
    rows = []
    for claim in every():
        finding = claim.finding()
        rows.append({"claim": claim.text, "source": claim.source, "verdict": str(finding), "effect": finding.effect,
                     "detail": finding.detail, "notebook": claim.notebook,
                     "tables": ", ".join(claim.tables)})  # fmt: skip
    return pd.DataFrame(rows)


def markdown() -> str:
    """The table as the README shows it, without the details, and with links to the notebooks."""
    lines = ["| claim | source | verdict | effect, with 95 % intervals | notebook |", "|---|---|---|---|---|"]
    for row in table().itertuples():
        lines.append(f"| {row.claim} | {row.source} | **{row.verdict}** | {row.effect} | {_link(row.notebook)} |")
    return "\n".join(lines)


def write(path: Path) -> None:
    """Put the table between the two marks of a file.

    Raises:
        ValueError: the file has no such marks.
    """
    text = path.read_text(encoding="utf-8")
    path.write_text(_with_table(text, path), encoding="utf-8")


def is_current(path: Path) -> bool:
    """Whether the file has the table that the results give now."""
    text = path.read_text(encoding="utf-8")
    return _with_table(text, path) == text


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, and a minus sign in the place of a hyphen.

    >>> signed(-1.25), signed(0.04, 2)
    ('−1.2', '+0.04')
    """
    return f"{value:+.{digits}f}".replace("-", MINUS)


def with_interval(found: Sequence[float], digits: int = 1, sign: bool = True) -> str:
    """A mean and its 95 % interval. found: (mean, low, high, …), as `lab.interval` gives it. sign: False for what is
    positive anyway, as a ratio.

    >>> with_interval((1.2, 0.4, 1.9))
    '+1.2 [+0.4, +1.9]'
    """
    mean, low, high = (signed(value, digits) if sign else f"{value:.{digits}f}" for value in found[:3])
    return f"{mean} [{low}, {high}]"


def unsigned(found: Sequence[float], digits: int = 2) -> str:
    """As `with_interval`, of what is positive anyway: a ratio or a share.

    >>> unsigned((1.2, 0.4, 1.9))
    '1.20 [0.40, 1.90]'
    """
    return with_interval(found, digits, sign=False)


def below(found: Mapping[Case, Interval], bound: float = 0.0) -> int:
    """In how many cases the interval is below a bound: clearly lower."""
    return sum(d.high < bound for d in found.values())


def above(found: Mapping[Case, Interval], bound: float = 0.0) -> int:
    """In how many cases the interval is above a bound: clearly higher."""
    return sum(d.low > bound for d in found.values())


def extremes(found: Mapping[Case, Interval]) -> tuple[Case, Case]:
    """The cases with the lowest and with the highest mean."""
    low, high = (choose(found, key=lambda case: found[case].mean) for choose in (min, max))
    return low, high


def middle(found: Mapping[Case, Interval]) -> Case:
    """The case with the median mean: a typical one. Of an even number, that of the middle two which is nearer to 0.

    >>> middle({"a": Interval(-4.0, -5.0, -3.0, 5), "b": Interval(1.0, 0.0, 2.0, 5), "c": Interval(2.0, 1.0, 3.0, 5)})
    'b'
    """
    ranked = sorted(found, key=lambda case: found[case].mean)
    return min(ranked[(len(ranked) - 1) // 2], ranked[len(ranked) // 2], key=lambda case: abs(found[case].mean))


def _with_table(text: str, path: Path) -> str:
    if BEGIN not in text or END not in text:
        raise ValueError(f"path: got {path}; allowed is a file with the lines {BEGIN!r} and {END!r}")
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n\n{markdown()}\n\n{END}{rest.split(END, 1)[1]}"


def _link(number: str) -> str:
    """To the notebook, where there is one beside the package: a wheel has none."""
    folder = HERE.parent.parent / "notebooks"
    for path in sorted(folder.glob(f"{number}_*.ipynb")):
        return f"[{number}](notebooks/{path.name})"
    return number
