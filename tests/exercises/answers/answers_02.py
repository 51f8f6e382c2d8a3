RIGHT = {
    "02.2": [80.0],
    "02.4": [lambda t, f0, s0, f, s, c1=1e-4, c2=0.9: (f <= f0 + c1 * t * s0) & (abs(s) <= -c2 * s0)],
    "02.6": ["A"],
}
WRONG = {
    "02.1": [("a", "less accurate"), ("c", "smooth"), ("d", "letters")],
    "02.2": [(40, "Y"), (160, "float64"), (20, "bytes"), (4e6, "Hessian"), (80e6, "in bytes"), (100, "too large")],
    "02.3": [(-1.5, "step"), (4.5, "against"), (-21, "divided"), (2.5, "mix"), (0.5, "x = 4"), (1, "too small")],
    "02.4": [
        (lambda t, f0, s0, f, s, c1, c2: f <= f0 + c1 * t * s0, "rises steeply"),
        (lambda t, f0, s0, f, s, c1, c2: abs(s) <= c2 * abs(s0), "went up"),
        (lambda t, f0, s0, f, s, c1, c2: f <= f0 + c1 * t * s0 and s >= c2 * s0, "*Strong*"),
        (lambda t, f0, s0, f, s, c1, c2: f <= f0 + c1 * s0 and abs(s) <= c2 * abs(s0), "multiplied by t"),
        (lambda t, f0, s0, f, s, c1, c2: f < f0 and abs(s) <= c2 * abs(s0), "has to earn more"),
        (lambda t, f0, s0, f, s, c1, c2: f <= f0 + c1 * t * s0 and abs(s) <= c2, "at the start"),
        (lambda t, f0, s0, f, s, c1, c2: 7, "True or False"),
        (True, "function"),
    ],
    "02.5": [(6, "factor t"), (-3, "minus the old"), (-5, "sum"), (12, "divide"), (1, "too small")],
    "02.6": [("b", "0.01"), ("c", "length"), (3, "letters")],
    "02.7": [("a", "nine"), ("b", "sign"), ("", "letters")],
}
