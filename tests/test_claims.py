"""The claims table: it follows from the recorded tables, and the README has it."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fuse_lib import claims, cli, data
from fuse_lib.claims import core

ROOT = Path(__file__).resolve().parent.parent
EVERY = claims.every()
NAMES_ONLY = {("thresholds_travel", 1)}  # of this table it reads which tasks there are, and no number
NUMBER = r"[+−]?[\d.]+"
TABLES = [
    (claim, k) for claim in EVERY for k in range(len(claim.tables)) if (claim.judge.__name__, k) not in NAMES_ONLY
]


@cache
def finding_of(claim):
    return claim.finding()


def test_the_readme_has_the_table_of_the_present_results():
    assert claims.is_current(ROOT / "README.md"), "run `python -m fuse_lib claims --write README.md`"


def test_there_are_claims_in_the_order_of_their_notebooks():
    assert len(EVERY) >= 6
    assert [c.notebook for c in EVERY] == sorted(c.notebook for c in EVERY)


@pytest.mark.parametrize("claim", EVERY, ids=lambda c: f"{c.notebook} {c.text[:40]}")
def test_a_claim_names_its_source_its_notebook_and_tables_that_can_be_made_again(claim):
    finding = finding_of(claim)
    assert claim.source
    assert list((ROOT / "notebooks").glob(f"{claim.notebook}_*.ipynb"))
    assert "nan" not in finding.effect + finding.detail
    assert "|" not in claim.text + claim.source + finding.effect + finding.on, "it would end the cell"
    told = (ROOT / "data" / "results" / "README.md").read_text(encoding="utf-8")
    for name in claim.tables:
        assert f"`{name}`" in told


@pytest.mark.parametrize("claim", EVERY, ids=lambda c: f"{c.notebook} {c.text[:40]}")
def test_an_effect_is_a_headline_with_an_interval_or_a_count(claim):
    effect = finding_of(claim).effect
    assert len(effect) <= 200
    assert re.search(rf"\d \[{NUMBER}, {NUMBER}\]|\bof \d", effect)


@pytest.mark.parametrize(
    ("claim", "which"),
    TABLES,
    ids=lambda value: value if isinstance(value, int) else f"{value.notebook} {value.text[:40]}",
)
def test_a_finding_follows_from_each_of_its_tables(claim, which):
    """Other numbers give another finding: each is multiplied by a factor of its own. The headline is of the first
    table, the others may be in the detail only."""
    draw = np.random.default_rng(0)
    tables = [pd.read_csv(data.bundled(f"results/{name}")) for name in claim.tables]
    keys = ["seed", "start", "rung", "switch", "lr", "sigma", "batch", "rows", "epochs", "solved"]
    table = tables[which]
    for name in table.select_dtypes("float").columns.difference(keys):
        table[name] *= draw.uniform(0.2, 5.0, len(table))
    if "solved" in table:
        table["solved"] = 1 - table["solved"]
    now, other = finding_of(claim), claim.judge(*tables)
    assert other.effect != now.effect or (which > 0 and other.detail != now.detail)


def test_a_finding_is_one_of_five():
    with pytest.raises(ValueError, match="verdict: got 'maybe'; allowed is one of holds"):
        claims.Finding("maybe", "1")
    with pytest.raises(ValueError, match="on: got ''"):
        claims.Finding("depends", "1")
    with pytest.raises(ValueError, match="on: got 'luck'"):
        claims.Finding("holds", "1", "luck")
    assert str(claims.Finding("depends", "1", "the data")) == "depends on the data"


def test_write_replaces_what_is_between_the_marks_and_nothing_else(tmp_path):
    file = tmp_path / "a.md"
    file.write_text(f"before\n{core.BEGIN}\nobsolete\n{core.END}\nafter\n", encoding="utf-8")
    assert not claims.is_current(file)
    claims.write(file)
    text = file.read_text(encoding="utf-8")
    assert claims.is_current(file)
    assert text.startswith(f"before\n{core.BEGIN}\n\n| claim |")
    assert text.endswith(f"{core.END}\nafter\n")
    assert "obsolete" not in text
    assert re.findall(r"\| \[(\d\d)\][^|]*\|$", text, re.M) == [c.notebook for c in EVERY]


def test_a_file_without_marks_is_left_alone(tmp_path):
    file = tmp_path / "a.md"
    file.write_text("text", encoding="utf-8")
    with pytest.raises(ValueError, match=r"path: got .*a\.md; allowed is a file with the lines"):
        claims.write(file)
    assert file.read_text(encoding="utf-8") == "text"


def test_the_command(capsys, tmp_path):
    assert cli.main(["claims"]) == 0
    shown = capsys.readouterr().out
    for claim in EVERY:
        finding = finding_of(claim)
        assert all(text in shown for text in (claim.text, finding.effect, finding.detail))
    file = tmp_path / "a.md"
    file.write_text(f"{core.BEGIN}\n{core.END}\n", encoding="utf-8")
    assert cli.main(["claims", "--check", str(file)]) == 1
    assert cli.main(["claims", "--write", str(file)]) == 0
    assert cli.main(["claims", "--check", str(file)]) == 0
    (tmp_path / "b.md").write_text("", encoding="utf-8")
    assert cli.main(["claims", "--write", str(tmp_path / "b.md")]) == 2
