"""Executes one notebook with the Python that runs this file, and says where its fuse_lib came from.

    python alone.py NOTEBOOK      prints {"seconds": …, "fuse_lib": "/…/fuse_lib/__init__.py", "network": false}

The seconds are those of the clock or of the processor, whichever are fewer: on a machine that does other things as
well the clock tells nothing, and with more than one thread the processor's seconds add up.

Kernels talk over the loopback interface, which a new network namespace has, but down.
"""

import fcntl
import json
import resource
import socket
import struct
import sys
import time
from contextlib import suppress

import nbformat
from nbclient import NotebookClient

SET_FLAGS, UP = 0x8914, 1  # SIOCSIFFLAGS and IFF_UP of Linux


def loopback_up():
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh", b"lo", UP))


def has_network():
    """Whether a packet could leave: no route is an error at once, and connecting UDP sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            any_socket.connect(("192.0.2.1", 9))  # an address that belongs to nobody (RFC 5737)
        except OSError:
            return False
    return True


def main(path):
    notebook = nbformat.read(path, as_version=4)
    question = nbformat.v4.new_code_cell("import fuse_lib as _asked\nprint(_asked.__file__)")
    notebook.cells.append(question)
    start = time.monotonic()
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    clock, used = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({
        "seconds": min(clock, used.ru_utime + used.ru_stime),
        "fuse_lib": notebook.cells[-1].outputs[0].text.strip(),
        "network": has_network(),
    }))  # fmt: skip


if __name__ == "__main__":
    if "--no-network" in sys.argv:
        loopback_up()
    main(sys.argv[1])
