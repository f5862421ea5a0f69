import copy
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy
import pytest
import torch
import torchvision
from torch import Tensor, nn

from archcalc import analyze, zoo
from archcalc.errors import CheckError, InputError
from archcalc.graph import Builder, Network, Node
from archcalc.layers import (
    KINDS,
    Add,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    Input,
    Layer,
    Linear,
    PadChannels,
    ReLU,
    Softmax,
    Subsample,
)
from archcalc.pytorch.build import build
from archcalc.pytorch.observe import observe, random
from archcalc.pytorch.trace import trace

SHAPE = (2, 3, 4, 4)
CPU = torch.device("cpu")


@pytest.fixture
def registry() -> Iterator[None]:
    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


def chain(*layers: Layer, shape: tuple[int, ...] = SHAPE) -> Network:
    return Network.sequential("net", shape, layers)


def out_of_place(network: Network) -> Network:
    """The same network with no layer in place."""

    def layer(one: Layer) -> Layer:
        return replace(one, inplace=False) if getattr(one, "inplace", False) else one  # type: ignore[call-arg]

    return Network(network.name, tuple(replace(node, layer=layer(node.layer)) for node in network))


@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_state_dict_is_torchvisions_key_by_key(name: str) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(weights=None).state_dict()
    ours = build(zoo.find(name).build(), device="meta").state_dict()
    assert [(key, value.shape) for key, value in ours.items()] == [(key, value.shape) for key, value in theirs.items()]


def test_torchvisions_weights_give_torchvisions_output() -> None:
    theirs = torchvision.models.resnet18(weights=None).eval()
    ours = build(zoo.resnet18(), (2, 3, 64, 64)).eval()
    ours.load_state_dict(theirs.state_dict())
    x = random((2, 3, 64, 64), CPU)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("name", zoo.ENTRIES)
def test_layers_have_their_names_and_run_in_their_order(name: str) -> None:
    network = zoo.find(name).build()
    module = build(network, device="meta")
    calls, _ = observe(module, torch.empty(module.shape, device="meta"))
    layers = [node for node in network if not isinstance(node.layer, Input)]
    assert [call.path for call in calls] == [node.name for node in layers]
    assert [type(module.get_submodule(node.name)).__name__ for node in layers] == [node.layer.kind for node in layers]
    assert module.network is network


def test_shape_given_decides_the_widths() -> None:
    module = build(zoo.vgg11(), (1, 3, 64, 96), device="meta")
    assert module.get_parameter("fc6.weight").shape == (4096, 512 * 2 * 3)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (Add(), lambda a, b, c: a + b + c),
        (Add(inplace=True), lambda a, b, c: a + b + c),
        (Concat(), lambda a, b, c: torch.cat([a, b, c], 1)),
        (Concat(-1), lambda a, b, c: torch.cat([a, b, c], 3)),
    ],
)
def test_joining_layers_compute_what_they_say(layer: Layer, expected: Callable[..., Tensor]) -> None:
    net = Builder("net", SHAPE)
    for name in "abc":
        net.add(Conv2d(3, 1), name, after="input")
    net.add(layer, "join", after=("a", "b", "c"))
    module = build(net.network())
    x = random(SHAPE, CPU)
    with torch.no_grad():
        assert torch.equal(module(x), expected(*(module.get_submodule(name)(x) for name in "abc")))


def test_cutting_layers_compute_what_they_say() -> None:
    x = random(SHAPE, CPU)
    assert torch.equal(build(chain(Subsample((2, 3))))(x), x[:, :, ::2, ::3])
    padded = build(chain(PadChannels(2)))(x)
    assert torch.equal(padded[:, :3], x)
    assert padded[:, 3:].eq(0).all()
    assert padded.shape == (2, 5, 4, 4)


# In place


def branched(*steps: tuple[str, Layer, str]) -> Network:
    net = Builder("net", SHAPE)
    for name, layer, inputs in steps:
        net.add(layer, name, after=inputs.split())
    return net.network()


