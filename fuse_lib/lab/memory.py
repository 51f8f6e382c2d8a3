"""Keeping freed memory, so that a training loop does not ask the system for the same pages at every step.

glibc gives blocks above 32 MB back to the system when they are freed. A layer's output for 512 CIFAR-10 images of 64
channels has 128 MB, so each step gets all its memory anew, page by page: with DenseNet on a CPU that was more than half
of the time. The price of keeping it: the process stays as large as it once was.
"""

from __future__ import annotations

import ctypes
import platform

# For processes to come. One arena, because only the main one can hold large blocks.
ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
_ARENA_MAX, _MMAP_MAX, _TRIM_THRESHOLD = -8, -4, -1  # glibc's malloc.h


def keep_memory() -> bool:
    """Do so in this process, for its main thread and for threads to come. Returns whether it could be done.

    It needs glibc (Linux); elsewhere nothing happens. It is for the whole process and cannot be undone. Workers that
    `grid` starts do so by themselves; those of a cluster need the variables in ENVIRONMENT when they are started.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    given = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1))
    return all(libc.mallopt(option, value) == 1 for option, value in given)
