RIGHT = {"00.1": [" (B) "], "00.3": [260.0, 260.4], "00.4": [lambda reports: sum([r.evals for r in reports])]}
WRONG = {
    "00.1": [("a", "first derivatives"), ("c", "inside the closure"), ("d", "one of the letters"), (2, "letters")],
    "00.2": [("a", "cheaper"), ("b", "noise"), ("yes", "letters")],
    "00.3": [(200, "four"), (160, "Adam"), (500, "20"), (-260, "sign"), (1e6, "too large"), (3, "too small")],
    "00.4": [
        (len, "number of steps"),
        (lambda reports: reports[-1].evals, "last step"),
        (lambda reports: 7, "calls were made"),
        (lambda reports: reports.evals, "raised AttributeError"),
        (lambda reports: None, "return"),
        (260, "function"),
    ],
    "00.5": [("b", "right panel"), ("c", "cost"), ("", "letters")],
}
