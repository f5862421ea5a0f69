"""The layers of LeNet-5 that PyTorch has no module for: nests run literally, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from archcalc import Network, analyze
from archcalc.errors import ShapeError, SpecError
from archcalc.layers import RBF, Layer, TableConv2d
from archcalc.nest import ledger
from archcalc.pytorch.build import build
from tests.interpreter import Index, Ops, execute, integers

tables = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True).map(tuple), min_size=1, max_size=4)


def built(layer: Layer, shape: tuple[int, ...]) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """An input, the state of the module that is built, and what it puts out."""
    random = torch.Generator().manual_seed(0)
    module = build(Network.sequential("net", shape, [layer])).double()
    state = {name.partition(".")[2]: value for name, value in module.state_dict().items()}
    for value in state.values():
        value.copy_(integers(tuple(value.shape), random))
    x = integers(shape, random)
    return x, state, module(x.clone()).detach()


@given(tables.map(tuple), st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_a_convolution_by_a_table_is_a_dense_one_with_the_other_weights_zero(table: Any, kernel: Any) -> None:
    layer, shape = TableConv2d(table, kernel), (2, 4, 3, 4)
    x, state, output = built(layer, shape)
    dense = torch.zeros(len(table), 4, *kernel, dtype=torch.float64)
    places = [(k, i) for k, row in enumerate(table) for i in row]
    for (k, i), weight in zip(places, state["weight"], strict=True):
        dense[k, i] = weight
    assert torch.equal(output, functional.conv2d(x, dense, state["bias"]))

    nests, ops = layer.nests(shape), Ops()
    sums: dict[Index, float] = {}
    first = [k for k, _ in places]

    def go_on(index: Index, _: float, x: float, weight: float) -> float:
        of_map = (index[0], first[index[1]], *index[2:])
        sums[of_map] = ops.mac(sums.get(of_map, 0.0), x, weight)
        return sums[of_map]

    # the connections of a map run one after the other: its sums are those of the last
    partial = execute(nests[0], [x[:, [i for _, i in places]]], state, go_on, ops)
    last = [max(t for t, (k, _) in enumerate(places) if k == output) for output in range(len(table))]
    taken = execute(nests[1], [partial], {}, lambda i, _, x: float(partial[i[0], last[i[1]], i[2], i[3]]), ops)
    total = execute(nests[2], [taken], state, lambda _, __, x, b: ops.bias_add(x, b), ops)
    assert torch.equal(total, output)
    assert dict(ops) == ledger(nests)
    assert ops["mac"] == 2 * output[0, 0].numel() * state["weight"].numel()


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_squared_distances(batch: int, centres: int, width: int) -> None:
    layer, shape = RBF(centres), (batch, width)
    x, state, output = built(layer, shape)
    assert torch.equal(output, torch.stack([((x - centre) ** 2).sum(1) for centre in state["centres"]], 1))
    nests, ops = layer.nests(shape), Ops()

    def body(_: Index, total: float, x: float, centre: float) -> float:
        difference = ops.add(x, -centre)
        return ops.add(total, ops.mul(difference, difference))

    assert torch.equal(execute(nests[0], [x], state, body, ops), output)
    assert dict(ops) == ledger(nests)
    row = analyze(Network.sequential("net", shape, [layer])).rows[-1]
    assert (row.params, row.buffers) == (0, centres * width)


@pytest.mark.parametrize("table", [(), ((0,), ()), ((-1,),), ((True,),), ((0.5,),), "01", 3])
def test_a_table_that_is_none(table: Any) -> None:
    with pytest.raises(SpecError, match="it must list one or more input maps for each output map"):
        TableConv2d(table, 3)


def test_a_table_for_another_input() -> None:
    with pytest.raises(ShapeError, match="connects map 5, counted from 0, but the input has 4 maps"):
        TableConv2d(((0, 5),), 3).nests((1, 4, 8, 8))
    with pytest.raises(ShapeError, match="a kernel that spans 3 is larger"):
        TableConv2d(((0, 1),), 3).nests((1, 4, 2, 8))
    with pytest.raises(ShapeError, match="needs an input of 2 axes"):
        RBF(3).nests((1, 2, 3))
    with pytest.raises(SpecError, match="out_features is 0"):
        RBF(0)