CONV = Conv2d(3, 1)
LET = ReLU(inplace=True)
OVERWRITES_WHAT_IS_NEEDED = {
    "the input": branched(("a", LET, "input")),
    "the input, flattened": branched(("flat", Flatten(), "input"), ("a", LET, "flat")),
    "the input, subsampled": branched(("sub", Subsample(2), "input"), ("a", LET, "sub")),
    "the input after dropout": branched(("drop", Dropout(), "input"), ("a", LET, "drop")),
    "the input by a sum": branched(("a", Add(inplace=True), "input input")),
    "a shortcut": branched(("conv", CONV, "input"), ("a", LET, "conv"), ("add", Add(), "a conv")),
    "a shortcut's view": branched(
        ("conv", CONV, "input"), ("sub", Subsample(1), "conv"), ("a", LET, "conv"), ("add", Add(), "a sub")
    ),
    "what the view is of": branched(
        ("conv", CONV, "input"), ("sub", Subsample(1), "conv"), ("a", LET, "sub"), ("add", Add(), "a conv")
    ),
    "a branch, by a sum": branched(
        ("b", CONV, "input"), ("c", CONV, "input"), ("a", Add(inplace=True), "b c"), ("join", Concat(), "a b c")
    ),
    "a term of the sum itself": branched(("b", CONV, "input"), ("c", CONV, "input"), ("a", Add(inplace=True), "b c b")),
    "a view that is a term": branched(
        ("b", CONV, "input"), ("c", CONV, "input"), ("d", Dropout(), "b"), ("a", Add(inplace=True), "b c d")
    ),
    "an in-place layer's own result": branched(
        ("b", CONV, "input"), ("r", LET, "b"), ("a", Add(inplace=True), "r r"), ("join", Concat(), "a r")
    ),
}


@pytest.mark.parametrize("network", OVERWRITES_WHAT_IS_NEEDED.values(), ids=OVERWRITES_WHAT_IS_NEEDED)
def test_nothing_that_is_needed_is_overwritten(network: Network) -> None:
    module, reference = build(network).eval(), build(out_of_place(network)).eval()
    assert not module.get_submodule("a").inplace
    reference.load_state_dict(module.state_dict())
    x = random(SHAPE, CPU)
    kept = x.clone()
    with torch.no_grad():
        assert torch.equal(module(x), reference(kept))
    assert torch.equal(x, kept)


def test_a_naive_module_would_overwrite_it() -> None:
    module = build(OVERWRITES_WHAT_IS_NEEDED["the input"])
    relu = module.get_submodule("a")
    assert isinstance(relu, nn.ReLU)
    relu.inplace = True
    x = random(SHAPE, CPU)
    kept = x.clone()
    module(x)
    assert not torch.equal(x, kept)


@pytest.mark.parametrize(
    "network",
    [
        branched(("conv", CONV, "input"), ("a", LET, "conv")),
        branched(("b", CONV, "input"), ("c", CONV, "input"), ("a", Add(inplace=True), "b c")),
        branched(("b", CONV, "input"), ("a", Add(inplace=True), "b input"), ("c", CONV, "a")),
        branched(("b", CONV, "input"), ("c", CONV, "b"), ("d", Dropout(), "c"), ("a", LET, "d"), ("e", Add(), "a b")),
        branched(("b", BatchNorm2d(), "input"), ("e", LET, "b"), ("a", LET, "e")),
    ],
)
def test_what_nobody_needs_is_overwritten(network: Network) -> None:
    module = build(network).eval()
    assert module.get_submodule("a").inplace
    storage = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            storage[name] = output.data_ptr()

        return hook

    for node in network.nodes[1:]:
        module.get_submodule(node.name).register_forward_hook(note(node.name))
    module(random(SHAPE, CPU).requires_grad_(False))
    assert storage["a"] == storage[network["a"].inputs[0]]


def test_dropout_in_training_leaves_the_callers_input_alone() -> None:
    x = random(SHAPE, CPU)
    kept = x.clone()
    build(chain(Dropout(1.0, inplace=True))).train()(x)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("name", ["resnet18", "inception-naive", "vgg11"])
def test_gradients_flow_through_layers_in_place(name: str) -> None:
    network = zoo.find(name).build()
    module = build(network, (2, network.input_nodes[0].layer.output()[1], 32, 32)).train()
    module(random(module.shape, CPU)).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


# Memory, devices, copies


def test_tensors_are_let_go_after_their_last_use() -> None:
    net = Builder("net", SHAPE)
    for index in range(6):
        net.add(Softmax(), f"s{index}")
    net.add(Add(), "sum", after=("s5", "s1"))
    network = net.network()
    module = build(network)
    outputs: dict[str, weakref.ref[Tensor]] = {}
    alive: dict[str, set[str]] = {}

    def hook(name: str) -> Callable[..., None]:
        def note(_: nn.Module, __: Any, output: Tensor) -> None:
            alive[name] = {other for other, tensor in outputs.items() if tensor() is not None}
            outputs[name] = weakref.ref(output)

        return note

    for node in network.nodes[1:]:
        module.get_submodule(node.name).register_forward_hook(hook(node.name))
    module(random(SHAPE, CPU))
    assert alive == {
        "s0": set(),
        "s1": {"s0"},
        "s2": {"s1"},
        "s3": {"s1", "s2"},
        "s4": {"s1", "s3"},
        "s5": {"s1", "s4"},
        "sum": {"s1", "s5"},
    }


