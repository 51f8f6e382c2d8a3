"""From a file to the runs of a grid."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

from fuse_lib.lab.settings import Settings, check_keys, from_dict

_BLOCKS = "contestants"


def expand(plan: Mapping[str, object]) -> list[Settings]:
    """All runs of a plan: a list in the place of a setting's value means each of its elements.

    plan: settings for all runs, and under "contestants" a list of tables of further ones. A table's value goes before
        the common one. Runs come in the order of the tables, the last of the lists changing fastest; the same run
        twice is one.

    Raises:
        ValueError: an unknown key, a value that is not allowed, an empty list.

    >>> runs = expand({"dataset": "digits", "seed": [0, 1], "contestants": [
    ...     {"optimizer": "adam", "lr": [1e-3, 1e-2]}, {"optimizer": "fuse_pv", "switchover": "passes:2"}]})
    >>> [(run.optimizer, run.lr, run.seed) for run in runs]
    [('adam', 0.001, 0), ('adam', 0.01, 0), ('adam', 0.001, 1), ('adam', 0.01, 1), ('fuse_pv', 0.001, 0), ('fuse_pv', 0.001, 1)]
    """  # noqa: E501
    check_keys(plan, (_BLOCKS,))
    common = {key: value for key, value in plan.items() if key != _BLOCKS}
    blocks = plan.get(_BLOCKS, [{}])
    if not (isinstance(blocks, list) and blocks and all(isinstance(block, Mapping) for block in blocks)):
        raise ValueError(f"{_BLOCKS}: got {blocks!r}; allowed is a list of tables of settings")
    runs: dict[str, Settings] = {}
    for block in blocks:
        check_keys(block)
        chosen = {**common, **block}
        values = [value if isinstance(value, list) else [value] for value in chosen.values()]
        for key, some in zip(chosen, values, strict=True):
            if not some:
                raise ValueError(f"{key}: got an empty list; allowed is a value or a list of values")
        for combination in itertools.product(*values):
            run = from_dict(dict(zip(chosen, combination, strict=True)))
            runs.setdefault(run.run_id, run)
    return list(runs.values())


def read(path: str | Path) -> list[Settings]:
    """The runs of a plan in a JSON or TOML file.

    Raises:
        ValueError: there is no such file, it is neither, or `expand` has something against it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        plan = _toml(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:  # both parsers' errors are ValueErrors
        raise ValueError(f"{path}: {error}; allowed is a JSON or TOML file of settings") from error
    if not isinstance(plan, Mapping):
        raise ValueError(f"{path}: got a {type(plan).__name__}; allowed is a table of settings")
    try:
        return expand(plan)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _toml(text: str) -> dict:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        try:
            import tomli as tomllib
        except ImportError:
            raise ValueError("TOML needs Python 3.11, or pip install tomli") from None
    return tomllib.loads(text)
