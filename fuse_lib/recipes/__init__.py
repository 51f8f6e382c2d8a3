"""Recipes against the noise of a second phase on minibatches: notebook 12's experiments, to read and to change.

What won is no recipe any more: `fuse_lib.optim.AnchoredLBFGS`. The others are kept as they were measured, and are not
meant for use.

    softmax.py      the problem, with its cost counted
    stochastic.py   L-BFGS on minibatches: where the gradient comes from, where the pairs come from, what H₀ is
    norm_test.py    batches that grow by the norm test
"""

from fuse_lib.recipes.softmax import Softmax, Spent, adam, minibatches

__all__ = ["Softmax", "Spent", "adam", "minibatches"]
