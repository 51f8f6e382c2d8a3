def mean(values):
    return sum(values) / len(values)


def by_sorting(trials):
    ranked = sorted(trials, key=lambda t: (-mean(t["held_out_accuracy"]), mean(t["held_out_loss"])))
    return ranked[0]["setting"]


def by_test(trials):
    return max(trials, key=lambda t: t["test_accuracy"])["setting"]


def by_best_seed(trials):
    return max(trials, key=lambda t: (max(t["held_out_accuracy"]), -mean(t["held_out_loss"])))["setting"]


def without_ties(trials):
    return max(trials, key=lambda t: mean(t["held_out_accuracy"]))["setting"]


def by_loss(trials):
    return min(trials, key=lambda t: mean(t["held_out_loss"]))["setting"]


def whole(trials):
    return max(trials, key=lambda t: (mean(t["held_out_accuracy"]), -mean(t["held_out_loss"])))


RIGHT = {"06.1": [117, 117.19], "06.2": [by_sorting], "06.3": [2], "06.4": [0.4], "06.5": ["(b)"]}
WRONG = {
    "06.1": [(1, "counted in rows"), (0.00853, "other way round"), (2343.75, "whole budget")],
    "06.2": [
        (by_test, "must not look at"),
        (by_best_seed, "best single seed"),
        (without_ties, "lower held-out loss"),
        (by_loss, "it gave"),
        (whole, "its `setting`"),
        (lambda trials: None, "return"),
        (3, "function"),
    ],
    "06.3": [
        (0.05, "How many"),
        (40, "one in twenty"),
        (1, "two"),
        (38, "hold zero"),
        (0.8715, "at least one"),
    ],
    "06.4": [(0.6, "before it"), (20, "share of the 50"), (0.8, "10 full gradients"), (0.375, "50 passes")],
    "06.5": [("a", "no test of their difference"), ("c", "luck"), ("d", "letters")],
}
