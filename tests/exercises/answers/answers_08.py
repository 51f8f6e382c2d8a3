def counted(epochs, adam_epochs, minibatches):
    return sum(1 if epoch < adam_epochs else 6 for epoch in range(epochs) for _ in range(minibatches))


def formula(lbfgs, adam=1):
    return lambda epochs, adam_epochs, minibatches: minibatches * (adam * adam_epochs + lbfgs * (epochs - adam_epochs))


RIGHT = {"08.1": [7, 7.0], "08.2": [2.13, 2.1], "08.3": ["(c)"], "08.4": [counted], "08.5": ["B"]}
WRONG = {
    "08.1": [(5, "has none"), (6, "rounds down"), (10, "less will do"), (22, "too large")],
    "08.2": [
        (0.0213, "percentage points"),
        (2.65, "p(1 − p)"),
        (47.7, "1/√500"),
        (0.0954, "√n"),
        (0.477, "n = 500"),
        (-2.13, "sign"),
    ],
    "08.3": [("a", "seconds"), ("b", "several times"), ("d", "letters")],
    "08.4": [
        (formula(5), "after each step"),
        (formula(4), "lets 5 through"),
        (formula(6, 6), "Adam's epochs cost 1"),
        (formula(6, 0), "missing"),
        (lambda epochs, adam_epochs, minibatches: adam_epochs + 6 * (epochs - adam_epochs), "many minibatches"),
        (lambda epochs, adam_epochs, minibatches: None, "return"),
        (lambda epochs, adam_epochs, minibatches: "many", "number"),
        (2619, "function"),
    ],
    "08.5": [("a", "narrow"), ("c", "hardware"), ("d", "same"), ("e", "letters")],
}
