"""The optimizers. Importing this needs torch and the standard library only.

Reading order: `switchover.py` (when; its rules are in `criteria.py`, `schedules.py` and `auto.py`), `fuse.py` (one
step), `second_order.py` (one iteration of the second phase), `method.py` (what differs from method to method) and the
methods that it names, then the parts they are made of: `direction.py`, `line_search.py`, `history.py`, `vectors.py`.
"""

from fuse_lib.optim import switchover
from fuse_lib.optim.anchored import AnchoredLBFGS, Round
from fuse_lib.optim.fuse import Fuse, FusePV
from fuse_lib.optim.lbfgs import LBFGS
from fuse_lib.optim.observation import Observation
from fuse_lib.optim.report import StepReport

__all__ = ["LBFGS", "AnchoredLBFGS", "Fuse", "FusePV", "Observation", "Round", "StepReport", "switchover"]
