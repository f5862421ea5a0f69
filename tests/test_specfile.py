"""Spec files: what they describe, that networks read back equal, and that bad ones end in one clear error."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import archcalc as ac
from archcalc import zoo
from archcalc.errors import ArchcalcError, InputError, ShapeError, SpecError
from archcalc.graph import Builder, Held, Network, Node
from archcalc.layers import (
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Flatten,
    Input,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Tanh,
)
from archcalc.layers.operation import Elementwise
from archcalc.specfile import dumps, read
from tests import strategies
from tests.conftest import Shell

LENET = """\
name: lenet
input: 1x32x32
layers:
  - Conv2d(6, 5)
  - Tanh
  - AvgPool2d(2)
  - Conv2d(16, 5)
  - Tanh
  - AvgPool2d(2)
  - Flatten
  - Linear(120)
  - Tanh
  - Linear(84)
  - Tanh
  - Linear(10)
"""

INCEPTION = """\
input: 64x28x28
layers:
  - join: Concat
    branches:
      - Conv2d(8, 1), ReLU
      - Conv2d(4, 1), ReLU, Conv2d(8, 3, padding=1), ReLU
      - - pool: MaxPool2d(3, stride=1, padding=1)
        - proj: Conv2d(8, 1)
"""

RESIDUAL = """\
name: net
input: 16x8x8
blocks:
  basic(width, stride=1, bias=false):
    - conv1: Conv2d(width, 3, stride=stride, padding=1, bias=bias)
    - sum: Add
      branches:
        - BatchNorm2d, ReLU, Conv2d(2 * width // 2, 3, padding=1)
        - []
layers:
  - stage1:
      - 0: basic(8)
        repeat: 2
  - stage2:
      - 0: basic(16, stride=2)
"""


def spec(text: str, file: str = "net.yaml") -> Network:
    return read(text.encode(), file)


def layers(text: str, input: str = "3x8x8") -> Network:
    """A network of the layers alone."""
    lines = "".join(f"  {line}\n" for line in text.splitlines())
    return spec(f"name: net\ninput: {input}\nlayers:\n{lines}")


# What a file describes


def test_a_lenet_of_fifteen_lines() -> None:
    network = spec(LENET)
    assert len(LENET.splitlines()) == 15
    pieces = [Conv2d(6, 5), Tanh(), AvgPool2d(2), Conv2d(16, 5), Tanh(), AvgPool2d(2), Flatten()]
    pieces += [Linear(120), Tanh(), Linear(84), Tanh(), Linear(10)]
    assert network == Network.sequential("lenet", (1, 1, 32, 32), pieces)
    # (5·5·1 + 1)·6 + (5·5·6 + 1)·16 + (400 + 1)·120 + (120 + 1)·84 + (84 + 1)·10
    assert ac.analyze(network).total.params == 156 + 2416 + 48120 + 10164 + 850


def test_several_layers_on_a_line_are_several_layers() -> None:
    short = layers("- Conv2d(6, 5), Tanh, AvgPool2d(2)\n- Flatten, Linear(10)")
    assert short == layers("- Conv2d(6, 5)\n- Tanh\n- AvgPool2d(2)\n- Flatten\n- Linear(10)")


def test_branches_start_at_one_layer_and_are_joined_in_their_order() -> None:
    net = Builder("net", (1, 64, 28, 28))
    ends = []
    net.add(Conv2d(8, 1))
    ends.append(net.add(ReLU()))
    net.add(Conv2d(4, 1), after="input")
    net.add(ReLU())
    net.add(Conv2d(8, 3, padding=1))
    ends.append(net.add(ReLU()))
    net.add(MaxPool2d(3, stride=1, padding=1), "pool", after="input")
    ends.append(net.add(Conv2d(8, 1), "proj"))
    net.add(Concat(), "join", after=ends)
    assert spec(INCEPTION) == net.network()


def test_named_blocks_take_arguments_and_repeat() -> None:
    network = spec(RESIDUAL)
    names = ["conv1", "batchnorm2d1", "relu1", "conv2d1", "sum"]
    blocks = ["stage1.0", "stage1.1", "stage2.0"]
    assert [node.name for node in network] == ["input", *(f"{block}.{name}" for block in blocks for name in names)]
    assert network["stage1.1.conv1"].blocks == ("stage1", "1")
    assert network["stage1.0.conv1"].layer == Conv2d(8, 3, padding=1, bias=False)
    assert network["stage2.0.conv1"].layer == Conv2d(16, 3, stride=2, padding=1, bias=False)
    assert network["stage2.0.conv2d1"].layer == Conv2d(16, 3, padding=1)
    assert network["stage1.1.sum"].inputs == ("stage1.1.conv2d1", "stage1.1.conv1")


def test_in_a_named_block_input_is_what_flows_into_it() -> None:
    text = "blocks:\n  b:\n    - a: ReLU\n    - add: Add\n      after: [a, input]\n"
    network = spec(f"input: 3x8x8\n{text}layers:\n  - Conv2d(3, 1)\n  - x: b\n  - y: b\n    after: input\n")
    assert network["x.add"].inputs == ("x.a", "conv2d1")
    assert network["y.add"].inputs == ("y.a", "input")
    assert network["y.a"].inputs == ("input",)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("conv", ["conv1", "conv2", "conv3"]),
        ("conv1", ["conv1", "conv2", "conv3"]),
        ("0", ["0", "1", "2"]),
        ("a9", ["a9", "a10", "a11"]),
    ],
)
def test_repeats_number_their_names_on(name: str, names: list[str]) -> None:
    network = layers(f"- {name}: Conv2d(3, 1)\n  repeat: 3")
    assert [node.name for node in network] == ["input", *names]
    assert [node.inputs for node in network] == [(), ("input",), *((name,) for name in names[:2])]


def test_a_block_without_prefix_names_nothing() -> None:
    network = layers("- stem:\n    - conv: Conv2d(3, 1)\n    - ReLU\n  prefix: false\n- head:\n    - ReLU")
    assert [(node.name, node.blocks) for node in network.nodes[1:]] == [
        ("conv", ("stem",)),
        ("relu1", ("stem",)),
        ("head.relu1", ("head",)),
    ]


def test_names_are_looked_for_from_the_inside_outwards() -> None:
    text = "- a: ReLU\n- b:\n    - a: Tanh\n    - add: Add\n      after: [a, /a]\n    - c: ReLU\n      after: input\n"
    network = layers(f"{text}- d: Add\n  after: [b.a, a]")
    assert network["b.add"].inputs == ("b.a", "a")
    assert network["b.c"].inputs == ("input",)
    assert network["d"].inputs == ("b.a", "a")


def test_inputs_and_outputs_by_name() -> None:
    network = spec(
        "input:\n  left: 8\n  right: [2, 8]\nlayers:\n  - a: Linear(4)\n    after: left\n  - b: Linear(4)\n"
        "    after: right\n  - c: ReLU\noutputs: [a, c]\n"
    )
    assert [node.layer for node in network.input_nodes] == [Input((1, 8)), Input((2, 8))]
    assert network.outputs == ("a", "c")
    assert network.name == "net"


@pytest.mark.parametrize(
    ("written", "layer"),
    [
        ("Conv2d(8, (3, 5))", Conv2d(8, (3, 5))),
        ("Conv2d(8, [3, 5], bias=False)", Conv2d(8, (3, 5), bias=False)),
        ('Conv2d(8, kernel_size=3, padding="same")', Conv2d(8, 3, padding="same")),
        ("MaxPool2d(3, 2)", MaxPool2d(3, 2)),
        ("AvgPool2d(2, stride=none, ceil_mode=true)", AvgPool2d(2, ceil_mode=True)),
        ("BatchNorm2d(eps=1e-3)", BatchNorm2d(1e-3)),
        ("Flatten(start_dim=-3)", Flatten(-3)),
        ("Conv2d(2 + 3 * 2, 7 // 2)", Conv2d(8, 3)),
        ("Tanh()", Tanh()),
    ],
)
def test_fields_are_written_as_in_python(written: str, layer: Any) -> None:
    assert layers(f"- {written}").nodes[1].layer == layer


def test_words_are_words_whatever_yaml_takes_them_for() -> None:
    network = layers("- on: ReLU\n- null: ReLU\n- 1e3: ReLU\n- 2024-01-01: Tanh")
    assert [node.name for node in network.nodes[1:]] == ["on", "null", "1e3", "2024-01-01"]


# There and back


@pytest.mark.parametrize("name", zoo.ENTRIES)
def test_the_zoo_reads_back_equal(name: str) -> None:
    network = zoo.find(name).build()
    assert spec(dumps(network)) == network


@pytest.mark.parametrize(
    "network",
    [
        zoo.resnet50(shortcut="C", batch_norm=False, conv_bias=True),
        zoo.resnet34(shortcut="A"),
        zoo.vgg19(batch_norm=True, classes=10),
        zoo.alexnet(towers=1),
    ],
    ids=lambda network: network.name,
)
def test_choices_of_the_zoo_read_back_equal(network: Network) -> None:
    assert spec(dumps(network)) == network


@given(strategies.networks())
def test_any_network_reads_back_equal(network: Network) -> None:
    assume(len(network) > 1)
    assert spec(dumps(network)) == network


@given(strategies.networks(blocks=2), st.integers(2, 4), st.booleans())
def test_networks_of_blocks_read_back_equal(part: Network, copies: int, prefix: bool) -> None:
    net = Builder("net", part.nodes[0].layer.output())
    for copy in range(copies):
        start, names = net.last, {"input": net.last}
        if part.outputs == ("input",) or ac.analyze(part).output != part.nodes[0].layer.output():
            break
        with net.block(f"block{copy}"), net.block("inner", prefix=prefix):
            for node in part.nodes[1:]:
                names[node.name] = net.add(node.layer, node.name, after=[names[name] for name in node.inputs])
        assert start != net.last
    net.add(ReLU())
    assert spec(dumps(net.network())) == net.network()


def test_values_of_blocks_inside_blocks_that_are_alike() -> None:
    net = Builder("net", (1, 3, 8, 8))
    for width in (4, 8, 12):
        with net.block(f"part{width}"):
            net.add(Conv2d(width, 3, padding=1), "conv")
            with net.block("inner"):
                net.add(Conv2d(2 * width, 1), "conv")
                net.add(ReLU(), "relu")
                net.add(ReLU(), "relu:2")
            net.add(Conv2d(3 * width, 1), "out")
    text = dumps(net.network())
    assert text.count("- conv:") == 2
    assert "- relu:2: ReLU" in text
    assert spec(text) == net.network()


def test_blocks_that_are_alike_are_written_once() -> None:
    text = dumps(zoo.resnet34())
    assert len(text.splitlines()) < 60
    assert text.count("conv1: Conv2d(") == 3  # the stem, and a block with and one without a projection
    assert "residual2(64)\n        repeat: 3" in text or "residual(64)\n        repeat: 3" in text


def test_what_goes_without_saying_is_left_out() -> None:
    network = Network.sequential(
        "net", (1, 3, 8, 8), [Conv2d(8, 3, padding=1), ReLU(), Flatten(), Linear(2, bias=False)]
    )
    expected = "name: net\ninput: 3x8x8\nlayers:\n"
    expected += "  - Conv2d(8, 3, padding=1)\n  - ReLU\n  - Flatten\n  - Linear(2, bias=false)\n"
    assert dumps(network) == expected


def held(layer: Layer, *tensors: Held) -> Network:
    """A layer whose module holds these tensors."""
    nodes = (Node("input", Input((1, 3, 8, 8)), ()), Node("norm", layer, ("input",), held=tensors))
    return Network("net", nodes)


def test_buffers_are_not_frozen_parameters() -> None:
    tensors = [Held(name, (3,)) for name in ("weight", "bias")]
    tensors += [Held(name, (3,), trained=False) for name in ("running_mean", "running_var")]
    text = dumps(held(BatchNorm2d(), *tensors, Held("num_batches_tracked", (), trained=False)))
    assert text == "name: net\ninput: 3x8x8\nlayers:\n  - norm: BatchNorm2d\n"


def test_save_and_load(tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    ac.save(zoo.resnet18(), str(file))
    assert ac.load(str(file)) == zoo.resnet18()


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Network.sequential("net", (1, "N"), [ReLU()]), "input is not of whole numbers"),
        (Network.sequential("net", (1, 4), []), "net has no layers"),
        (Network("net", (Node("input", Input((1, 4)), ()), Node("a b", ReLU(), ("input",)))), "called 'a b'"),
        (Network("net", (Node("input", Input((1, 4)), ()), Node("after", ReLU(), ("input",)))), "cannot be written"),
        (Network.sequential("a\nb", (1, 4), [ReLU()]), "cannot be the name"),
        (held(BatchNorm2d(), Held("weight", (3,), trained=False), Held("bias", (3,))), "norm freezes weight, which"),
        (held(BatchNorm2d(), Held("running_mean", (3,), trained=False, counted_by="a")), "norm shares running_mean, "),
        (Network.sequential("net", (1, 4), [Elementwise("mul", (("mul", float("nan")),))]), "cannot be written"),  # type: ignore[arg-type]
    ],
)
def test_what_a_file_cannot_say_is_named(network: Network, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        dumps(network)


# Bad input

HEAD = "input: 3x8x8\nlayers:\n"
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\ninput: *b\n"
BAD: dict[str, tuple[str, int, str]] = {
    "empty": ("", 1, "the file is empty"),
    "only a comment": ("# nothing\n", 1, "the file is empty"),
    "no mapping": ("- Conv2d(6, 5)\n", 1, "has the keys name, input, blocks, layers, outputs"),
    "no input": ("layers: [ReLU]\n", 1, "input is missing"),
    "no layers": ("input: 3x8x8\n", 1, "layers is missing"),
    "unknown key": ("input: 3x8x8\nlayer: [ReLU]\n", 2, "unknown key 'layer'; did you mean 'layers'?"),
    "unknown kind": (f"{HEAD}  - ReLU\n  - Conv2D(6, 5)\n", 4, "unknown kind of layer 'Conv2D'; did you mean 'Conv2d'"),
    "every kind there is": (f"{HEAD}  - Foo\n", 3, "MaxPool2d"),
    "with its module": (f"{HEAD}  - nn.ReLU()\n", 3, "a layer is written without nn: Kind or Kind(number"),
    "keys without a name": (
        f"{HEAD}  - ReLU\n    repeat: 3\n",
        4,
        "a layer with keys below it needs a name, such as -",
    ),
    "keys beside a layer": (f"{HEAD}  - ReLU\n  repeat: 3\n", 4, "a layer with keys below it needs a name, such as -"),
    "keys after a remark": (f"{HEAD}  - ReLU\n\n    # so\n    after: input\n", 6, "a layer with keys below it needs a"),
    "no space": ("input:3x8x8\nlayers:\n  - ReLU\n", 2, "write a space after the colon: input: "),
    "no space below": ("name: x\ninput:3x8x8\nlayers:\n  - ReLU\n", 3, "write a space after the colon: input: "),
    "no space before a layer": (f"{HEAD}  - a:ReLU\n    after: b\n", 4, "write a space after the colon: a: "),
    "no space in a layer": (f"{HEAD}  - a:ReLU\n", 3, "cannot read 'a:ReLU'; after a colon comes a space;"),
    "two layers of a name": (f"{HEAD}  - a: ReLU, Tanh\n", 3, "not 2; a block is a list below its name"),
    "no batch in a list": (
        "input: [3, 8, 8]\nlayers:\n  - Conv2d(6, 3)\n",
        3,
        "needs an input of 4 axes (N, C, H, W), not 3; an input written as a list is the whole shape, with the batch",
    ),
    "unknown field": (
        f"{HEAD}  - Conv2d(6, 5, pad=1)\n",
        3,
        "did you mean 'padding' or 'padding_mode'? There are: out_",
    ),
    "inferred field": (
        f"{HEAD}  - Conv2d(6, 5, in_channels=3)\n",
        3,
        "in_channels is read off what flows in; leave it",
    ),
    "as in torch": (
        f"{HEAD}  - Conv2d(3, 6, 5)\n",
        3,
        "takes 2 values without a name (out_channels, kernel_size), not 3",
    ),
    "as in torch, too": (
        f"{HEAD}  - BatchNorm2d(3)\n",
        3,
        "takes no value without a name, not 1; num_features is read",
    ),
    "missing field": (f"{HEAD}  - Conv2d(6)\n", 3, "Conv2d needs kernel_size"),
    "field twice": (f"{HEAD}  - Conv2d(6, 5, kernel_size=5)\n", 3, "kernel_size twice"),
    "wrong type": (f"{HEAD}  - Conv2d(6, 5, bias=3)\n", 3, "bias is 3; it must be true or false"),
    "true for a number": (f"{HEAD}  - Conv2d(true, 5)\n", 3, "out_channels is True; it must be a whole number"),
    "fraction": (f"{HEAD}  - Conv2d(6.5, 5)\n", 3, "out_channels is 6.5; it must be a whole number"),
    "impossible": (f"{HEAD}  - Conv2d(6, 0)\n", 3, "kernel_size is 0"),
    "bare text": (f"{HEAD}  - Conv2d(6, 5, padding=same)\n", 3, 'text is written "same"'),
    "huge number": (f"{HEAD}  - Linear({10**30})\n", 3, "a number is larger than"),
    "more digits than a float": (f"{HEAD}  - Linear({10**900})\n", 3, "a number is larger than"),
    "infinity": (f"{HEAD}  - BatchNorm2d(eps=1e999)\n", 3, "a number is larger than"),
    "power": (f"{HEAD}  - Linear(9**9)\n", 3, "cannot compute 9 ** 9"),
    "division by zero": (f"{HEAD}  - Linear(9//0)\n", 3, "cannot compute 9 // 0, a division by 0"),
    "true division": (f"{HEAD}  - Linear(9/3)\n", 3, "cannot compute 9 / 3; there are + - * and //"),
    "code": (f"{HEAD}  - __import__('os').system('true')\n", 3, "cannot read"),
    "code as a value": (f"{HEAD}  - Linear(open('/etc/passwd'))\n", 3, "cannot read open('/etc/passwd')"),
    "no expression": (f"{HEAD}  - Conv2d(6, 5\n", 3, "cannot read 'Conv2d(6, 5'"),
    "a mapping of fields": (f"{HEAD}  - Conv2d: {{out_channels: 6}}\n", 3, "a layer is written on one line"),
    "a number of fields": (f"{HEAD}  - Conv2d: 6\n", 3, "a layer's fields are written in brackets: Conv2d(6)"),
    "too small": (f"{HEAD}  - ReLU\n  - conv: Conv2d(6, 9)\n", 4, "conv (Conv2d) on 1×3×8×8: a kernel that spans 9"),
    "shapes differ": (
        f"{HEAD}  - Conv2d(6, 3)\n  - s: Add\n    after: [conv2d1, input]\n",
        4,
        "must have the same shape",
    ),
    "one input to add": (f"{HEAD}  - ReLU\n  - Add\n", 4, "add1 (Add) takes two or more inputs, not 1"),
    "two inputs to a layer": (f"{HEAD}  - a: ReLU\n    after: [input, input]\n", 3, "takes 1 input, not 2"),
    "dangling": (
        f"{HEAD}  - conv: ReLU\n  - b: ReLU\n    after: cnv\n",
        5,
        "unknown earlier layer 'cnv'; did you mean 'conv'",
    ),
    "cycle": (f"{HEAD}  - a: ReLU\n    after: b\n  - b: ReLU\n", 4, "'b' is at line 5, not above this layer"),
    "cycle in a block": (
        "input: 3\nblocks:\n  c:\n    - a: ReLU\n      after: b\n    - b: ReLU\nlayers: [c]\n",
        5,
        "'b' is at line 6, not above this layer",
    ),
    "after itself": (f"{HEAD}  - a: ReLU\n    after: a\n", 4, "'a' is at line 3, not above this layer"),
    "inside of another block": (
        f"{HEAD}  - b:\n      - a: ReLU\n  - c: ReLU\n    after: a\n",
        6,
        "unknown earlier layer 'a'; there are: input, b.a",
    ),
    "dangling output": (f"{HEAD}  - ReLU\noutputs: relu\n", 4, "unknown earlier layer 'relu'"),
    "names twice": (f"{HEAD}  - a: ReLU\n  - a: ReLU\n", 4, "two layers are called 'a', the first at line 3"),
    "keys twice": (f"{HEAD}  - a: ReLU\n    a: ReLU\n", 4, "'a' is there twice, first at line 3"),
    "two names": (f"{HEAD}  - a: ReLU\n    b: ReLU\n", 3, "here a and b"),
    "no name": (f"{HEAD}  - repeat: 3\n", 3, "here is none"),
    "bad name": (f"{HEAD}  - 'a b': ReLU\n", 3, "'a b' cannot be a name"),
    "list in a list": (f"{HEAD}  - - ReLU\n", 3, "a list inside a list"),
    "empty list": ("input: 3x8x8\nlayers: []\n", 2, "a list without layers"),
    "tab": (f"{HEAD}\t- ReLU\n", 3, "indented with spaces, not with tabs"),
    "no yaml": (f"{HEAD}  - 'ReLU\n", 3, "not YAML"),
    "control character": (f"{HEAD}  - ReLU\x07\n", 3, "not YAML"),
    "second document": (f"{HEAD}  - ReLU\n---\ninput: 3\n", 4, "a second document"),
    "anchor": (BOMB, 1, "anchors and aliases"),
    "tag": ("input: !!python/object/apply:os.system [true]\n", 1, "tags such as"),
    "complex key": ("? [a, b]\n: c\n", 1, "a key must be a word"),
    "bad shape": ("input: 3x-8\nlayers: [ReLU]\n", 1, "input is a shape of positive whole numbers"),
    "zero shape": ("input: 0x8\nlayers: [ReLU]\n", 1, "input is a shape of positive whole numbers"),
    "no inputs": ("input: {}\nlayers: [ReLU]\n", 1, "input is a shape"),
    "nested name": ("name: [a]\ninput: 3\nlayers: [ReLU]\n", 1, "name is a word or a few"),
    "block of itself": (
        "input: 3\nblocks:\n  a:\n    - b\n  b:\n    - a\nlayers: [a]\n",
        6,
        "a includes itself: a → b → a",
    ),
    "argument missing": ("input: 3\nblocks:\n  a(n):\n    - Linear(n)\nlayers: [a]\n", 5, "block a needs n"),
    "argument too many": (
        "input: 3\nblocks:\n  a(n):\n    - Linear(n)\nlayers: ['a(1, 2)']\n",
        5,
        "takes 1 value without",
    ),
    "argument unknown": (
        "input: 3\nblocks:\n  a(n):\n    - Linear(m)\nlayers: [a(1)]\n",
        4,
        "an argument of the block (n)",
    ),
    "argument of a wrong type": ("input: 3\nblocks:\n  a(n):\n    - Linear(n)\nlayers: [a(true)]\n", 4, "is True"),
    "block of a kind's name": (
        "input: 3\nblocks:\n  ReLU:\n    - Tanh\nlayers: [ReLU]\n",
        3,
        "ReLU is a kind of layer",
    ),
    "block twice": ("input: 3\nblocks:\n  a: [Tanh]\n  a(): [Tanh]\nlayers: [a]\n", 4, "block a is there twice"),
    "block without layers": ("input: 3\nblocks:\n  a: Tanh\nlayers: [a]\n", 3, "block a needs a list of layers"),
    "outside of a block": (
        "input: 3\nblocks:\n  a:\n    - x: Tanh\n      after: b\nlayers: [b: Tanh, a]\n",
        5,
        "'b'",
    ),
    "two inputs to a block": (
        f"blocks: {{b: [ReLU]}}\n{HEAD}  - a: b\n    after: [input, input]\n",
        4,
        "follows one layer",
    ),
    "one branch": (f"{HEAD}  - a: Add\n    branches: [ReLU]\n", 4, "two or more"),
    "branches of a block": (f"{HEAD}  - a: [ReLU]\n    branches: [ReLU, Tanh]\n", 3, "branches are joined by a layer"),
    "no count": (f"{HEAD}  - a: ReLU\n    repeat: many\n", 4, "many is no number"),
    "negative count": (f"{HEAD}  - a: ReLU\n    repeat: -1\n", 4, "repeat is a whole number of at least 1"),
    "ten million": (
        f"{HEAD}  - a: ReLU\n    repeat: 10000000\n",
        4,
        "repeat is 10,000,000; a network has at most 20,000",
    ),
    "prefix of a layer": (f"{HEAD}  - a: ReLU\n    prefix: false\n", 3, "prefix belongs to a block"),
    "prefix": (f"{HEAD}  - a: [ReLU]\n    prefix: 3\n", 4, "prefix is true or false"),
    "outputs": (f"{HEAD}  - ReLU\noutputs: []\n", 4, "outputs is empty"),
    "huge tensor": (f"{HEAD}  - Upsample(scale_factor=1000000000)\n", 3, "the output has more than"),
    "field of an operation": (f'{HEAD}  - Permute("permute", (0, 7))\n', 3, "has fields that cannot be"),
}


@pytest.mark.parametrize(("text", "line", "reason"), BAD.values(), ids=BAD)
def test_errors_name_file_line_and_reason(text: str, line: int, reason: str) -> None:
    with pytest.raises(SpecError) as error:
        spec(text, "folder/net.yaml")
    assert str(error.value).startswith(f"folder/net.yaml:{line}: "), error.value
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_kinds_are_listed_where_none_is_close_and_without_operations() -> None:
    with pytest.raises(SpecError) as near:
        spec(f"{HEAD}  - Conv2D(6, 5)\n")
    assert str(near.value) == "net.yaml:3: unknown kind of layer 'Conv2D'; did you mean 'Conv2d'?"
    with pytest.raises(SpecError) as far:
        spec(f"{HEAD}  - Foo(6, 5)\n")
    assert "there are: ReLU, ReLU6, " in str(far.value)
    assert "PadChannels" in str(far.value)
    assert "Elementwise" not in str(far.value)


def test_a_shape_error_is_one() -> None:
    with pytest.raises(ShapeError, match=r"^net\.yaml:4: conv2d1 .*larger than the padded input"):
        layers("- Conv2d(6, 9)")


def test_bytes_that_are_not_utf8_have_their_line() -> None:
    with pytest.raises(SpecError, match=r"^net\.yaml:2: not UTF-8: byte 0xff"):
        read(b"input: 3\nlayers: \xff\n", "net.yaml")


def test_a_byte_order_mark_is_no_error() -> None:
    assert read(b"\xef\xbb\xbfinput: 3\nlayers: [ReLU]\n", "net.yaml") == spec("input: 3\nlayers: [ReLU]\n")


def nested_blocks(width: int, depth: int) -> str:
    """Blocks that each use the next one several times: width^depth layers."""
    body = "".join(f"  b{i}: [{', '.join([f'b{i + 1}'] * width)}]\n" for i in range(depth))
    return f"input: 3\nblocks:\n{body}  b{depth}: [ReLU]\nlayers: [b0]\n"


LARGE = {
    "repeats of repeats": "input: 3\nlayers:\n  - a:\n      - b: ReLU\n        repeat: 20000\n    repeat: 20000\n",
    "blocks of blocks": nested_blocks(10, 12),
    "long chain of blocks": nested_blocks(1, 100),
    "many inputs": f"input: 3\nlayers:\n  - a: Add\n    after: [{'input, ' * 100_000} input]\n",
    "large file": "#" * (1 << 20) + "\n",
    "long line": f"input: 3\nlayers: ['{'ReLU, ' * 100_000}']\n",
    "deep list": f"input: 3\nlayers: {'[' * 100_000}",
    "deep mapping": "".join(f"{' ' * i}a:\n" for i in range(1000)),
    "deep brackets": f"input: 3\nlayers: ['Linear({'(' * 400}']\n",
    "deep minus": f"input: 3\nlayers: ['Linear({'-' * 900}1)']\n",
    "long sum": f"input: 3\nlayers: ['Linear({'1+' * 480}1)']\n",
    "many digits": f"input: {'9' * 100_000}\nlayers: [ReLU]\n",
    "long name": f"input: 3\nlayers:\n  - {'a' * 1000}: ReLU\n",
    "long key": f"input: 3\nlayers:\n  - {'a' * 100_000}: ReLU\n",
    "many quotes": "'\n" * 200_000,
    "growing tensors": "input: 3x1x1\nlayers:\n  - a: Upsample(scale_factor=1000)\n    repeat: 20000\n",
    "many bins": "input: 3x8\nlayers: [AdaptiveAvgPool1d(4000000000000000)]\n",
    "many layers in one": "input: 3x8\nlayers: ['LSTM(3, num_layers=1000000000)']\n",
    "wide": "input: 3\nlayers:\n  - a: Linear(9007199254740992)\n    repeat: 19999\n  - b: Linear(0)\n",
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_large_files_end_soon(text: str) -> None:
    start = time.process_time()
    with pytest.raises(SpecError, match=r"^net\.yaml") as error:
        spec(text)
    assert time.process_time() - start < 5
    assert len(str(error.value)) < 500


def test_the_largest_network_is_read() -> None:
    network = layers("- a: ReLU\n  repeat: 19999")
    assert len(network) == 20_000


# On the command line


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str, name: str = "net.yaml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_show_takes_a_file(file: Callable[[str], str], shell: Shell) -> None:
    assert "61,706" in shell.ok("show", file(LENET))
    assert "2x1x36x36" in shell.ok("show", file(LENET), "--input", "1x36x36", "--batch", "2")


def test_a_network_of_two_inputs_is_shown(file: Callable[[str], str], shell: Shell) -> None:
    target = file("input: {a: 8, b: 8}\nlayers:\n  - Linear(8)\n  - sum: Add\n    after: [linear1, b]\n")
    assert "sum" in shell.ok("show", target)
    assert "has 2 inputs" in shell.refused("show", target, "--batch", "2")


def test_the_batch_of_the_file_is_kept(file: Callable[[str], str], shell: Shell) -> None:
    target = file("input: [4, 8]\nlayers: [Linear(2)]\n")
    assert "net on 4x8" in shell.ok("show", target)
    assert "net on 2x8" in shell.ok("show", target, "--batch", "2")


def test_a_spec_file_is_known_by_its_ending(tmp_path: Path, shell: Shell) -> None:
    for name in ("NET.YAML", "net.txt"):
        (tmp_path / name).write_text(LENET)
    assert "61,706" in shell.ok("show", str(tmp_path / "NET.YAML"))
    assert "net.txt is a file, but no spec file" in shell.refused("show", str(tmp_path / "net.txt"))
    assert "unknown network" in shell.refused("show", "a" * 10_000)
    (tmp_path / "own.yaml").write_text(LENET)
    assert f"did you mean the file {tmp_path}/own.yaml?" in shell.refused("show", str(tmp_path / "own"))


def test_export_writes_what_show_reads(tmp_path: Path, shell: Shell) -> None:
    target = str(tmp_path / "net.yaml")
    shell.ok("export", "resnet18", "--set", "classes=10", "--output", target)
    assert ac.load(target) == zoo.resnet18(classes=10)
    assert "input: 3x64x64" in shell.ok("export", target, "--input", "3x64x64")


def test_one_message_and_status_2(file: Callable[[str], str], shell: Shell) -> None:
    target = file(f"{HEAD}  - Conv2D(6, 5)\n")
    assert shell.refused("show", target).startswith(f"{target}:3: unknown kind of layer 'Conv2D'")


def test_files_that_cannot_be_read(tmp_path: Path, shell: Shell) -> None:
    (tmp_path / "folder.yaml").mkdir()
    assert "No such file" in shell.refused("show", str(tmp_path / "none.yaml"))
    assert "it is a directory" in shell.refused("show", str(tmp_path / "folder.yaml"))
    assert "has no choices" in shell.refused("show", str(tmp_path / "none.yaml"), "--set", "a=b")
    with pytest.raises(InputError, match="null"):
        ac.load("a\0.yaml")


@pytest.mark.parametrize(("target", "loaded"), [("vgg19", False), ("net.yaml", True)])
def test_the_zoo_needs_no_yaml(target: str, loaded: bool, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(LENET)
    code = f"import sys\nfrom archcalc.cli import main\nmain(['show', '{target}', '--output', 'out'])"
    code = code.replace("main([", "import atexit\natexit.register(lambda: print('yaml' in sys.modules))\nmain([")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=tmp_path)
    assert ran.stdout == f"{loaded}\n"


# Fuzz

EXAMPLES = [LENET, INCEPTION, RESIDUAL, dumps(zoo.resnet18()), dumps(zoo.inception_reduced())]
PIECES = [
    *(
        "  ",
        "\n",
        "- ",
        ": ",
        "[]",
        "{}",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        ",",
        "'",
        '"',
        "&a",
        "*a",
        "!!int ",
        "#",
        "|",
        "\t",
        "\x00",
    ),
    *(
        "input",
        "after",
        "repeat",
        "branches",
        "prefix",
        "blocks",
        "layers",
        "outputs",
        "name",
        "true",
        "none",
        "/",
        "..",
        "é",
    ),
    *("0", "-1", "1", "2", "3", "7", "99999", "1e308", "1e-9", "1.5", "0x1F", "1_0", "width", "stride=0", "3x3", "a"),
    *(
        "Conv2d(6, 5)",
        "ReLU",
        "Add",
        "Concat(-1)",
        "LSTM(3)",
        "Upsample(scale_factor=1.5)",
        "Flatten(0, 1)",
        "Unflatten(1, (2, -1))",
    ),
    *(
        "PixelShuffle(2)",
        "AdaptiveAvgPool2d((1, 2))",
        "GroupNorm(2)",
        "LayerNorm(8)",
        "Embedding(3, 4)",
        "Softmax(dim=9)",
    ),
    *(
        'Reshape("a", (((0,), (1,)),))',
        'Part("b", (1, 2))',
        'Elementwise("c", (("mul", -1),))',
        'Slice("s", 9, step=0)',
    ),
]


@st.composite
def mutants(draw: st.DrawFn) -> str:
    """A valid file with pieces cut out, put in, repeated and swapped."""
    text = draw(st.sampled_from(EXAMPLES))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        middle = draw(
            st.sampled_from([*PIECES, text[start:end] * 2, text[start:end][::-1], "\n".join(text.split("\n")[:4])])
        )
        text = text[:start] + middle + text[end:]
    return text


trees = st.recursive(
    st.sampled_from([*PIECES, *"abc"]) | st.text(max_size=8) | st.integers().map(str),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(PIECES) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def survives(data: bytes) -> None:
    """Reading gives a network that can be analysed and written, or an error of ours, soon."""
    start = time.process_time()
    try:
        network = read(data, "net.yaml")
        ac.analyze(network).total.macs  # noqa: B018
        text = dumps(network)
        assert read(text.encode(), "net.yaml") == network
    except ArchcalcError:
        pass
    assert time.process_time() - start < 5


@given(mutants())
def test_mutants_of_files_survive(text: str) -> None:
    survives(text.encode("utf-8", "surrogatepass"))


@given(st.text())
def test_any_text_survives(text: str) -> None:
    survives(text.encode("utf-8", "surrogatepass"))
    survives(f"input: 3x8x8\nlayers:\n  - {text}\n".encode("utf-8", "surrogatepass"))


@given(st.binary())
def test_any_bytes_survive(data: bytes) -> None:
    survives(data)


@given(trees, trees, trees)
def test_any_structure_survives(blocks: object, layers: object, outputs: object) -> None:
    import yaml

    for data in (
        {"input": "3x8x8", "layers": layers},
        {"input": "3x8x8", "layers": ["ReLU", layers]},
        {"input": blocks, "layers": layers},
        {"input": "3x8x8", "blocks": blocks, "layers": layers, "outputs": outputs},
    ):
        survives(yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "surrogatepass"))


calls = st.builds(
    lambda kind, values, named: f"{kind}({', '.join([*values, *(f'{key}={value}' for key, value in named.items())])})",
    st.sampled_from(sorted(strategies.public_kinds())),
    st.lists(
        st.sampled_from(["1", "2", "3", "0", "-1", "(1, 2)", "(2, 2, 2)", "true", "none", "0.5", '"a"', "()"]),
        max_size=3,
    ),
    st.dictionaries(
        st.sampled_from(
            ["stride", "padding", "dilation", "groups", "bias", "dim", "size", "scale_factor", "ceil_mode", "mode"]
        ),
        st.sampled_from(
            ["1", "2", "0", "-1", "(1, 2)", "true", "none", "0.5", "1e15", "9" * 400, '"same"', '"bilinear"']
        ),
        max_size=2,
    ),
)


@given(st.lists(calls, min_size=1, max_size=4), st.sampled_from(["8", "4x8", "4x8x8", "4x8x8x8", "[2]", "[4, 4, 4]"]))
def test_any_layers_survive(written: list[str], shape: str) -> None:
    lines = "".join(f"  - {call}\n" for call in written)
    survives(f"input: {shape}\nlayers:\n{lines}".encode())
