"""FUSE: start training with Adam, finish with L-BFGS.

    from fuse_lib import FusePV
    opt = FusePV(model.parameters(), lr=1e-3, switchover="step:500")
    loss = opt.step(closure)

Everything else is imported by its own name: `fuse_lib.data`, `fuse_lib.models`, `fuse_lib.plots`.
"""

from fuse_lib.optim import LBFGS, Fuse, FusePV, StepReport, switchover

__all__ = ["LBFGS", "Fuse", "FusePV", "StepReport", "__version__", "switchover"]
__version__ = "0.1.0"
