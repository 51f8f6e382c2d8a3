"""The switchover rules, under the shorter name. See `fuse_lib.optim.switchover`."""

from fuse_lib.optim.switchover import *  # noqa: F403
from fuse_lib.optim.switchover import __doc__  # noqa: F401  (help() shows what is said there, and its table)
