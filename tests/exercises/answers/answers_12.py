def other_order(g_batch, g_batch_anchor, g_anchor):
    return g_batch + (g_anchor - g_batch_anchor)


RIGHT = {"12.1": ["(c)"], "12.3": [other_order], "12.4": [2], "12.5": ["A"], "12.2": [8]}
WRONG = {
    "12.1": [("a", "difference"), ("b", "cancels"), ("d", "letters")],
    "12.3": [
        (lambda a, b, c: a + b - c, "signs"),
        (lambda a, b, c: a - c, "right gradient"),
        (lambda a, b, c: a - b, "zero"),
        (lambda a, b, c: a + c, "twice"),
        (lambda a, b, c: (a + c) / 2, "half"),
        (lambda a, b, c: a, "as it is"),
        (lambda a, b, c: 2 * a, "elsewhere"),
        (lambda a, b, c: 1.0, "vector"),
        (0.5, "function"),
    ],
    "12.4": [(1, "ends with"), (9, "eighth"), (1.875, "anchor"), (120_000, "rows"), (3, "too large")],
    "12.5": [("b", "did fall"), ("c", "0.25"), ("z", "letters")],
    "12.2": [(32, "quarter"), (4, "squared"), (0.125, "inverse"), (64, "1/√b"), (9, "too large")],
}
