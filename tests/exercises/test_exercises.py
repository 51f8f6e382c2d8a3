"""Every exercise: its solution passes, known wrong answers are told apart, nonsense raises nothing."""

import importlib
import math
import re
from pathlib import Path

import pytest
import torch

from fuse_lib import exercises, notebooks

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
KEYS = exercises.keys()
NONSENSE = ["", "zebra", math.nan, math.inf, -1e300, [], {}, (1, 2), object(), torch.zeros(3), torch.nan, 1j, True, int,
            lambda *a: "x", lambda: 1, lambda *a: torch.full((2, 2), math.nan), print]  # fmt: skip
each = pytest.mark.parametrize("key", KEYS)


def answers(key):
    return importlib.import_module(f"tests.exercises.answers.answers_{key[:2]}")


def test_every_notebook_has_exercises_and_asks_each_once():
    for path in notebooks.every(FOLDER):
        source = (FOLDER / "source" / f"{path.stem}.py").read_text(encoding="utf-8")
        asked = re.findall(r'^check\("(\d\d\.\d+)"', source, flags=re.M)
        assert asked == [k for k in KEYS if k.startswith(path.stem[:2])]
        assert len(re.findall(r"^# \*\*Quick check \d\d\.\d+", source, flags=re.M)) >= 2
        assert len(re.findall(r"^# \*\*Exercise \d\d\.\d+", source, flags=re.M)) >= 3
        assert any(exercises.exercise(k).code for k in asked), "one exercise is code"


@each
def test_the_stored_solution_passes(key):
    exercise = exercises.exercise(key)
    outcome = exercise.judge(exercise.right_answer())
    assert outcome.right, outcome.message
    for answer in answers(key).RIGHT.get(key, []):
        assert exercise.judge(answer).right, answer


@each
def test_wrong_answers_are_told_what_is_wrong(key):
    wrong = answers(key).WRONG[key]
    assert len(wrong) >= 3
    for answer, words in wrong:
        right, message = exercises.exercise(key).judge(answer)
        assert right is False, answer
        assert words in message, message


@each
@pytest.mark.parametrize("answer", NONSENSE, ids=lambda a: type(a).__name__)
def test_nonsense_is_wrong_and_raises_nothing(key, answer):
    right, message = exercises.exercise(key).judge(answer)
    assert right is False
    assert message


@each
def test_hints_solution_and_an_untouched_exercise(key, capsys):
    exercise = exercises.exercise(key)
    assert len(exercise.hints) >= 2
    for _ in range(len(exercise.hints) + 1):
        exercises.hint(key)
    exercises.solution(key)
    exercises.check(key, ...)
    exercises.check(key)
    printed = capsys.readouterr().out
    assert all(text in printed for text in exercise.hints)
    assert exercise.solution.strip() in printed
    assert printed.count("no answer yet") == 2


def test_an_unknown_key_is_answered_with_those_that_exist(capsys):
    exercises.check("00.99", 1)
    exercises.hint("zebra")
    printed = capsys.readouterr().out
    assert "00.1, 00.2" in printed
    assert "'zebra'" in printed
