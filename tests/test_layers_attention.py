"""Attention and tokens: nests run literally against torch, against traces, and what is refused."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from archcalc import Network, analyze
from archcalc.errors import ShapeError, SpecError
from archcalc.layers import (
    ClassToken,
    ImageToTokens,
    Layer,
    MultiheadAttention,
    PositionalEmbedding,
    Softmax,
    TakeToken,
)
from archcalc.nest import ledger
from archcalc.pytorch.build import build
from archcalc.pytorch.trace import trace
from tests.interpreter import Index, Ops, execute, integers, softmax


def built(layer: Layer, shape: tuple[int, ...]) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """An input, the state of the module that is built, and what it puts out."""
    random = torch.Generator().manual_seed(0)
    module = build(Network.sequential("net", shape, [layer])).double().eval()
    state = {name.partition(".")[2]: value for name, value in module.state_dict().items()}
    for value in state.values():
        value.copy_(integers(tuple(value.shape), random) / 9)
    x = integers(shape, random) / 9
    with torch.no_grad():
        return x, state, module(x.clone())


@settings(max_examples=15)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 3)), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.booleans()
)
def test_attention_run_literally(outer: tuple[int, int], heads: int, width: int, bias: bool, batch_first: bool) -> None:
    layer, shape = MultiheadAttention(heads, bias=bias, batch_first=batch_first), (*outer, heads * width)
    x, state, expected = built(layer, shape)
    nests, ops = list(layer.nests(shape)), Ops()

    def linear(x: Tensor) -> Tensor:
        y = execute(nests.pop(0), [x], state, lambda _, total, x, w: ops.mac(total, x, w), ops)
        return execute(nests.pop(0), [y], state, lambda _, __, y, b: ops.bias_add(y, b), ops) if bias else y

    queries, keys, values = linear(x).chunk(3, -1)
    scale = width**-0.25
    scaled = execute(nests.pop(0), [torch.stack([queries, keys])], {}, lambda _, __, x: ops.mul(x, scale), ops)

    def by_head(y: Tensor) -> Tensor:
        y = y if batch_first else y.transpose(0, 1)
        return y.reshape(*y.shape[:2], heads, width).transpose(1, 2)

    def product(index: Index, total: float, a: float, b: float) -> float:
        return ops.mac(total, a, b)

    scores = execute(nests.pop(0), [by_head(scaled[0]), by_head(scaled[1])], {}, product, ops)
    steps, nests = nests[:3], nests[3:]
    weights = softmax(Softmax(-1), tuple(steps), [scores], {}, ops)
    summed = execute(nests.pop(0), [weights, by_head(values)], {}, product, ops)
    found = linear(summed)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert nests == []
    assert dict(ops) == ledger(layer.nests(shape))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_costs_what_its_trace_costs(bias: bool, batch_first: bool) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(12, 3, bias=bias, batch_first=batch_first)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.attention(x, x, x, need_weights=False)[0]
            return output

    traced = analyze(trace(Attention(), (5, 7, 12))).total
    layer = MultiheadAttention(3, bias=bias, batch_first=batch_first)
    ours = analyze(Network.sequential("net", (5, 7, 12), [layer])).total
    assert (ours.weights, ours.biases, ours.macs) == (traced.weights, traced.biases, traced.macs)
    # torch adds the biases within its products
    mine, theirs = Counter(ours.ledger), Counter(traced.ledger)
    mine["add"] += mine.pop("bias_add", 0)
    theirs["add"] += theirs.pop("bias_add", 0)
    assert +mine == +theirs


def test_attention_of_a_vision_transformer() -> None:
    # 197 tokens of 768 numbers: four maps of 768², and two products of 197² pairs with 768 numbers
    layer = MultiheadAttention(12, batch_first=True)
    row = analyze(Network.sequential("net", (1, 197, 768), [layer])).rows[-1]
    assert row.macs == 4 * 197 * 768**2 + 2 * 197**2 * 768
    assert (row.weights, row.biases) == (4 * 768**2, 4 * 768)
    assert row.output == (1, 197, 768)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_tokens(batch: int, length: int, width: int) -> None:
    shape = (batch, length, width)
    ops = Ops()
    x, state, expected = built(ClassToken(), shape)
    (nest,) = ClassToken().nests(shape)
    before = execute(nest, [x], state, lambda i, _, x, token: token if i[1] == 0 else x, ops, outside=float("nan"))
    assert torch.equal(before, expected)
    assert ops == Counter()

    x, state, expected = built(PositionalEmbedding(length), shape)
    (nest,) = PositionalEmbedding(length).nests(shape)
    assert torch.equal(execute(nest, [x], state, lambda _, __, x, place: ops.add(x, place), ops), expected)
    assert dict(ops) == ledger((nest,))

    x, _, expected = built(TakeToken(length - 1), shape)
    assert torch.equal(expected, x[:, -1])
    assert TakeToken(length - 1).output(shape) == tuple(expected.shape)

    x, _, expected = built(ImageToTokens(), (*shape, 2))
    assert torch.equal(expected, x.reshape(batch, length, -1).transpose(1, 2))
    assert ImageToTokens().output((*shape, 2)) == tuple(expected.shape)


def test_what_is_refused() -> None:
    cases: list[tuple[Layer, tuple[int, ...], str]] = [
        (MultiheadAttention(5), (7, 1, 12), r"channels in \(=12\) must be divisible by num_heads \(=5\)"),
        (MultiheadAttention(3), (7, 12), r"needs an input of 3 axes \(L, N, C\), not 2"),
        (MultiheadAttention(3, batch_first=True), (7, 12), r"needs an input of 3 axes \(N, L, C\), not 2"),
        (ImageToTokens(), (1, 2, 3), "needs an input of 4 axes"),
        (ClassToken(), (1, 2), "needs an input of 3 axes"),
        (PositionalEmbedding(197), (1, 198, 768), "has vectors for sequences of 197 tokens .*, not of 198"),
        (TakeToken(3), (1, 3, 8), "there is no token 3 .* among 3"),
    ]
    for layer, shape, message in cases:
        with pytest.raises(ShapeError, match=message):
            layer.output(shape)
    for make in (
        lambda: MultiheadAttention(0),
        lambda: MultiheadAttention(2, dropout=2.0),
        lambda: PositionalEmbedding(0),
        lambda: TakeToken(-1),
    ):
        with pytest.raises(SpecError):
            make()