def test_meta_device_needs_no_memory() -> None:
    module = build(zoo.vgg19(), device="meta")
    assert all(parameter.is_meta for parameter in module.parameters())
    assert module(torch.empty(module.shape, device="meta")).shape == (1, 1000)


def test_a_deep_copy_runs_its_own_layers() -> None:
    module = build(chain(Conv2d(2, 1)))
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
        x = random(SHAPE, CPU)
        assert twin(x).eq(0).all()
        assert not module(x).eq(0).all()


def test_a_network_without_layers_returns_its_input() -> None:
    x = random(SHAPE, CPU)
    assert build(chain())(x) is x


# Errors


@pytest.mark.parametrize("extent", ["H", numpy.array([224, 256])])
def test_shape_must_be_whole_numbers(extent: Any) -> None:
    with pytest.raises(InputError, match=r"resnet18 on .*needs an input shape of whole numbers"):
        build(zoo.resnet18(), (1, 3, extent, 224))


def test_networks_of_several_inputs_have_shapes_of_their_own() -> None:
    nodes = (Node("a", Input(SHAPE), ()), Node("b", Input(SHAPE), ()), Node("add", Add(), ("a", "b")))
    with pytest.raises(InputError, match="net has 2 inputs"):
        build(Network("net", nodes), SHAPE)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("kind", ["Whirl", "parameter", "functional"])
def test_unknown_kind_is_named(kind: str) -> None:
    made: Any = dataclass(frozen=True)(type(kind, (Layer,), {"output": lambda self, *inputs: inputs[0]}))
    with pytest.raises(CheckError, match=rf"spin: .*{kind}"):
        build(branched(("spin", made(), "input")))


@pytest.mark.usefixtures("registry")
def test_what_torch_refuses_is_named() -> None:
    made: Any = dataclass(frozen=True)(type("Fold", (Layer,), {"output": lambda self, *inputs: inputs[0]}))
    with pytest.raises(CheckError, match=r"spin: torch\.nn\.Fold cannot be built"):
        build(branched(("spin", made(), "input")))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("train",), "train: .*already exists"),
        (("network",), "network: .*already exists"),
        (("a..b",), "a..b: .*empty"),
        (("a", "a.b"), "a.b: .*inside another"),
        (("a.b", "a"), "a: .*a block"),
    ],
)
def test_names_that_no_submodule_can_have(names: tuple[str, ...], reason: str) -> None:
    net = Builder("net", (1, 4))
    for name in names:
        net.add(Linear(4), name)
    with pytest.raises(CheckError, match=reason):
        build(net.network())


class Both(nn.Module):
    """Takes two images, gives their sum and a convolution of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        total = a + b
        return total, self.conv(total)


def test_several_inputs_and_outputs_are_built() -> None:
    net = trace(Both(), [(2, 3, 8, 8), (2, 3, 8, 8)])
    module = build(net)
    a, b = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    total, convolved = module(a, b)
    assert torch.equal(total, a + b)
    assert torch.equal(convolved, module.get_submodule("conv")(total))
    with pytest.raises(ValueError, match="shorter"):
        module(a)


class _Mixed(nn.Module):
    """Operations between layers that their rows determine."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.gate = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.conv(x)], 1)
        y = y * torch.sigmoid(self.gate(y.mean((2, 3))))[:, :, None, None] + y.amax(1, keepdim=True)
        y = torch.maximum(y[:, :, 1::2], y[:, :, -6::2]).permute(0, 2, 3, 1)
        z = y.flatten(1, 2)
        return torch.bmm(z, z.transpose(1, 2).contiguous())


def test_operations_between_layers_are_built() -> None:
    module = _Mixed().eval()
    network = trace(module, (2, 3, 8, 8))
    built = build(network)
    built.load_state_dict(module.state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(built.eval()(x), module(x))
    again, total = analyze(trace(built, (2, 3, 8, 8))), analyze(network).total
    assert (again.total.ledger, again.total.params) == (total.ledger, total.params)


@pytest.mark.parametrize(
    "run",
    [lambda x: x * 2, lambda x: x - x, lambda x: x[:, 0], lambda x: torch.add(x, x, alpha=2), lambda x: x.roll(1)],
)
def test_operations_with_arguments_that_a_row_lacks_are_refused(run: Callable[[Tensor], Tensor]) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return run(x)

    with pytest.raises(CheckError, match="no real layer can be built of it"):
        build(trace(Net(), (2, 3, 4, 4)))
