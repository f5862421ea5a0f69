"""Loose operations: their nests run literally give torch's output; views and parts have torch's shapes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from archcalc.errors import ShapeError, SpecError
from archcalc.layers.operation import (
    Bags,
    GroupedMatMul,
    MatMul,
    Pad,
    Part,
    Permute,
    Reduce,
    Reshape,
    Scattered,
    Select,
    Slice,
    WeightNorm,
    broadcast,
    regrouped,
)
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


@pytest.mark.parametrize("dim", [0, 1, 2])
@given(shape=st.tuples(SIZE, SIZE, SIZE), seed=st.integers(0, 99))
def test_weight_normalisation_run_literally_is_torchs(dim: int, shape: tuple[int, ...], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    v = integers(shape, random) + 10
    kept = tuple(size if axis == dim else 1 for axis, size in enumerate(shape))
    g = integers(kept, random)
    squares, roots, products = WeightNorm("weight_norm", dim).nests(shape, kept)
    ops = Ops()
    total = execute(squares, [v], {}, lambda index, total, x: ops.add(total, ops.mul(x, x)), ops)
    scale = execute(roots, [total], {}, lambda index, _, x: ops.div(g[index].item(), ops.sqrt(x)), ops)
    found = execute(products, [v], {}, lambda index, _, x: ops.mul(x, _along(scale, index)), ops)
    torch.testing.assert_close(found, torch._weight_norm(v, g, dim))


def _along(tensor: Tensor, index: tuple[int, ...]) -> float:
    return tensor[tuple(min(i, size - 1) for i, size in zip(index, tensor.shape, strict=True))].item()


@given(rows=SIZE, many=SIZE, width=SIZE, seed=st.integers(0, 99))
def test_what_is_added_by_index_run_literally_is_torchs(rows: int, many: int, width: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    x, source = integers((rows, width), random), integers((many, width), random)
    index = torch.randint(rows, (many,), generator=random)
    layer = Scattered("index_add", (), (), copied=0, ops=(("add", 1),))
    added, output = layer.nests((rows, width), (many,), (many, width))
    found, ops = x.clone(), Ops()

    def put(place: tuple[int, ...], _: float, value: float) -> float:
        row, column = int(index[place[0]]), place[1]
        found[row, column] = ops.add(found[row, column].item(), value)
        return 0.0

    execute(added, [source], {}, put, ops)
    assert torch.equal(found, x.index_add(0, index, source))
    assert (output.output, dict(output.ops)) == ((rows, width), {})


@pytest.mark.parametrize("mode", ["sum", "mean"])
@given(sizes=st.lists(SIZE, min_size=1, max_size=3), width=SIZE, seed=st.integers(0, 99))
def test_bags_run_literally_are_torchs(mode: str, sizes: list[int], width: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    table, ids = integers((5, width), random), torch.randint(5, (sum(sizes),), generator=random)
    bags = [bag for bag, size in enumerate(sizes) for _ in range(size)]
    finish = (("div", 1),) if mode == "mean" else ()
    given_ = (5, width), (len(ids),), (len(sizes),)
    layer = Bags("embedding_bag", given_, (len(sizes), width), ops=(("add", 1),), finish=finish)
    rows, result = layer.nests(*given_)
    sums, ops = torch.zeros(len(sizes), width, dtype=torch.float64), Ops()

    def put(place: tuple[int, ...], _: float, value: float) -> float:
        bag, column = bags[place[0]], place[1]
        sums[bag, column] = ops.add(sums[bag, column].item(), value)
        return 0.0

    execute(rows, [table[ids]], {}, put, ops)
    last = (lambda index, _, x: ops.div(x, sizes[index[0]])) if finish else (lambda index, _, x: x)
    found = execute(result, [sums], {}, last, ops)
    offsets = torch.tensor([sum(sizes[:bag]) for bag in range(len(sizes))])
    torch.testing.assert_close(found, torch.nn.functional.embedding_bag(ids, table, offsets, mode=mode))


@given(groups=st.lists(SIZE, min_size=1, max_size=3), c=SIZE, k=SIZE, seed=st.integers(0, 99))
def test_a_product_in_groups_run_literally_is_torchs(groups: list[int], c: int, k: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    x, weights = integers((sum(groups), c), random), integers((len(groups), c, k), random)
    group = [i for i, size in enumerate(groups) for _ in range(size)]
    (nest,) = GroupedMatMul("grouped_mm").nests(tuple(x.shape), tuple(weights.shape), (len(groups),))
    found = torch.zeros(nest.output, dtype=torch.float64)
    macs = 0
    for row in range(nest.loops["M"]):
        for column in range(nest.loops["K"]):
            for inner in range(nest.loops["C"]):
                found[row, column] += x[row, inner] * weights[group[row], inner, column]
                macs += 1
    expected = torch.cat([part @ weight for part, weight in zip(torch.split(x, groups), weights, strict=True)])
    assert torch.equal(found, expected)
    assert macs == nest.iterations


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
