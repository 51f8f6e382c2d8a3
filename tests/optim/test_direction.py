"""The compact L-BFGS direction against the textbook's two loops, from the same stored pairs."""

from __future__ import annotations

import pytest
import torch

from fuse_lib.optim.direction import compact
from tests.optim.conftest import Quadratic
from tests.optim.two_loop import two_loop

pytestmark = pytest.mark.usefixtures("one_thread")
F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
TOLERANCE = {F64: 1e-10, F32: 1e-4}
CASES = {
    "plain": {},
    "bfloat16 history": {"history_dtype": BF16},
    "damped": {"damped": True},
    "one pair": {"size": 1},
    "two pairs": {"size": 2},
}


def error(p, exact) -> float:
    return float((p.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("dtype", [F64, F32], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_the_direction_is_the_two_loops_over_200_updates(case, dtype, make_memory):
    memory = make_memory(dtype=dtype, **CASES[case])
    reasons, kept = set(), 0
    for k, (s, y, g) in enumerate(Quadratic().walk(200, dtype, negative_every=7), 1):
        if k == 101:
            memory.history.clear()
            kept = 0
        verdict = memory.look(g, s, y)
        reasons.add(verdict.reason)
        kept += verdict.keep
        assert len(memory.history) == min(memory.history.size, kept)
        p, slope = memory.direction(g)
        exact = two_loop(memory.pairs(), g)
        assert error(p, exact) <= TOLERANCE[dtype]
        assert slope == pytest.approx(float(exact.dot(g.double())), rel=TOLERANCE[dtype])
    assert reasons == {"kept", "damped" if case == "damped" else "no positive curvature"}


@pytest.mark.parametrize("dtype", [F64, F32], ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_the_direction_is_the_two_loops_along_its_own_path(seed, dtype, make_memory):
    """L-BFGS's own steps are nearly dependent, which is harder on R⁻¹ than random ones."""
    a = Quadratic(seed=seed).hessian()
    x = Quadratic(seed=seed).random(seed=1)
    memory = make_memory(dtype=dtype)
    s = y = None
    for _ in range(60):
        g = (a @ x).to(dtype)
        memory.look(g, s, y)
        p = memory.direction(g)[0].double() if memory.history else -1e-4 * g.double()
        if memory.history:
            assert error(p, two_loop(memory.pairs(), g)) <= TOLERANCE[dtype]
        step = 0.7 * p
        x, s, y = x + step, step.to(dtype), (a @ step).to(dtype)


def test_a_damped_pair_in_a_narrow_history_has_nearly_the_products_of_what_is_stored(make_memory):
    """Its products are mixed from those of s and y and not rounded as the mixed vector then is: bfloat16's 2⁻⁸."""
    memory = make_memory(history_dtype=BF16, damped=True)
    for s, y, g in Quadratic().walk(50, F64, negative_every=3):
        memory.look(g, s, y)
        assert error(memory.direction(g)[0], two_loop(memory.pairs(), g)) <= 0.01


def test_a_full_memory_of_a_quadratic_in_as_many_variables_gives_newtons_step(make_memory):
    """With d conjugate steps BFGS knows the Hessian: −Hg = −A⁻¹g."""
    d = 6
    a = Quadratic(d, condition=100).hessian()
    _, steps = torch.linalg.eigh(a)
    memory = make_memory(size=d, numel=d)
    g = Quadratic(d, seed=1).random()
    for s in steps.T:
        memory.look(g, s, a @ s)
    assert error(memory.direction(g)[0], -torch.linalg.solve(a, g)) < 1e-13


def test_the_newest_pair_fulfils_the_secant_condition(make_memory):
    """H y = s for the newest pair, so that the direction at g = y is −s."""
    memory = make_memory()
    for s, y, _ in Quadratic().walk(15, F64):
        memory.look(y, s, y)
        assert error(memory.direction(y)[0], -s) < 1e-12


def test_the_direction_goes_downhill(make_memory):
    memory = make_memory()
    for s, y, g in Quadratic().walk(50, F64, negative_every=4):
        memory.look(g, s, y)
        p, slope = memory.direction(g)
        assert slope < 0
        assert float(p.dot(g)) == pytest.approx(slope, rel=1e-9)


def test_compact_does_not_read_the_lower_triangle():
    """There the ring leaves products with pairs that are gone."""
    s, y = Quadratic().random(4, seed=1), Quadratic().random(4, seed=1) @ Quadratic().hessian()
    g = Quadratic().random(seed=2)
    clean = compact(s @ y.T, y @ y.T, s @ g, y @ g, float(g @ g))
    stale = torch.where(torch.ones(4, 4).triu() > 0, s @ y.T, torch.nan)
    dirty = compact(stale, y @ y.T, s @ g, y @ g, float(g @ g))
    assert torch.equal(clean.s, dirty.s)
    assert torch.equal(clean.y, dirty.y)
    assert clean[2:] == dirty[2:]


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_direction_scales_with_the_variables(scale, make_memory):
    """In x/c, gradients are c times as large and −Hg is 1/c times as large."""
    plain, scaled = make_memory(), make_memory()
    for s, y, g in Quadratic().walk(20, F64):
        plain.look(g, s, y)
        scaled.look(scale * g, s / scale, scale * y)
        assert error(scaled.direction(scale * g)[0] * scale, plain.direction(g)[0]) < 1e-9
