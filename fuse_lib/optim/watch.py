"""What the optimizer looks at in a call, for its rule and its report.

A rule that reads no values costs nothing here. For the others the values of a first-order call wait on the device,
and every `check_every` calls all that wait are read by one transfer.
"""

from __future__ import annotations

import math

from torch import Tensor

from fuse_lib.optim.first_order import FirstOrder
from fuse_lib.optim.observation import Backlog, Observation
from fuse_lib.optim.options import Options
from fuse_lib.optim.report import StepReport
from fuse_lib.optim.rule import Rule
from fuse_lib.optim.second_order import SecondOrder
from fuse_lib.optim.vectors import in_range


class Watch:
    """Calls of the optimizer → observations.

    backlog: what has not been read yet. cosine: of the last blended call in which both steps were made.
    """

    def __init__(self, rule: Rule, options: Options) -> None:
        self._rule, self._options = rule, options
        self.backlog = Backlog()
        self.cosine = math.nan

    @property
    def looks(self) -> bool:
        """Whether anything of a first-order call is looked at."""
        return bool(self._rule.reads) or self._options.skip_nonfinite

    def first_order(
        self,
        iteration: int,
        loss: Tensor | float | None,
        first: FirstOrder,
        second: SecondOrder,
        report: StepReport,
    ) -> tuple[list[Observation], bool]:
        """(the observations that are on the host now, whether the newest is finite as far as is known).

        loss: at the parameters as they are, or None where nobody evaluated it.
        """
        vectors, reads, options = second.vectors, self._rule.reads, self._options
        norm_sq = vectors.squared_norm()
        if vectors.processes.alone:
            report.set(grad_norm=lambda: math.sqrt(norm_sq))
        mean = first.mean_norm_sq(vectors) if "mean_norm_sq" in reads and not options.full_batch else None
        curvature = second.curvature() if "curvature" in reads and options.full_batch else None
        self.backlog.add(math.nan if loss is None else loss, norm_sq, mean, curvature)
        if iteration % options.check_every and not options.skip_nonfinite:
            return [], True
        *older, newest = self.backlog.read(iteration, vectors.read, options.full_batch, vectors.maximize)
        if not in_range(newest.grad_norm_sq) and vectors.dtype != vectors.wide:
            ((norm_sq,),) = vectors.read([vectors.squared_norm(wide=True)])
            newest = newest._replace(grad_norm_sq=norm_sq)
        report.set(grad_norm=math.sqrt(newest.grad_norm_sq))
        return [*older, newest], math.isfinite(newest.grad_norm_sq) and (loss is None or math.isfinite(newest.loss))

    def second_order(self, iteration: int, second: SecondOrder, report: StepReport, evals: int) -> Observation:
        """A call of the second phase or a blended one, from its report."""
        if report.cosine is not None:
            self.cosine = report.cosine
        # Only a rule that may go back is told where the step ended: that may have to be read from the device.
        after = report.loss_after if self._rule.returns else None
        return Observation(
            iteration,
            report.loss,
            report.grad_norm**2,
            self.cosine,
            loss_after=math.nan if after is None else after,
            evals=evals,
            theta=report.theta,
            stop_reason=report.stop_reason,
            full_batch=self._options.full_batch,
            maximize=second.vectors.maximize,
        )
