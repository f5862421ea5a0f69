"""Thousands of random networks agree with the torch modules built from them, in every shape, parameter and MAC."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings

from archcalc.analysis import analyze
from archcalc.graph import Network
from archcalc.layers import BatchNorm2d, Input
from archcalc.pytorch.build import build
from archcalc.pytorch.crosscheck import TOOLS, check_module
from archcalc.pytorch.observe import observe, random
from archcalc.pytorch.timing import threads
from tests.interpreter import MOVED, PROGRAMS
from tests.strategies import networks

pytestmark = pytest.mark.usefixtures("one_thread")

MANY = max(2000, 10 * settings().max_examples)
"""Networks; HYPOTHESIS_PROFILE=hunt looks at ten times as many."""

SCRIPTED = MANY // 10
"""Networks for the counters that trace or summarise, which takes them longer."""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tensors this small are not worth a second thread, which on a busy machine is waited for."""
    with threads(1):
        yield


def runs(network: Network) -> bool:
    """Whether torch runs it: batch statistics need more than one element a channel."""
    return not any(
        isinstance(row.node.layer, BatchNorm2d)
        and not row.node.layer.track_running_stats
        and math.prod(row.output) == row.output[1]
        for row in analyze(network)
    )


def agrees(network: Network, tools: Iterable[str]) -> None:
    module = build(network)
    for one in check_module(module, network, label="built", tools=tools, exact=True):
        assert one.ok, (one.what, one.remainder, one.mismatches)
        assert one.layers_equal == one.layers_compared
    calls, output = observe(module, random(module.shape, torch.device("cpu")))
    layers = [row for row in analyze(network) if not isinstance(row.node.layer, Input)]
    assert [(call.path, call.kind, call.output) for call in calls] == [
        (row.name, row.kind, row.output) for row in layers
    ]
    assert output == (analyze(network).rows[-1].output,)


def nothing_is_overwritten(network: Network) -> None:
    """In place or not, the output is the same, and the caller's input as it was."""
    nodes = [
        replace(node, layer=replace(node.layer, inplace=False)) if hasattr(node.layer, "inplace") else node  # type: ignore[call-arg]
        for node in network
    ]
    module, reference = build(network).eval(), build(Network(network.name, tuple(nodes))).eval()
    reference.load_state_dict(module.state_dict())
    x = random(module.shape, torch.device("cpu"))
    kept = x.clone()
    with torch.no_grad():
        same = module(x), reference(kept.clone())
    torch.testing.assert_close(*same, rtol=0, atol=0, equal_nan=True)  # a window of padding alone has no largest value
    assert torch.equal(x, kept)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_random_networks_agree_with_torch() -> None:
    seen: Counter[str] = Counter()
    different = set()

    @settings(max_examples=MANY)
    @given(networks())
    def check(network: Network) -> None:
        if runs(network):
            agrees(network, ["torch"])
            nothing_is_overwritten(network)
            different.add(network)
            seen.update({node.layer.kind for node in network})

    check()
    assert len(different) >= 0.9 * MANY
    assert min(seen[kind] for kind in PROGRAMS.keys() | MOVED) >= MANY / 50, seen


def test_random_networks_agree_with_every_counter() -> None:
    @settings(max_examples=SCRIPTED)
    @given(networks())
    def check(network: Network) -> None:
        if runs(network):
            agrees(network, TOOLS)

    check()
