"""The state of `Fuse` as plain tensors and numbers, and back.

Everything lies under parameters, with names that begin with "fuse_": vectors of length d are cut into
one piece a parameter, and the few numbers that belong to no parameter lie under the first trainable one.
That is the only layout that `torch.distributed.checkpoint` takes: no lists, no strings (a short text
becomes a tensor of bytes) and no key that is not a parameter's.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

PREFIX = "fuse_"


def encode(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def decode(data: Tensor) -> str:
    return bytes(data.tolist()).decode()


def flatten(memory: dict, prefix: str) -> Iterator[tuple[str, object]]:
    """A rule's memory as (name, number or tensor): nested names joined by "/", lists as float64 tensors."""
    for key, value in memory.items():
        name = f"{prefix}/{key}"
        if isinstance(value, dict):
            yield from flatten(value, name)
        elif isinstance(value, list):
            yield name, torch.tensor(value, dtype=torch.float64)
        else:
            yield name, value


def unflatten(items: dict[str, object], prefix: str) -> dict:
    """The inverse of `flatten`."""
    memory: dict = {}
    for name, value in items.items():
        if not name.startswith(prefix + "/"):
            continue
        *path, last = name.removeprefix(prefix + "/").split("/")
        here = memory
        for key in path:
            here = here.setdefault(key, {})
        here[last] = value.tolist() if isinstance(value, Tensor) and value.dim() == 1 else _number(value)
    return memory


def _number(value: object) -> object:
    return value.item() if isinstance(value, Tensor) else value


def insert(
    state_dict: dict, numbers: dict[str, object], pieces: dict[str, list[Tensor]], home: int, parameters: int
) -> dict:
    """A state_dict with our entries beside the first phase's.

    numbers: name → number or small tensor, put under parameter `home` of so many `parameters`.
    pieces: name → one tensor a parameter.
    """
    state = {key: dict(entry) if isinstance(entry, dict) else entry for key, entry in state_dict["state"].items()}
    for name, tensors in pieces.items():
        for index, tensor in enumerate(tensors):
            state.setdefault(index, {})[PREFIX + name] = tensor
    state.setdefault(home, {}).update({PREFIX + name: value for name, value in numbers.items()})
    for index in range(parameters):  # a distributed checkpoint wants an entry for every parameter, or for none
        state.setdefault(index, {PREFIX + "empty": 1})
    # Parameters in their order, whatever came first; then what hooks may have put there.
    known = sorted(key for key in state if isinstance(key, int))
    ordered = {key: state[key] for key in known} | state
    return {**state_dict, "state": ordered}


def extract(state_dict: dict) -> tuple[dict, dict[str, object], dict[str, dict[int, Tensor]]]:
    """(a copy of state_dict without our entries, numbers, pieces by name and position of the parameter)."""
    ids = [key for group in state_dict["param_groups"] for key in group["params"]]  # names, from a distributed one
    position = {key: i for i, key in enumerate(ids)}
    rest: dict = {}
    numbers: dict[str, object] = {}
    pieces: dict[str, dict[int, Tensor]] = {}
    for index, entry in state_dict["state"].items():
        if not isinstance(entry, dict) or index not in position:
            rest[index] = entry
            continue
        kept = {}
        for key, value in entry.items():
            if not (isinstance(key, str) and key.startswith(PREFIX)):
                kept[key] = value.clone() if isinstance(value, Tensor) else value  # torch itself would share it
            elif key.removeprefix(PREFIX) in VECTORS:
                pieces.setdefault(key.removeprefix(PREFIX), {})[position[index]] = value
            else:
                numbers[key.removeprefix(PREFIX)] = value
        if kept:
            rest[index] = kept
    return {**state_dict, "state": rest}, numbers, pieces


# What is stored per parameter: the history, the last step's pair, running means, the last known point, the metric.
VECTORS = ("S", "Y", "s", "y", "m", "v", "x", "g", "scale")
