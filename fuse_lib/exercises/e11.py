"""The exercises of notebook 11."""

import math

import torch

from fuse_lib.exercises.core import Choice, Exercise, Number, Wrong, as_float, call

PRODUCT = '''
def product(gradient, x, v, h=1e-6):
    """H v at x, from two gradients."""
    return (gradient(x + h * v) - gradient(x)) / h
'''
SHARE = '''
def share_of_columns(table):
    """The share of the variance of a table that its columns' means explain."""
    columns = [sum(row[j] for row in table) / len(table) for j in range(len(table[0]))]
    mean = sum(columns) / len(columns)
    total = sum((value - mean) ** 2 for row in table for value in row) / len(table) / len(columns)
    return sum((c - mean) ** 2 for c in columns) / len(columns) / total
'''


def _product(function: object) -> str:
    A = torch.tensor([[2.0, 1.0], [1.0, 30.0]], dtype=torch.float64)
    calls = 0

    def gradient(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return A @ x + 4 * x**3

    x, v = torch.tensor([0.5, -1.0], dtype=torch.float64), torch.tensor([3.0, 1.0], dtype=torch.float64)
    got = call(function, gradient, x, v)
    if not isinstance(got, torch.Tensor) or got.shape != x.shape:
        raise Wrong(f"it should return a tensor of shape {tuple(x.shape)}, like v; it returned {type(got).__name__}")
    right = A @ v + 12 * x**2 * v
    if calls == 0:
        raise Wrong("it never called gradient(…)")
    if torch.allclose(got, right, rtol=1e-3):
        return f"{calls} gradients for a whole product with the Hessian, which was never formed."
    if torch.allclose(got, -right, rtol=1e-3):
        raise Wrong("the sign is wrong: the gradient at the far end comes first")
    size = float(got.norm() / right.norm())
    if size < 1e-3 or size > 1e3:
        raise Wrong(f"its length is {size:.1g} times what it should be: is the difference divided by h, once?")
    raise Wrong("is one gradient taken at x + h·v, and the other at x?")


def _share(function: object) -> str:
    for table, right in [([[0.0, 4.0], [0.0, 4.0]], 1.0), ([[0.0, 0.0], [4.0, 4.0]], 0.0),
                         ([[1.0, 3.0], [3.0, 5.0]], 0.5), ([[0.0, 6.0, 0.0], [2.0, 8.0, 2.0]], 8 / 9)]:  # fmt: skip
        got = as_float(call(function, table))
        if math.isclose(got, right, rel_tol=1e-3, abs_tol=1e-6):
            continue
        said = f"for {table} it gave {got:.4g}"
        if math.isclose(got, 1 - right, rel_tol=1e-3, abs_tol=1e-6):
            raise Wrong(f"{said}, which is the share of the rows")
        if got > 1.001:
            raise Wrong(f"{said}; a share is at most 1: divide by the variance of all values")
        raise Wrong(
            f"{said}: take the mean of each column, and the mean square of how far those are from the mean of all"
        )
    return (
        "That is the number of the bars: rows are first phases, columns second phases, and the values log10 of the gap."
    )


EXERCISES = (
    Exercise(
        "11.1",
        Choice(
            "c",
            "each of the 12 inner steps of conjugate gradients takes one product, a product one call; the start's is known.",
            {
                "a": "the products are closure calls too: a difference of two gradients, one of which is known.",
                "b": "the start's gradient is the same for all products; it is not taken anew for each.",
            },
        ),
        "c",
        "(c). 12 products, one call each, and 1 for the search's trial.",
        ["What does one product with the Hessian cost, if ∇f(x) is known?", "Then add the search."],
    ),
    Exercise(
        "11.2",
        _product,
        "product",
        PRODUCT,
        ["H is the derivative of the gradient: along v it is the limit of a quotient.", "(∇f(x + h v) − ∇f(x)) / h."],
        code=True,
    ),
    Exercise(
        "11.3",
        _share,
        "share_of_columns",
        SHARE,
        ["The mean of each column; the mean of all.", "The variance of the columns' means over the variance of all."],
        code=True,
    ),
    Exercise(
        "11.4",
        Choice(
            "b",
            "the share says which choice moves the result among these candidates, over these problems and this budget.",
            {
                "a": "the share is about which first phase, all of them tuned. Whether to have one at all is another question.",
                "c": "without a search and so slow, one bad candidate adds variance by itself; so look at the bars without it.",
            },
        ),
        "b",
        "(b). A share of variance is a property of the candidates that were compared, and not only of the question.",
        ["What are a share's candidates?", "What would happen to it if a useless second phase were added to the list?"],
    ),
    Exercise(
        "11.5",
        Number(
            math.log(1e6) / math.log(101 / 99),
            "√κ = 100, so that each iteration leaves 99/101 of the error, and 0.98 to the power 691 is a millionth.",
            [
                (
                    math.log(1e6) / math.log(10001 / 9999),
                    "that is the gradient method's, whose factor has κ itself and not its root.",
                ),
                (math.log10(1e6) / math.log(101 / 99), "use the same logarithm above and below."),
                (6.0, "six decades; how many iterations does one of them take?"),
            ],
            tolerance=0.02,
        ),
        math.log(1e6) / math.log(101 / 99),
        "ln(10⁶) / ln(101/99) = 13.8 / 0.0200 = 691. Finite termination would end it after 200 at the latest, were there no rounding.",
        ["The error after k iterations is at most ((√κ − 1)/(√κ + 1))ᵏ of the first.", "Solve for k: logarithms."],
    ),
)
