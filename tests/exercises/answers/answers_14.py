def careful(kernels, reads, nbytes, bandwidth):
    queue, memory = kernels * 5 / 1e6, nbytes / bandwidth
    return (queue if queue > memory else memory) + reads / 1e5


def added(kernels, reads, nbytes, bandwidth):
    return 5e-6 * kernels + nbytes / bandwidth + 10e-6 * reads


RIGHT = {"14.1": ["(b)"], "14.2": [careful], "14.3": [800], "14.4": [800], "14.5": ["C"], "14.6": ["b"]}
WRONG = {
    "14.1": [("a", "the batch is in"), ("c", "four times"), ("d", "letters")],
    "14.2": [
        (added, "not the sum"),
        (lambda k, r, n, b: max(5e-6 * k, n / b, 10e-6 * r), "reads are added"),
        (lambda k, r, n, b: 1e6 * careful(k, r, n, b), "in seconds"),
        (lambda k, r, n, b: 1e3 * careful(k, r, n, b), "in seconds"),
        (lambda k, r, n, b: 5e-6 * k, "it gave"),
        (lambda k, r, n, b: None, "return"),
        (0.3, "function"),
    ],
    "14.3": [
        (1600, "float32"),
        (400, "two vectors"),
        (3200, "not 8"),
        (0.8, "gigabytes"),
        (800e6, "in bytes"),
        (200, "both twos"),
        (-800, "sign"),
    ],
    "14.4": [
        (80, "a tenth"),
        (8, "larger batch"),
        (266.67, "balance"),
        (88.9, "a tenth"),
        (200, "16·m·d"),
        (2400, "6 operations"),
        (5000, "too large"),
    ],
    "14.5": [("a", "by more"), ("b", "factor"), ("x", "letters")],
    "14.6": [("a", "seconds"), ("c", "fewer"), ("q", "letters")],
}
