"""Networks and the builder: names, order, blocks, and what is wrong with a graph."""

import pytest
from hypothesis import given

from archcalc import analyze
from archcalc.errors import InputError, SpecError
from archcalc.graph import Builder, Network, Node
from archcalc.layers import Add, Concat, Conv2d, Flatten, Input, Linear, ReLU
from tests.strategies import networks

INPUT = Node("input", Input((1, 3, 9, 9)), ())


def test_layers_follow_one_another_unless_told_otherwise() -> None:
    builder = Builder("net", (1, 3, 9, 9))
    first = builder.add(Conv2d(4, 3, padding=1), "conv")
    second = builder.add(ReLU())
    builder.add(Add(), after=(first, second))
    builder.add(ReLU(), after=first)
    net = builder.network()
    assert [(node.name, node.inputs) for node in net] == [
        ("input", ()),
        ("conv", ("input",)),
        ("relu1", ("conv",)),
        ("add1", ("conv", "relu1")),
        ("relu2", ("conv",)),
    ]
    assert len(net) == 5
    assert net["conv"].layer == Conv2d(4, 3, padding=1)
    assert net.input_nodes == (net["input"],)
    assert net.name == "net"


def test_blocks_prefix_names_and_end() -> None:
    builder = Builder("net", (1, 3, 9, 9))
    with builder.block("stage1"):
        builder.add(ReLU(), "relu")
        with builder.block("a"):
            builder.add(ReLU(), "relu")
        with builder.block("features", prefix=False):
            builder.add(ReLU(), "other")
    builder.add(ReLU(), "last")
    found = [(node.name, node.blocks) for node in builder.network()][1:]
    assert found == [
        ("stage1.relu", ("stage1",)),
        ("stage1.a.relu", ("stage1", "a")),
        ("stage1.other", ("stage1", "features")),
        ("last", ()),
    ]


def test_a_block_ends_even_when_something_in_it_fails() -> None:
    builder = Builder("net", (1, 3, 9, 9))
    with pytest.raises(SpecError), builder.block("stage1"):
        builder.add(Conv2d(0, 3))
    assert builder.add(ReLU(), "relu") == "relu"


def test_a_sequence_is_a_chain() -> None:
    net = Network.sequential("net", (1, 3, 9, 9), [Conv2d(4, 3), ReLU(), Conv2d(4, 3), Flatten(), Linear(2)])
    assert [node.name for node in net] == ["input", "conv2d1", "relu1", "conv2d2", "flatten1", "linear1"]
    assert [node.inputs for node in net][1:] == [(node.name,) for node in list(net)[:-1]]
    assert Network.sequential("none", (1, 3), []).nodes == (Node("input", Input((1, 3)), ()),)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((INPUT, Node("a", ReLU(), ("input",)), Node("a", ReLU(), ("a",))), "net: two layers are called 'a'"),
        ((INPUT, Node("a", ReLU(), ("b",))), "net: a takes its input from 'b', which no earlier layer is"),
        (
            (INPUT, Node("a", ReLU(), ("b",)), Node("b", ReLU(), ("input",))),
            "a takes its input from 'b', which no earlier layer is",
        ),
        ((INPUT, Node("a", ReLU(), ("a",))), "a takes its input from 'a', which no earlier layer is"),
        ((INPUT, Node("a", ReLU(), ())), r"net: a \(ReLU\) takes 1 input, not 0"),
        ((INPUT, Node("a", ReLU(), ("input", "input"))), r"a \(ReLU\) takes 1 input, not 2"),
        ((INPUT, Node("a", Add(), ("input",))), r"a \(Add\) takes two or more inputs, not 1"),
        ((INPUT, Node("a", Concat(), ())), r"a \(Concat\) takes two or more inputs, not 0"),
        ((INPUT, Node("b", Input((1, 2)), ("input",))), r"b \(Input\) takes 0 inputs, not 1"),
    ],
)
def test_a_wrong_graph_is_refused(nodes: tuple[Node, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Network("net", nodes)


def test_a_builder_finds_the_same_mistakes() -> None:
    builder = Builder("net", (1, 3, 9, 9))
    builder.add(ReLU(), "a", after="nowhere")
    with pytest.raises(SpecError, match="net: a takes its input from 'nowhere', which no earlier layer is"):
        builder.network()


def test_another_shape_is_for_networks_with_one_input() -> None:
    two = Network("two", (INPUT, Node("other", Input((1, 3, 9, 9)), ())))
    assert [row.output for row in analyze(two)] == [INPUT.layer.output(), (1, 3, 9, 9)]
    with pytest.raises(InputError, match="two has 2 inputs; another shape can be given to networks with one"):
        analyze(two, (1, 3, 9, 9))
    with pytest.raises(InputError, match="none has 0 inputs"):
        analyze(Network("none", ()), (1, 3, 9, 9))


@given(networks())
def test_random_networks_are_in_running_order_and_analyze(network: Network) -> None:
    seen: set[str] = set()
    for node in network:
        assert seen.issuperset(node.inputs)
        assert network[node.name] is node
        seen.add(node.name)
    report = analyze(network)
    assert [row.name for row in report] == [node.name for node in network]
    for row in report:
        assert row.inputs == tuple(report[name].output for name in row.node.inputs)
        assert all(type(extent) is int and extent > 0 for extent in row.output)


@given(networks())
def test_a_network_is_valid_for_every_larger_image(network: Network) -> None:
    n, c, h, w = network.input_nodes[0].layer.output()
    for more in (1, 2, 3, 5, 8):
        analyze(network, (n + more, c, h + more, w + 2 * more))
