"""Loose operations: their nests run literally give torch's output; views and parts have torch's shapes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from archcalc.errors import ShapeError, SpecError
from archcalc.layers.operation import MatMul, Pad, Part, Permute, Reduce, Reshape, Select, Slice, broadcast, regrouped
from archcalc.pytorch.operations import RULES
from tests.interpreter import Ops, execute, integers

SIZE = st.integers(1, 4)


def products(n: int, p: int, c: int, k: int) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    return {
        "mm": ((p, c), (c, k)),
        "bmm": ((n, p, c), (n, c, k)),
        "mv": ((p, c), (c,)),
        "dot": ((c,), (c,)),
    }


@pytest.mark.parametrize("op", ["mm", "bmm", "mv", "dot"])
@given(n=SIZE, p=SIZE, c=SIZE, k=SIZE, seed=st.integers(0, 99))
def test_a_matrix_product_run_literally_is_torchs(op: str, n: int, p: int, c: int, k: int, seed: int) -> None:
    shapes = products(n, p, c, k)[op]
    random = torch.Generator().manual_seed(seed)
    a, b = (integers(shape, random) for shape in shapes)
    (nest,) = MatMul(op).nests(*shapes)
    ops = Ops()
    found = execute(nest, [a, b], {}, lambda index, total, x, y: ops.mac(total, x, y), ops)
    assert torch.equal(found, getattr(torch, op)(a, b))
    assert ops == {"mac": nest.iterations}


@pytest.mark.parametrize(("op", "run"), [("sum", torch.sum), ("amax", torch.amax)])
@given(shape=st.lists(SIZE, min_size=1, max_size=4).map(tuple), keepdim=st.booleans(), data=st.data())
def test_a_reduction_run_literally_is_torchs(
    op: str, run: object, shape: tuple[int, ...], keepdim: bool, data: st.DataObject
) -> None:
    dims = tuple(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    x: Tensor = integers(shape, torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    kind = "add" if op == "sum" else "cmp"
    (nest,) = Reduce(op, ((kind, 1),), dims, keepdim).nests(shape)
    ops = Ops()
    body = (lambda index, total, v: ops.add(v, total)) if op == "sum" else (lambda index, total, v: ops.cmp(total, v))
    start = 0.0 if op == "sum" else float("-inf")
    found = execute(nest, [x], {}, body, ops, start=start)
    assert torch.equal(found, run(x, dim=dims, keepdim=keepdim))  # type: ignore[operator]
    assert nest.iterations == x.numel()


@given(st.lists(SIZE, min_size=1, max_size=4).map(tuple), st.data())
def test_views_and_parts_have_torchs_shapes(shape: tuple[int, ...], data: st.DataObject) -> None:
    x = torch.empty(shape, device="meta")
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    start, stop = data.draw(st.integers(0, 5)), data.draw(st.none() | st.integers(0, 5))
    step = data.draw(st.integers(1, 3))
    index = [slice(None)] * len(shape)
    index[dim] = slice(start, stop, step)
    expected = tuple(x[tuple(index)].shape)
    if all(expected):
        assert Slice("slice", dim, start, stop, step).output(shape) == expected
    assert Select("select", dim).output(shape) == tuple(x.select(dim, 0).shape)
    order = tuple(data.draw(st.permutations(range(len(shape)))))
    assert Permute("permute", order).output(shape) == tuple(x.permute(order).shape)
    more = data.draw(st.integers(0, 3))
    assert Pad("pad", (0,) * (len(shape) - 1) + (more,)).output(shape) == tuple(
        torch.nn.functional.pad(x, (0, more)).shape
    )
    other = tuple(data.draw(st.sampled_from([extent, 1])) for extent in shape[data.draw(st.integers(0, len(shape))) :])
    assert broadcast(shape, other) == tuple(torch.empty(shape).add(torch.empty(other)).shape)


@given(st.lists(SIZE, min_size=1, max_size=4).map(tuple), st.data())
def test_a_view_read_from_the_shapes_gives_the_shape_again(shape: tuple[int, ...], data: st.DataObject) -> None:
    count = 1
    for extent in shape:
        count *= extent
    divisor = data.draw(st.sampled_from([d for d in range(1, count + 1) if count % d == 0]))
    try:
        groups = regrouped(shape, (divisor, count // divisor))
    except SpecError:
        return
    assert Reshape("view", groups).output(shape) == (divisor, count // divisor)


def test_sizes_that_are_not_there_are_refused() -> None:
    with pytest.raises(ShapeError, match="split takes any×58, which is not in it"):
        Part("split", (None, 58)).output((1, 57))
    with pytest.raises(ShapeError, match="inner sizes of a matrix product must be equal, not 3 and 4"):
        MatMul("mm").nests((2, 3), (4, 5))
    with pytest.raises(ShapeError, match="the size of view is baked in: 32 cannot be 4×7"):
        Reshape("view", (((0,), (4, 7)),)).output((32,))
    with pytest.raises(ShapeError, match="tensors cannot be broadcast"):
        broadcast((2, 3), (2, 4))


def test_every_rule_is_of_an_operation_that_is_dispatched() -> None:
    for name in RULES:
        assert "::" in name or hasattr(torch.ops.aten, name), name
