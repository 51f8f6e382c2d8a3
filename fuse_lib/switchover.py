"""The switchover rules, under the shorter name. See `fuse_lib.optim.switchover`."""

from fuse_lib.optim.switchover import *  # noqa: F403
