"""What the last call of `step()` did."""

from __future__ import annotations

from torch import Tensor


class StepReport:
    """What one call of `step()` did. Values that are still on the device are read when asked for.

    phase: "first_order", "blend" or "second_order".
    theta: θ of this call.
    loss: the closure's value at the step's start.
    loss_after: the closure's value where the step ended, on the same batch; None where it was not evaluated.
    grad_norm: ‖g‖ at the start; None in the first phase unless a rule asked for it.
    evals: closure calls in this step.
    step_length: t of x + t p, of the last iteration; None in the first phase, 0.0 where no step was found.
    cosine: of the angle between the first- and the second-order step, in a blend; else None.
    pair: "kept", "damped" or why the step's curvature pair is not kept; None where there is none.
    stop_reason: None, or
        "converged"      the loss no longer changes beyond its rounding error, or the gradient is zero
        "no_progress"    twice in a row no trial step lowered the loss
        "search_failed"  no trial step lowered the loss; the curvature memory was cleared
        "max_evals"      the budget ended before a step was accepted
        "non_finite"     the loss or gradient at the start was not finite: nothing was moved; or, in a blend, the
                         first-order step was not: it was left out
        "no_gradient"    no parameter had a gradient: does the closure call backward()? (In every phase.)
        "lr_zero"        LBFGS with lr = 0
    handed_over: on the first call of the second phase, (pairs kept, pairs collected); else None.
    decision: what the rule decided after this call, where it keeps a log (`Auto`); else None.
    """

    _FIELDS = ("phase", "theta", "loss", "loss_after", "grad_norm", "evals", "step_length", "cosine", "pair",
               "stop_reason", "handed_over", "decision")  # fmt: skip

    def __init__(self, **values: object) -> None:
        self._values = dict.fromkeys(self._FIELDS) | values

    def set(self, **values: object) -> None:
        self._values.update(values)

    def __getstate__(self) -> dict:
        """For copies and pickles: everything read."""
        return {"_values": self.as_dict()}

    def __getattr__(self, name: str) -> object:
        """A field. A tensor or a function among the values is read now and kept as what it gave."""
        if name not in StepReport._FIELDS:
            raise AttributeError(f"StepReport has no field {name!r}; its fields are {', '.join(self._FIELDS)}")
        value = self._values[name]
        if callable(value):
            value = value()
        if isinstance(value, Tensor):
            value = float(value)
        self._values[name] = value
        return value

    def as_dict(self) -> dict[str, object]:
        """All fields by name, read to the host: a row of a table."""
        return {name: getattr(self, name) for name in self._FIELDS}

    def __repr__(self) -> str:
        known = ((name, value) for name, value in self.as_dict().items() if value is not None)
        return f"StepReport({', '.join(f'{name}={_short(value)}' for name, value in known)})"


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
