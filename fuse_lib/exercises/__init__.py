"""Exercises of the notebooks: ask whether an answer is right, for a hint, for a solution.

    from fuse_lib.exercises import check, hint, solution

    check("01.2", 0.031)     # right, or what is wrong and why
    hint("01.2")             # the next hint, each time a further one
    solution("01.2")         # a solution and its reason

Everything works offline. Nothing raises: a notebook in which no exercise was touched runs through, and a
function that fails on the checker's inputs is told so. The exercises of notebook NN are in `eNN.py`.
"""

from fuse_lib.exercises.core import check, exercise, hint, keys, solution

__all__ = ["check", "exercise", "hint", "keys", "solution"]
