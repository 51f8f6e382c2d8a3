"""The ring of curvature pairs: what is kept, the products beside it, and its way to and from plain tensors."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch

from fuse_lib.optim import history as module
from fuse_lib.optim.history import History
from tests.optim.conftest import Quadratic

pytestmark = pytest.mark.usefixtures("one_thread")
F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
NAN, INF = math.nan, math.inf


def gram(memory) -> tuple[torch.Tensor, torch.Tensor]:
    """SᵀY and YᵀY of the stored rows in float64, oldest pair first. Of SᵀY only i ≤ j is known."""
    s, y = (torch.stack(rows).double() for rows in zip(*memory.pairs(), strict=True))
    return (s @ y.T).triu(), y @ y.T


def stored_gram(memory) -> tuple[torch.Tensor, torch.Tensor]:
    return memory.history.sy.triu(), memory.history.yy


def off(a, b) -> float:
    """The largest error, relative to the largest entry."""
    return float((a - b).abs().max() / b.abs().max())


# ---- the products
@pytest.mark.parametrize(
    ("dtype", "options", "tolerance"),
    [
        (F64, {}, 1e-14),
        (F32, {}, 1e-6),
        (F64, {"damped": True}, 1e-13),
        (F32, {"damped": True}, 1e-5),
        (F64, {"history_dtype": BF16}, 1e-14),
        (F32, {"history_dtype": BF16}, 1e-6),
        (F64, {"size": 1}, 1e-14),
    ],
)
def test_the_gram_matrices_are_those_of_the_buffers(dtype, options, tolerance, make_memory):
    memory = make_memory(dtype=dtype, **options)
    for k, (s, y, g) in enumerate(Quadratic().walk(60, dtype, negative_every=5), 1):
        memory.look(g, s, y)
        for stored, exact in zip(stored_gram(memory), gram(memory), strict=True):
            assert off(stored, exact) <= tolerance
        if k == 33:
            memory.history.clear()


@pytest.mark.parametrize("chunk", [1, 7, 60, 1000])
def test_products_in_chunks_are_products(chunk, make_memory, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    memory = make_memory(size=3, dtype=F32, history_dtype=BF16)
    for s, y, g in Quadratic().walk(3, F32):
        memory.look(g, s, y)
    of_s, of_y = memory.history.times(g).view(-1, 2).T
    assert torch.allclose(of_s, memory.history.S[:3].float() @ g, rtol=1e-5, atol=1e-4)
    assert torch.allclose(of_y, memory.history.Y[:3].float() @ g, rtol=1e-5)
    c = memory.history.direction(memory.of_g, memory.gg)
    rows, of_rows = memory.history.slots, torch.tensor(c.c, dtype=F64).view(-1, 2)
    c_s, c_y = of_rows[rows].T
    total = c.g * g.double() + memory.history.S[rows].double().T @ c_s + memory.history.Y[rows].double().T @ c_y
    assert torch.allclose(memory.history.combine(c, g).double(), total, rtol=1e-4, atol=1e-5)


def test_nothing_is_allocated_before_there_is_a_pair(make_memory):
    memory = make_memory()
    g = torch.ones(60, dtype=F64)
    memory.look(g)
    assert memory.history.S is None
    memory.look(g, g, g)
    assert memory.history.S.shape == memory.history.Y.shape == (11, 60)


def test_the_buffers_have_the_history_dtype(make_memory):
    memory = make_memory(dtype=F32, history_dtype=BF16)
    memory.look(*(torch.ones(60) for _ in range(3)))
    assert memory.history.S.dtype == memory.history.Y.dtype == BF16


def test_the_ring_keeps_the_newest_pairs_in_their_order(make_memory):
    memory = make_memory(size=3, numel=4)
    for k in range(1, 8):
        s = torch.full((4,), float(k), dtype=F64)
        memory.look(s, s, s)
        assert [int(s[0]) for s, _ in memory.pairs()] == list(range(max(1, k - 2), k + 1))


def test_a_cleared_history_is_as_good_as_a_new_one(make_memory):
    used, new = make_memory(), make_memory()
    for s, y, g in Quadratic(seed=1).walk(13, F64):
        used.look(g, s, y)
    used.history.clear()
    assert len(used.history) == 0
    for s, y, g in Quadratic().walk(13, F64):
        used.look(g, s, y)
        new.look(g, s, y)
        assert torch.equal(used.direction(g)[0], new.direction(g)[0])


# ---- which pairs are kept
def judge(cosine: float, scale_s: float = 1.0, scale_y: float = 1.0, dtype=F64, damped=False):
    """The verdict on a pair with this cosine between s and y."""
    ss, sy, yy = scale_s**2, cosine * scale_s * scale_y, scale_y**2
    return History(3, 4, dtype, torch.device("cpu"), None, damped).judge(ss, sy, yy)


@pytest.mark.parametrize("dtype", [F64, F32], ids=str)
@pytest.mark.parametrize(("scale_s", "scale_y"), [(1, 1), (1e-60, 1e60), (1e60, 1e-60), (1e-60, 1e-60), (1e60, 1e60)])
def test_a_pair_is_judged_by_its_angle_whatever_the_scales(scale_s, scale_y, dtype):
    eps = torch.finfo(dtype).eps
    assert judge(100 * eps, scale_s, scale_y, dtype).reason == "kept"
    for cosine in (eps, 0.0, -eps, -1.0):
        assert judge(cosine, scale_s, scale_y, dtype) == (False, "no positive curvature", 1.0)


@pytest.mark.parametrize("damped", [False, True])
@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ((0.0, 0.0, 1.0), "no step"),
        ((1.0, 0.0, 0.0), "gradient did not change"),
        ((NAN, 1.0, 1.0), "not finite"),
        ((1.0, NAN, 1.0), "not finite"),
        ((1.0, 1.0, INF), "not finite"),
    ],
)
def test_pairs_that_say_nothing_are_not_kept(numbers, reason, damped):
    history = History(3, 4, F64, torch.device("cpu"), None, damped)
    assert history.judge(*numbers) == (False, reason, 1.0)


def test_a_pair_that_is_not_kept_changes_nothing(make_memory):
    memory = make_memory(size=3)
    for s, y, g in Quadratic().walk(5, F64):
        memory.look(g, s, y)
    before, pairs = memory.history.state(), [s.clone() for s, _ in memory.pairs()]
    memory.look(g, s, -y)
    memory.look(g, s, y * NAN)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), memory.history.state().values(), strict=True))
    assert all(torch.equal(a, b) for a, (b, _) in zip(pairs, memory.pairs(), strict=True))


def test_damping_moves_y_towards_bs_until_powells_bound_holds(make_memory):
    """Afterwards sᵀy = 0.2 sᵀBs with B = I/γ, γ of the newest pair before it (Nocedal & Wright, procedure 18.2)."""
    memory = make_memory(damped=True)
    damped = 0
    for s, y, g in Quadratic().walk(40, F64, negative_every=3):
        before = memory.pairs()[-1:]
        verdict = memory.look(g, s, y)
        if verdict.reason != "damped" or not before:
            continue
        damped += 1
        b = before[0][1].square().sum() / before[0][0].dot(before[0][1])
        stored = memory.pairs()[-1][1]
        assert float(s.dot(stored)) == pytest.approx(float(0.2 * b * s.dot(s)), rel=1e-10)
        assert torch.allclose(stored, verdict.tau * y + (1 - verdict.tau) * b * s, rtol=1e-10)
    assert damped > 10


@pytest.mark.parametrize("sign", [-1, 0])
def test_the_first_pair_of_a_damped_history_is_mended_too(sign, make_memory):
    memory = make_memory(numel=2, damped=True)
    s = torch.tensor([1.0, 0.0], dtype=F64)
    y = torch.tensor([sign, 1.0], dtype=F64)
    assert memory.look(y, s, y).reason == "damped"
    assert float(s.dot(memory.pairs()[0][1])) > 0


def test_damping_leaves_good_pairs_alone(make_memory):
    plain, damped = make_memory(), make_memory(damped=True)
    for s, _, g in Quadratic().walk(12, F64):
        assert plain.look(g, s, 2 * s).reason == damped.look(g, s, 2 * s).reason == "kept"
    assert torch.equal(plain.history.Y, damped.history.Y)


# ---- pairs of the first phase
@pytest.mark.parametrize("n", [1, 4, 5, 9])
@pytest.mark.parametrize("negative_every", [0, 3])
def test_measuring_later_gives_what_adding_one_by_one_gives(negative_every, n, make_memory):
    one_by_one, later = make_memory(size=5), make_memory(size=5)
    steps = list(Quadratic().walk(n, F64, negative_every))[-5:]
    for s, y, g in steps:
        one_by_one.look(g, s, y)
        later.collect(s, y)
    assert later.history.measure() == (len(one_by_one.history), len(steps))
    for (s1, y1), (s2, y2) in zip(one_by_one.pairs(), later.pairs(), strict=True):
        assert torch.equal(s1, s2)
        assert torch.equal(y1, y2)
    for a, b in zip(stored_gram(later), stored_gram(one_by_one), strict=True):
        assert torch.allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize("n", [3, 7, 12])
def test_a_measured_history_goes_on_like_one_that_was_built_one_by_one(n, make_memory):
    one_by_one, later = make_memory(size=5), make_memory(size=5)
    for s, y, g in list(Quadratic().walk(n, F64, negative_every=2))[-5:]:
        one_by_one.look(g, s, y)
        later.collect(s, y)
    later.history.measure()
    for s, y, g in Quadratic(seed=1).walk(12, F64, negative_every=5):
        assert later.look(g, s, y) == one_by_one.look(g, s, y)
        assert torch.allclose(later.direction(g)[0], one_by_one.direction(g)[0], rtol=1e-9, atol=1e-12)


def test_more_unmeasured_pairs_than_there_is_room_for_leave_the_newest(make_memory):
    memory = make_memory(size=3, numel=2)
    history = memory.history
    for k in range(1, 8):
        memory.collect(torch.full((2,), float(k)), torch.ones(2))
    assert [int(history.S[i, 0]) for i in history.slots] == [5, 6, 7]
    assert history.measure() == (3, 3)


def test_measuring_an_empty_history_is_harmless(make_memory):
    assert make_memory().history.measure() == (0, 0)


def test_measuring_in_a_damped_history_drops_and_does_not_mend(make_memory):
    memory = make_memory(damped=True)
    for s, y, _ in Quadratic().walk(5, F64, negative_every=2):
        memory.collect(s, y)
    assert memory.history.measure() == (3, 5)
    assert memory.history.damped


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_dropped_pair_that_is_not_finite_leaves_no_trace_in_the_direction(bad, make_memory):
    clean, dirty = make_memory(), make_memory()
    for k, (s, y, _) in enumerate(Quadratic().walk(6, F64)):
        if k == 2:
            dirty.collect(s, y * bad)
            dirty.collect(s * bad, y)
        clean.collect(s, y)
        dirty.collect(s, y)
    assert clean.history.measure() == (6, 6)
    assert dirty.history.measure() == (6, 8)
    g = Quadratic().random()
    clean.look(g)
    dirty.look(g)
    assert torch.allclose(dirty.direction(g)[0], clean.direction(g)[0], rtol=1e-12)


# ---- to and from plain tensors
def filled(make_memory, n: int = 8, **options):
    memory = make_memory(size=5, **options)
    for s, y, g in Quadratic().walk(n, memory.history.dtype, negative_every=4):
        memory.look(g, s, y)
    return memory


@pytest.mark.parametrize("n", [2, 8])
@pytest.mark.parametrize("options", [{}, {"dtype": F32, "history_dtype": BF16}, {"damped": True}], ids=str)
def test_state_and_load_are_a_round_trip_bit_for_bit(options, n, make_memory):
    saved, loaded = filled(make_memory, n, **options), make_memory(size=5, **options)
    loaded.history.load(saved.history.state(), saved.history.S, saved.history.Y)
    for a, b in zip(saved.history.state().values(), loaded.history.state().values(), strict=True):
        assert torch.equal(a, b)
    assert loaded.history.S.dtype == saved.history.S.dtype
    for s, y, g in Quadratic(seed=1).walk(9, saved.history.dtype, negative_every=5):
        assert loaded.look(g, s, y) == saved.look(g, s, y)
        assert torch.equal(loaded.direction(g)[0], saved.direction(g)[0])
        assert loaded.direction(g)[1] == saved.direction(g)[1]


def test_load_copies(make_memory):
    saved, loaded = filled(make_memory).history, make_memory(size=5).history
    state = saved.state()
    loaded.load(state, saved.S, saved.Y)
    before = [t.clone() for t in (loaded.S, loaded.Y, loaded.sy, loaded.yy)]
    for tensor in (*state.values(), saved.S, saved.Y):
        tensor.zero_()
    assert all(torch.equal(a, b) for a, b in zip((loaded.S, loaded.Y, loaded.sy, loaded.yy), before, strict=True))


def test_a_state_is_a_copy(make_memory):
    memory = filled(make_memory)
    state = memory.history.state()
    state["sy"].zero_()
    assert memory.history.sy.abs().sum() > 0


def test_a_state_without_pairs_empties_the_history(make_memory):
    memory = filled(make_memory)
    memory.history.load(make_memory(size=5).history.state(), None, None)
    assert len(memory.history) == 0
    assert memory.history.S is None


def misfit(name: str, saved: History) -> tuple[dict, torch.Tensor, torch.Tensor]:
    """What `load` takes, with one thing wrong."""
    state, rows = saved.state(), {"S": saved.S, "Y": saved.Y}
    if name in rows:
        rows[name] = torch.zeros(6, 61, dtype=F64)
    elif name == "repeated slots":
        state["slots"] = torch.tensor([0, 0, 1, 2, 3])
    elif name == "slots":
        state["slots"] = torch.tensor([6, -1, -1, -1, -1])
    else:
        state[name] = torch.zeros(7, 7, dtype=F64)
    return state, rows["S"], rows["Y"]


@pytest.mark.parametrize(
    "name",
    ["S", "Y", "sy", "yy", "slots", "repeated slots"],
)
def test_a_state_that_does_not_fit_is_an_error_and_changes_nothing(name, make_memory):
    memory = filled(make_memory)
    before, rows = memory.history.state(), memory.history.S.clone()
    with pytest.raises(ValueError, match=r"^state_dict: its history .* allowed "):
        memory.history.load(*misfit(name, filled(make_memory, 5).history))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), memory.history.state().values(), strict=True))
    assert torch.equal(memory.history.S, rows)


@pytest.mark.parametrize("copied", [lambda h: pickle.loads(pickle.dumps(h)), copy.deepcopy])
def test_a_copy_writes_its_pairs_to_its_own_buffer(copied, make_memory):
    memory = make_memory(size=3, numel=5)
    for k in range(5):
        memory.look(torch.ones(5, dtype=torch.float64), *(k + torch.ones(2, 5, dtype=torch.float64)))
    history = copied(memory.history)
    s, y = history.free
    s.fill_(7.0)
    y.fill_(8.0)
    assert (history.S[history.spare] == 7.0).all()
    assert (history.Y[history.spare] == 8.0).all()
    assert not (memory.history.S == 7.0).any()
    assert torch.equal(history.times(s)[2 * history.slots[0] :][:1], history.S[history.slots[0]].dot(s).reshape(1))
