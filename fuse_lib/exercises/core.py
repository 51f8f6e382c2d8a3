"""What an exercise is, and the three functions a learner calls."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
import numbers
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch


class Wrong(Exception):
    """Raised by a checker: the answer is wrong. The message says what is wrong and why, to a learner."""


class Outcome(NamedTuple):
    """right: True, False, or None where there is no answer yet. message: one or two sentences."""

    right: bool | None
    message: str


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    key: "NN.k", the k-th of notebook NN.
    checker: takes an answer, returns a word of praise or of explanation, or raises `Wrong`.
    answer: a right answer. Where the answer is a function: its name in `solution`.
    solution: what `solution` prints; Python source where `code` is True.
    hints: from the vague to the plain.
    code: whether a function is to be written.
    """

    key: str
    checker: Callable[[object], str]
    answer: object
    solution: str
    hints: Sequence[str]
    code: bool = False

    def right_answer(self) -> object:
        """The stored solution, as an answer that the checker must find right."""
        if not self.code:
            return self.answer
        names: dict[str, object] = {"torch": torch, "math": math}
        exec(self.solution, names)  # our own text, from eNN.py
        return names[self.answer]

    def judge(self, answer: object) -> Outcome:
        """Whether an answer is right. Whatever the checker or the learner's function raises becomes a message."""
        if answer is None or answer is ...:
            return Outcome(None, f'no answer yet. Put yours in place of the dots; hint("{self.key}") helps.')
        try:
            return Outcome(True, self.checker(answer))
        except Wrong as wrong:
            return Outcome(False, str(wrong))
        except Exception as error:
            return Outcome(False, f"your answer could not be checked: it raised {type(error).__name__}: {error}")


# ---- checkers
@dataclass(frozen=True)
class Choice:
    """A letter. wrong: letter → why it is not this one."""

    right: str
    praise: str
    wrong: Mapping[str, str]

    def __call__(self, answer: object) -> str:
        letters = sorted({self.right, *self.wrong})
        letter = answer.strip().strip("()").lower() if isinstance(answer, str) else answer
        if letter == self.right:
            return self.praise
        if isinstance(letter, str) and letter in self.wrong:
            raise Wrong(self.wrong[letter])
        raise Wrong(f"the answer is one of the letters {', '.join(map(repr, letters))}; got {answer!r}")


@dataclass(frozen=True)
class Number:
    """A number, within a relative tolerance (absolute where the right one is 0).

    wrong: (value, why) of common mistakes, which are known by the number they lead to.
    """

    right: float
    praise: str
    wrong: Sequence[tuple[float, str]] = ()
    tolerance: float = 0.01

    def __call__(self, answer: object) -> str:
        value = as_float(answer)
        if self._near(value, self.right):
            return self.praise
        for mistake, why in self.wrong:
            if self._near(value, mistake):
                raise Wrong(why)
        raise Wrong(f"{value:.6g} is not it" + self._size(value))

    def _near(self, value: float, other: float) -> bool:
        return abs(value - other) <= self.tolerance * (abs(other) or 1.0)

    def _size(self, value: float) -> str:
        if value * self.right < 0:
            return ": the sign is wrong."
        return ": it is too large." if abs(value) > abs(self.right) else ": it is too small."


def as_float(answer: object) -> float:
    """The answer as a finite float, or `Wrong`."""
    one = isinstance(answer, torch.Tensor) and answer.numel() == 1 and not answer.is_complex()
    if isinstance(answer, bool) or not (one or isinstance(answer, numbers.Real)):
        raise Wrong(f"the answer is one number; got {answer!r}")
    value = float(answer)
    if not math.isfinite(value):
        raise Wrong(f"the answer is a finite number; got {value}")
    return value


def call(function: object, *inputs: object) -> object:
    """The learner's function on copies of some inputs; `Wrong` where it is no function, raises or returns nothing."""
    if not callable(function):
        raise Wrong(f"the answer is a function; got {function!r}. Pass its name, without calling it")
    shown = ", ".join(_short(i) for i in inputs)
    try:
        result = function(*copy.deepcopy(inputs))
    except Exception as error:
        raise Wrong(f"your function raised {type(error).__name__} on ({shown}): {error}") from error
    if result is None or result is ...:
        raise Wrong(f"your function returned {result!r} on ({shown}): is a `return` missing?")
    return result


def close(result: object, expected: object, tolerance: float = 1e-6) -> bool:
    """Whether numbers or tensors agree: same shape, and |difference| ≤ tolerance · (1 + |expected|)."""
    try:
        a = torch.as_tensor(result, dtype=torch.float64)
        b = torch.as_tensor(expected, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return False
    return a.shape == b.shape and bool(((a - b).abs() <= tolerance * (1 + b.abs())).all())


def _short(value: object) -> str:
    text = str(value.tolist()) if isinstance(value, torch.Tensor) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# ---- what a learner calls
_hints_given: dict[str, int] = {}


def keys() -> list[str]:
    """The keys of all exercises, in the order of the course."""
    package = importlib.import_module("fuse_lib.exercises")
    numbers_ = sorted(m.name[1:] for m in pkgutil.iter_modules(package.__path__) if m.name[1:].isdigit())
    return [e.key for number in numbers_ for e in _of_notebook(number)]


def exercise(key: str) -> Exercise:
    """The exercise "NN.k".

    Raises:
        KeyError: there is none; the message lists those of that notebook.
    """
    found = _of_notebook(str(key).partition(".")[0])
    for candidate in found:
        if candidate.key == key:
            return candidate
    known = ", ".join(e.key for e in found) or ", ".join(keys())
    raise KeyError(f"key: got {key!r}; allowed is one of {known}")


def _of_notebook(number: str) -> Sequence[Exercise]:
    name = f"fuse_lib.exercises.e{number}"
    if not number.isdigit() or importlib.util.find_spec(name) is None:
        return ()
    return importlib.import_module(name).EXERCISES


def check(key: str, answer: object = ...) -> None:
    """Print whether the answer is right, and if not, what is wrong and why."""
    found = _find(key)
    if found is not None:
        right, message = found.judge(answer)
        mark = {True: "✓ right:", False: "✗ not yet:", None: "○"}[right]
        print(f"{key} {mark} {message}")


def hint(key: str) -> None:
    """Print the next hint. After the last one they begin anew."""
    found = _find(key)
    if found is not None:
        given = _hints_given.get(key, 0)
        _hints_given[key] = given + 1
        number = given % len(found.hints)
        print(f"{key} hint {number + 1} of {len(found.hints)}: {found.hints[number]}")


def solution(key: str) -> None:
    """Print a solution."""
    found = _find(key)
    if found is not None:
        print(f"{key} solution:\n{found.solution.strip()}")


def _find(key: str) -> Exercise | None:
    try:
        return exercise(key)
    except KeyError as error:
        print(error.args[0])
        return None
