def windowed(values, threshold, window):
    means = [sum(values[k : k + window]) / window for k in range(len(values) - window + 1)]
    hits = [k for k, mean in enumerate(means) if mean <= threshold]
    return hits[0] + window if hits else None


def early(values, threshold, window):
    """Averages what there is before the window is full."""
    for step in range(1, len(values) + 1):
        last = values[max(0, step - window) : step]
        if sum(last) / len(last) <= threshold:
            return step
    return None


def from_zero(values, threshold, window):
    found = windowed(values, threshold, window)
    return None if found is None else found - 1


RIGHT = {"05.1": ["(b)"], "05.2": [0.21], "05.3": [windowed], "05.5": [0.00196]}
WRONG = {
    "05.1": [("a", "two different minibatches"), ("c", "steadies"), ("d", "letters")],
    "05.2": [
        (0.2, "noise alone"),
        (0.01, "true gradient"),
        (25.01, "1/125"),
        (0.0116, "1/b"),
        (2.246, "root"),
        (-0.21, "sign"),
    ],
    "05.3": [
        (early, "before there are"),
        (from_zero, "count from 1"),
        (lambda values, threshold, window: len(values) if windowed(values, threshold, window) else None, "first"),
        (lambda values, threshold, window: windowed(values, threshold, window) or 0, "None"),
        (lambda values, threshold, window: None, "return"),
        (lambda values, threshold, window: 2.5, "integer"),
        (3, "function"),
    ],
    "05.4": [("b", "changes no step"), ("c", "run by run"), ("e", "letters")],
    "05.5": [
        (0.001386, "2.776"),
        (0.00439, "√n"),
        (0.001756, "n − 1"),
        (0.003926, "whole width"),
        (0.001818, "2.571"),
        (1.0, "too large"),
    ],
    "05.6": [("a", "tie"), ("c", "only says when"), ("z", "letters")],
}
