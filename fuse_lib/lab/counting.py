"""What an optimizer's step asks of a device, counted on any machine: host reads, kernels, bytes.

    with Counting(model.parameters()) as count:
        opt.step(count.left_out(closure))
    count.reads, count.kernels, count.peak

The counts are those of a GPU, wherever the parameters lie: a tensor counts as being on the device if it was computed
from the parameters or their gradients. (Adam's step counter and L-BFGS's small matrices are not, and stay on the
host.) They are the same on every machine with the same torch, which no time is.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack, contextmanager

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_WAITS = ("aten::_local_scalar_dense", "aten::nonzero")  # what item(), float(), bool(), an `if` and masks come down to
_TO_HOST = (Tensor.tolist, Tensor.cpu, Tensor.numpy)
_NO_KERNEL = ("aten::empty", "aten::lift_fresh", "aten::_local_scalar_dense")


class Counting:
    """A context that counts what happens in it.

    params: of the optimizer. Make the optimizer within the context where its memory is to be counted.

    Attributes:
        reads: host synchronisations: values of device tensors that the host waited for. `torch.equal` does not count:
            our second phase calls it on a CPU, and packs the comparison into another read on a GPU.
        kernels: operations on device tensors, but for views. A GPU launches about one kernel for each; of our second
            phase five more an iteration than are counted on a CPU, where it compares and estimates noise with less.
        bytes: of the storages that were made since and are still in use.
        peak: the most there were at a time.

    >>> import torch
    >>> x = torch.nn.Parameter(torch.ones(1000))
    >>> with Counting([x]) as count:
    ...     total = (2.0 * x.detach()).sum().item()
    >>> count.reads, count.kernels, count.peak
    (1, 2, 4004)
    """

    def __init__(self, params: Iterable[Tensor]) -> None:
        self.params = list(params)
        self.reads = self.kernels = self.bytes = self.peak = 0
        self._counts = True
        self._here: set[int] = set()  # storages on the device
        self._sizes: dict[int, int] = {}  # bytes of the storages made since

    def __enter__(self) -> Counting:
        self._mark_parameters()
        self._stack = ExitStack()
        self._stack.enter_context(_Functions(self))
        self._stack.enter_context(_Operations(self))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def left_out(self, closure: Callable[[], object]) -> Callable[[], object]:
        """The closure, which is called as before and counts nothing."""

        def called() -> object:
            with self._paused():
                loss = closure()
            self._mark_parameters()
            if isinstance(loss, Tensor):
                self._mark(loss)
            return loss

        return called

    @contextmanager
    def _paused(self):
        before, self._counts = self._counts, False
        try:
            yield
        finally:
            self._counts = before

    def _mark_parameters(self) -> None:
        for p in self.params:
            self._mark(p)
            if p.grad is not None:
                self._mark(p.grad)

    def _mark(self, t: Tensor) -> None:
        """Remember that a tensor lies on the device, as long as its storage lives."""
        storage = t.untyped_storage()
        key = storage._cdata
        if key not in self._here:
            self._here.add(key)
            weakref.finalize(storage, self._here.discard, key)

    def _on_device(self, t: Tensor) -> bool:
        return t.untyped_storage()._cdata in self._here

    def _read(self, t: Tensor) -> None:
        self.reads += self._counts and self._on_device(t)

    def _made(self, t: Tensor) -> None:
        storage = t.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._sizes:
            weakref.finalize(storage, self._freed, key)
        self.bytes += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        self.peak = max(self.peak, self.bytes)

    def _freed(self, key: int) -> None:
        self.bytes -= self._sizes.pop(key, 0)

    def _seen(self, name: str, is_view: bool, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """One operation. inputs, outputs: its tensors; an `out=` is among the inputs."""
        here = any(self._on_device(t) for t in inputs)
        if self._counts and here:
            self.reads += name in _WAITS
            self.kernels += not (is_view or name.startswith(_NO_KERNEL))
        known = {t.untyped_storage()._cdata for t in inputs}
        for t in outputs:
            if here:
                self._mark(t)
            if self._counts and t.untyped_storage()._cdata not in known:
                self._made(t)


class _Functions(TorchFunctionMode):
    """Sees the reads that are no operation: tolist and its like."""

    def __init__(self, count: Counting) -> None:
        super().__init__()
        self.count = count

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in _TO_HOST:
            self.count._read(args[0])
        return func(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    """Sees every operation, after autograd and before the device."""

    def __init__(self, count: Counting) -> None:
        super().__init__()
        self.count = count

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.namespace == "aten":
            tensors = [[t for t in tree_leaves(some) if isinstance(t, Tensor)] for some in ((args, kwargs), result)]
            self.count._seen(func.name(), func.is_view, *tensors)
        return result
