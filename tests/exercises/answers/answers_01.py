import math

RIGHT = {
    "01.1": [lambda k, beta1=0.9, beta2=0.999: (1 - beta2**k) ** 0.5 / (1 - beta1**k)],
    "01.2": [10.0],
    "01.3": ["(B)"],
    "01.6": [3.16e-10],
}
WRONG = {
    "01.1": [
        (lambda k, b1, b2: math.sqrt(1 - b2**k) / math.sqrt(1 - b1**k), "no root in the denominator"),
        (lambda k, b1, b2: (1 - b1**k) / math.sqrt(1 - b2**k), "inverse"),
        (lambda k, b1, b2: (1 - b2**k) / (1 - b1**k), "under a root"),
        (lambda k, b1, b2: math.sqrt(1 - b2) / (1 - b1), "first step"),
        (lambda k, b1, b2: 1.0, "the factor is"),
        (0.316, "function"),
    ],
    "01.2": [(3.162, "0.999"), (0.1, "inverse"), (1, "with"), (1000, "root"), (100, "m starts"), (7, "too small")],
    "01.3": [("a", "gradient descent"), ("c", "ratio"), ("d", "letters")],
    "01.4": [(0.75, "second moment"), (1, "without noise"), (0.36, "root"), (3 / 7, "squares"), (3, "no step")],
    "01.5": [("b", "32"), ("c", "ten thousand"), (1, "letters")],
    "01.6": [(3.16e-7, "other way"), (1e-8, "at the first step"), (1e-11, "root"), (1e-3, "too large")],
    "01.7": [("a", "dotted"), ("c", "without noise"), ("", "letters")],
}
