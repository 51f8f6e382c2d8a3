import torch


def by_projection(s, y, wrong):
    project = torch.outer(s, s) / s.dot(s)
    across = wrong - project @ wrong
    return project @ y + across * (y - project @ y).norm() / across.norm()


def unscaled(s, y, wrong):
    project = torch.outer(s, s) / s.dot(s)
    return project @ y + wrong - project @ wrong


def other_side(s, y, wrong):
    return by_projection(s, y, -wrong)


RIGHT = {"15.1": [10, 9.99], "15.2": [by_projection], "15.3": [0.6], "15.4": ["(c)"], "15.5": ["B"]}
WRONG = {
    "15.1": [(100, "square"), (20, "smallest sum"), (1.818, "smaller sum"), (3.0, "too small")],
    "15.2": [
        (lambda s, y, wrong: y, "nothing is shuffled"),
        (lambda s, y, wrong: wrong, "only scaled"),
        (lambda s, y, wrong: wrong * y.norm() / wrong.norm(), "only scaled"),
        (lambda s, y, wrong: y + wrong, "s·y has changed"),
        (unscaled, "‖y‖ has changed"),
        (other_side, "does not point"),
        (lambda s, y, wrong: None, "return"),
        (lambda s, y, wrong: s.sum(), "shape"),
    ],
    "15.3": [(1.2, "powers of ten"), (0.48, "sign"), (0.3, "whole gain"), (0.9, "too large")],
    "15.4": [("a", "tilted"), ("b", "H"), ("d", "letters")],
    "15.5": [("a", "Newton"), ("c", "zero"), ("z", "letters")],
}
