import dataclasses
import gc
import json
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from archcalc import zoo
from archcalc.conventions import CONVENTIONS, Cause
from archcalc.errors import CheckError, InputError
from archcalc.graph import Network, Node
from archcalc.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, ReLU
from archcalc.pytorch import crosscheck
from archcalc.pytorch.build import BuiltNetwork, build
from archcalc.pytorch.comparison import CheckReport, Comparison
from archcalc.pytorch.counters import COUNTERS, Counted
from archcalc.pytorch.crosscheck import check, check_module
from archcalc.pytorch.observe import materialize, observe, random
from archcalc.pytorch.timing import threads
from archcalc.pytorch.trace import trace
from archcalc.targets import Argument

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CPU = torch.device("cpu")
TWO = "MACs (torch)", "mult-adds (torchinfo)"
SMALL = (2, 3, 64, 64)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Most of the work is Python's, and on a busy machine threads wait for each other."""
    with threads(1):
        yield


def by_what(comparisons: tuple[Comparison, ...]) -> dict[str, Comparison]:
    return {one.what: one for one in comparisons}


def torchvisions(model: str) -> nn.Module:
    with torch.device("meta"):
        module: nn.Module = getattr(torchvision.models, model)(weights=None)
    return materialize(module, CPU)


def assert_equal_throughout(report: CheckReport) -> None:
    for one in report.comparisons:
        assert one.ok, one.mismatches
        assert one.remainder == 0
        assert (one.mismatches, one.skipped) == ((), "")
        assert one.layers_equal == one.layers_compared
        assert one.theirs == one.ours + sum(amount for _, amount in one.causes)
    assert report.ok


# Every network of the zoo, every layer


@pytest.mark.parametrize("name", sorted({*zoo.ENTRIES} - {"resnet1202"}))  # resnet110 of more blocks, and slow
def test_every_number_of_the_zoo(name: str) -> None:
    entry = zoo.find(name)
    small = name.startswith(("resnet", "plain", "vgg")) and name not in ("vgg19", "resnet34")
    report = check(entry.build(), entry=entry, shape=SMALL if small else None)
    assert_equal_throughout(report)
    layers = len(entry.build()) - 1
    assert {one.layers_compared for one in report.comparisons[:4]} == {layers}
    assert len(report.comparisons) == (20 if entry.torchvision else 10)


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("name", zoo.ENTRIES)
def test_every_number_of_the_zoo_on_a_cuda_device(name: str) -> None:
    entry = zoo.find(name)
    cuda = check(entry.build(), entry=entry, device="cuda")
    assert_equal_throughout(cuda)
    cpu = check(entry.build(), entry=entry)
    assert cuda.comparisons == cpu.comparisons
    assert cuda.environment["cuda"]


CHOICES: list[tuple[str, dict[str, Any], str | None]] = [
    ("resnet34", {"shortcut": "A"}, None),
    ("resnet18", {"shortcut": "C", "conv_bias": True}, None),
    ("resnet34", {"batch_norm": False}, None),
    ("plain18", {"batch_norm": False, "conv_bias": True}, None),
    ("resnet50", {"stride_on": "1x1"}, None),
    ("resnet50", {"shortcut": "A", "classes": 10}, None),
    ("resnet18", {"classes": 10}, "torchvision.models.resnet18 = resnet18 with classes=10"),
    ("vgg11", {"batch_norm": True}, "torchvision.models.vgg11_bn = vgg11 with batch_norm=true, avgpool=true"),
    ("vgg11", {"bias": False, "avgpool": True}, None),
    ("alexnet", {"towers": 1, "bias": False}, None),
    ("alexnet-torchvision", {}, "torchvision.models.alexnet = alexnet-torchvision"),
]


@pytest.mark.parametrize(("name", "choices", "reference"), CHOICES)
def test_every_number_under_other_choices(name: str, choices: Mapping[str, Any], reference: str | None) -> None:
    entry = zoo.find(name)
    report = check(entry.build(**choices), entry=entry, choices=choices, shape=(2, 3, 67, 95))
    assert_equal_throughout(report)
    assert report.input == (2, 3, 67, 95)
    assert [one.subject for one in report.comparisons[10::10]] == ([reference] if reference else [])


def test_a_network_that_is_no_entry() -> None:
    report = check(Network.sequential("net", (3, 3, 9, 9), [Conv2d(4, 3), BatchNorm2d(), Flatten(), Linear(5)]))
    assert_equal_throughout(report)
    assert {one.subject for one in report.comparisons} == {"built from the spec"}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("statistics", [True, False])
def test_every_kind_of_batch_norm(affine: bool, statistics: bool) -> None:
    norm = BatchNorm2d(affine=affine, track_running_stats=statistics)
    report = check(Network.sequential("net", (2, 3, 5, 5), [norm]))
    assert_equal_throughout(report)
    (fvcore,) = [one for one in report.comparisons if one.what == "flops (fvcore)"]
    each = {(True, True): 2, (False, True): 1, (True, False): 5, (False, False): 4}[affine, statistics]
    assert fvcore.theirs == each * 2 * 3 * 5 * 5


@pytest.mark.parametrize("name", ["resnet152", "plain34", "vgg19", "inception-reduced", "alexnet"])
def test_numbers_in_the_pass_stay_finite(name: str) -> None:
    network = zoo.find(name).build()
    module = materialize(build(network, device="meta"), CPU).eval()
    with torch.no_grad():
        assert module(random(network.nodes[0].layer.output(), CPU)).isfinite().all()


# A spec that is wrong


def replaced(network: Network, name: str, **changes: Any) -> Network:
    """The network with fields of one layer changed."""
    nodes = [
        dataclasses.replace(node, layer=dataclasses.replace(node.layer, **changes)) if node.name == name else node
        for node in network
    ]
    return Network(network.name, tuple(nodes))


def without(network: Network, name: str) -> Network:
    """The network with one layer left out, what flowed into it flowing on."""
    (source,) = network[name].inputs
    nodes = [
        dataclasses.replace(node, inputs=tuple(source if one == name else one for one in node.inputs))
        for node in network
        if node.name != name
    ]
    return Network(network.name, tuple(nodes))


def after(network: Network, name: str, layer: Layer) -> Network:
    """The network with one layer more, called extra."""
    nodes: list[Node] = []
    for node in network:
        nodes.append(dataclasses.replace(node, inputs=tuple("extra" if one == name else one for one in node.inputs)))
        if node.name == name:
            nodes.append(Node("extra", layer, (name,)))
    return Network(network.name, tuple(nodes))


VGG, RESNET = zoo.vgg11(avgpool=True), zoo.resnet18()
BLOCK = "layer2.0."
# (what torchvision has, a spec that says something else, {comparison that fails: its remainder or None, in a message})
WRONG = {
    "padding": (
        ("vgg11", replaced(VGG, "conv3_1", padding=0)),
        # 64×64 is 16×16 at conv3_1, so 14×14; then 14, 7, 7, 7, 3 … instead of 16, 8, 8, 8, 4 …
        {"output elements": "conv3_1 (features.6): archcalc 2×256×14×14, module 2×256×16×16"}
        # 2·(16·16 − 14·14)·9·128·256 = 35,389,440
        | {"MACs (torch)": "conv3_1 (features.6): archcalc 115,605,504, torch 150,994,944"},
    ),
    "bias": (
        ("vgg11", replaced(VGG, "conv3_1", bias=False)),
        {"biases": "conv3_1 (features.6): archcalc nothing, module bias 256"}
        | {"state_dict": "", "params (fvcore)": "", "params (torchinfo)": ""}
        # 150,994,944 + 2·16·16·256
        | {"mult-adds (torchinfo)": "conv3_1 (features.6): archcalc 150,994,944, torchinfo 151,126,016"},
    ),
    "groups": (
        ("vgg11", replaced(VGG, "conv3_1", groups=2)),
        {"weights": "conv3_1 (features.6): archcalc weight 256×64×3×3, module weight 256×128×3×3"}
        | {"MACs (torch)": "conv3_1 (features.6): archcalc 75,497,472, torch 150,994,944"}
        | {"flops (fvcore)": "fvcore 150,994,944", "mult-adds (torchinfo)": "conv3_1", "params (fvcore)": ""},
    ),
    "kernel": (
        ("resnet18", replaced(RESNET, f"{BLOCK}conv2", kernel_size=5, padding=2)),
        {"weights": "layer2.0.conv2: archcalc weight 128×128×5×5, module weight 128×128×3×3"}
        | {"MACs (torch)": "layer2.0.conv2: archcalc 52,428,800, torch 18,874,368"},
    ),
    "stride": (
        ("resnet18", replaced(RESNET, "conv1", stride=1)),
        {"output elements": "conv1: archcalc 2×64×64×64, module 2×64×32×32", "MACs (torch)": "conv1"},
    ),
    "classes": (
        ("resnet18", replaced(RESNET, "fc", out_features=999)),
        {"output elements": "output of the network: archcalc 2×999, module 2×1000"}
        | {"weights": "fc: archcalc weight 999×512, module weight 1000×512", "biases": "fc"},
    ),
    "no ReLU": (
        ("vgg11", without(VGG, "relu3_2")),
        {"output elements": "features.9 (ReLU) is called by the module, but is not in the spec"},
    ),
    # 2·8·8·9·512·512 = 301,989,888
    "no convolution": (
        ("vgg11", without(VGG, "conv4_2")),
        {"output elements": "(Conv2d) is called by the module, but is not in the spec"}
        | {"MACs (torch)": "archcalc 0, torch 301,989,888", "weights": "", "biases": ""},
    ),
    "no batch norm": (
        ("resnet18", without(RESNET, f"{BLOCK}bn2")),
        {"output elements": "layer2.0.bn2 (BatchNorm2d) is called by the module, but is not in the spec"}
        | {"flops (fvcore)": "layer2.0.bn2: archcalc 0, fvcore 32,768", "buffers": "", "weights": "", "biases": ""},
    ),
    "batch norm without weights": (
        ("resnet18", replaced(RESNET, f"{BLOCK}bn2", affine=False)),
        {"weights": "layer2.0.bn2: archcalc nothing, module weight 128", "biases": "layer2.0.bn2"}
        | {"flops (fvcore)": "layer2.0.bn2: archcalc 16,384, fvcore 32,768"}
        | {"mult-adds (torchinfo)": "layer2.0.bn2: archcalc 0, torchinfo 512"},
    ),
    "batch norm without statistics": (
        ("resnet18", replaced(RESNET, f"{BLOCK}bn2", track_running_stats=False)),
        {"buffers": "layer2.0.bn2: archcalc nothing, module num_batches_tracked scalar and running_mean 128"}
        | {"state_dict": "", "flops (fvcore)": "layer2.0.bn2: archcalc 81,920, fvcore 32,768"},
    ),
    "a layer more": (
        ("resnet18", after(RESNET, "relu", Dropout())),
        {"output elements": "extra (Dropout) is in the spec, but the module does not call it"},
    ),
    "a pool more": (
        ("vgg11", after(VGG, "relu3_2", MaxPool2d(2))),
        {
            "output elements": "(MaxPool2d) is in the spec, but the module does not call it",
            "MACs (torch)": "conv4",
        },
    ),
}


@pytest.mark.parametrize(("wrong", "expected"), WRONG.values(), ids=WRONG)
def test_a_wrong_spec_is_found(wrong: tuple[str, Network], expected: Mapping[str, str]) -> None:
    model, network = wrong
    found = by_what(check_module(torchvisions(model), network, label=model, shape=SMALL))
    for what, fragment in expected.items():
        assert not found[what].ok
        assert found[what].remainder or what == "buffers"
        assert not fragment or any(fragment in message for message in found[what].mismatches), found[what].mismatches
    costly = {"MACs (torch)", "flops (fvcore)", "mult-adds (torchinfo)"} & expected.keys()
    assert all(found[what].layers_equal < found[what].layers_compared for what in costly)
    same = [one for one in found.values() if one.ok]
    assert all(one.layers_equal == one.layers_compared and one.remainder == 0 for one in same)


def test_the_right_one_of_many_alike_is_missed() -> None:
    """Of two ReLUs in a row of convolutions the one that is left out is named, not another."""
    for name, path in (("relu3_1", "features.7"), ("relu5_2", "features.19"), ("relu7", "classifier.4")):
        found = check_module(torchvisions("vgg11"), without(VGG, name), label="vgg11", shape=SMALL, tools=())
        assert found[0].mismatches == (f"{path} (ReLU) is called by the module, but is not in the spec",)


class Functional(nn.Module):
    """Calls functions where others call modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4 * 7 * 7, 5)
        self.scale = nn.Parameter(torch.ones(7))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.fc(torch.relu(self.conv(x)).flatten(1))
        return output.repeat(1, 2)


def test_what_a_module_does_without_modules_is_found() -> None:
    layers = [Conv2d(4, 3), ReLU(), Flatten(), Linear(5)]
    network = Network.sequential("net", (1, 3, 9, 9), layers)
    found = by_what(check_module(Functional(), network, label="functional"))
    assert found["output elements"].mismatches == (
        "relu1 (ReLU) is in the spec, but the module does not call it",
        "output of the network: archcalc 1×5, module 1×10",
    )
    assert found["weights"].remainder == 7
    assert found["weights"].layers_equal == found["weights"].layers_compared == 2
    assert all(found[what].ok for what in TWO)


def test_a_flatten_that_the_built_module_does_not_call_is_missed() -> None:
    network = Network.sequential("net", (1, 3, 9, 9), [Conv2d(4, 3), Flatten(), Linear(5)])
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(196, 5))
    module[1].register_forward_pre_hook(lambda _, inputs: inputs[0].flatten(1))
    loose, exact = (check_module(module, network, label="", tools=(), exact=exact)[0] for exact in (False, True))
    assert loose.ok
    assert exact.mismatches == ("flatten1 (Flatten) is in the spec, but the module does not call it",)


def test_calls_of_one_module_are_added_up() -> None:
    relu = nn.ReLU()
    conv = nn.Conv2d(3, 3, 1)
    network = Network.sequential("net", (1, 3, 4, 4), [Conv2d(3, 1), ReLU(), Conv2d(3, 1), ReLU()])
    found = by_what(check_module(nn.Sequential(conv, relu, conv, relu), network, label="shared"))
    assert found["output elements"].layers_equal == 4
    assert [found[what].layers_equal for what in TWO] == [2, 2]
    assert all(found[what].ok for what in TWO)
    assert found["weights"].remainder == -9  # the spec has two convolutions' weights, the module one's


# A convention that is wrong, a tool that counts otherwise


@pytest.mark.parametrize(
    ("tool", "cause", "amount", "remainder"),
    [
        # ResNet-18 on 1×3×224×224: 1,000 biases; 4,800 channels of batch norm; 2·2,483,712 elements of it; 512·7·7
        ("torchinfo", "bias", lambda row: 0, 1_000),
        ("torchinfo", "batch norm", lambda row: row.biases if row.kind == "BatchNorm2d" else 0, 4_800),
        ("fvcore", "batch norm", lambda row: row.ledger.get("mul", 0), 2_483_712),
        ("fvcore", "adaptive", lambda row: 0, 25_088),
    ],
)
def test_a_wrong_convention_leaves_a_remainder(
    tool: str, cause: str, amount: Any, remainder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    convention = CONVENTIONS[tool]
    causes = tuple(Cause(one.name, amount) if one.name.startswith(cause) else one for one in convention.causes)
    monkeypatch.setattr(f"archcalc.conventions.{tool}.CONVENTIONS", (dataclasses.replace(convention, causes=causes),))
    found = check_module(build(RESNET), RESNET, label="built", tools=[tool], exact=True)
    wrong = by_what(found)[convention.header]
    assert wrong.remainder == remainder
    assert wrong.mismatches
    assert {one.what for one in found if not one.ok} == {convention.header}


def test_differences_are_itemised() -> None:
    found = by_what(check_module(build(RESNET), RESNET, label="built", exact=True))
    assert found["MACs (torch)"].causes == ()
    assert [amount for _, amount in found["flops (fvcore)"].causes] == [2 * 2_483_712, 25_088]
    assert [amount for _, amount in found["mult-adds (torchinfo)"].causes] == [1_000, 9_600]
    assert found["flops (fvcore)"].unsupported == ("aten::add", "aten::add_", "aten::max_pool2d")[1:]


def tampered(monkeypatch: pytest.MonkeyPatch, total: int = 0, **layers: int) -> Comparison:
    """What is found where a tool counts so many more in total and in these layers."""
    network = Network.sequential("net", (1, 3, 9, 9), [Conv2d(4, 3), ReLU(), Conv2d(2, 3)])
    honest = COUNTERS["torch"]

    def count(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Counted:
        counted = honest(module, args, kwargs)
        assert counted.layers is not None
        more = {path: macs + layers.get(path, 0) for path, macs in counted.layers.items()}
        return dataclasses.replace(counted, total=counted.total + total, layers=more)

    monkeypatch.setattr(crosscheck, "COUNTERS", {"torch": count})
    return by_what(check_module(build(network), network, label="built", tools=["torch"], exact=True))["MACs (torch)"]


def test_one_mac_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tampered(monkeypatch).ok
    found = tampered(monkeypatch, total=1)
    assert not found.ok
    assert found.remainder == 1
    assert found.layers_equal == found.layers_compared == 3


def test_errors_that_cancel_in_the_total_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tampered(monkeypatch, conv2d1=1, conv2d2=-1)
    assert found.remainder == 0
    assert not found.ok
    assert found.mismatches == (
        "conv2d1: archcalc 5,292, torch 5,293",
        "conv2d2: archcalc 1,800, torch 1,799",
    )


# What cannot be compared


@pytest.mark.parametrize(("package", "what"), [("fvcore", "flops (fvcore)"), ("torchinfo", "mult-adds (torchinfo)")])
def test_a_missing_tool_is_said_to_be_skipped(package: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (package, f"{package}.nn"):
        monkeypatch.setitem(sys.modules, name, None)
    report = check(zoo.inception_naive())
    skipped = [one for one in report.comparisons if one.skipped]
    assert [(one.what, one.theirs, one.remainder, one.ok) for one in skipped] == [(what, None, None, True)]
    assert report.ok
    assert f'{what} skipped: {package} is not installed: pip install "archcalc[counters]"' in report.table().notes
    assert "skipped" in report.table().to_markdown()


def test_missing_torchvision_is_said_to_be_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, None)
    entry = zoo.find("resnet18")
    report = check(entry.build(), entry=entry, shape=(1, 3, 32, 32))
    assert len(report.comparisons) == 11
    assert report.comparisons[-1].subject == "torchvision.models.resnet18 = resnet18"
    assert "pip install" in report.comparisons[-1].skipped
    assert report.ok


def test_a_tool_that_fails_is_a_failed_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Counted:
        raise CheckError("fvcore could not count Net: RuntimeError: no")

    monkeypatch.setattr(crosscheck, "COUNTERS", {**COUNTERS, "fvcore": count})
    report = check(zoo.inception_naive())
    assert not report.ok
    (failed,) = [one for one in report.comparisons if not one.ok]
    assert (failed.what, failed.theirs, failed.remainder) == ("flops (fvcore)", None, None)
    assert "built from the spec, flops (fvcore): fvcore could not count Net" in str(report.table().notes)
    assert "failed" in report.table().to_markdown()


def test_a_layer_that_cannot_run_is_named() -> None:
    network = Network.sequential("net", (1, 3, 1, 1), [Conv2d(2, 1), BatchNorm2d(track_running_stats=False)])
    module = build(network).train()
    hooks = {path: (len(one._forward_hooks), len(one._forward_pre_hooks)) for path, one in module.named_modules()}
    with pytest.raises(CheckError, match=r"^batchnorm2d1 \(BatchNorm2d\) received 1×2×1×1 and failed with ValueError"):
        observe(module, random((1, 3, 1, 1), CPU))
    assert hooks == {
        path: (len(one._forward_hooks), len(one._forward_pre_hooks)) for path, one in module.named_modules()
    }
    assert all(one.training for one in module.modules())


def test_symbolic_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="whole numbers"):
        check(zoo.resnet18(), shape=("N", 3, "H", "W"))


# What it leaves alone


def test_the_module_and_the_generators_are_untouched() -> None:
    module = build(zoo.resnet18(), (2, 3, 32, 32)).train()
    module.get_submodule("layer1.0.bn1").eval()
    module.get_parameter("fc.weight").requires_grad_(False)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    attributes = {path: set(vars(one)) for path, one in module.named_modules()}
    modes = {path: one.training for path, one in module.named_modules()}
    generator = torch.get_rng_state()
    check_module(module, zoo.resnet18(), label="built", shape=(2, 3, 32, 32), exact=True)
    assert torch.equal(torch.get_rng_state(), generator)
    assert {path: one.training for path, one in module.named_modules()} == modes
    assert {path: set(vars(one)) for path, one in module.named_modules()} == attributes
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in module.modules())
    assert {name for name, one in module.named_parameters() if not one.requires_grad} == {"fc.weight"}
    assert all(one.grad is None for one in module.parameters())


def test_a_check_draws_nothing_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    check(zoo.resnet18(), entry=zoo.find("resnet18"), shape=(1, 3, 32, 32))
    assert torch.equal(torch.get_rng_state(), before)


def test_one_copy_of_the_weights_at_a_time() -> None:
    alive: dict[str, int] = {}

    def look(step: str) -> None:
        alive[step] = sum(type(one) is BuiltNetwork for one in gc.get_objects())

    check(zoo.resnet18(), entry=zoo.find("resnet18"), shape=(1, 3, 32, 32), progress=look)
    start = alive["resnet18: building the module"]
    steps = ("forward pass", "torch", "fvcore", "torchinfo")
    built = {f"built from the spec: {step}": start + 1 for step in steps}
    theirs = {f"torchvision.models.resnet18 = resnet18: {step}": start for step in steps}
    first, second = "resnet18: building the module", "resnet18: constructing torchvision's resnet18"
    assert alive == {first: start, **built, second: start, **theirs}


# The report


def test_the_table_is_the_same_each_time() -> None:
    entry = zoo.find("resnet18")
    one, other = (check(entry.build(), entry=entry, shape=(1, 3, 32, 32)).table() for _ in range(2))
    assert one == other
    assert one.title == "resnet18 on 1×3×32×32, cpu"
    assert [row[0] for row in one.rows if row[0]] == ["built from the spec", "torchvision.models.resnet18 = resnet18"]


def test_the_record_is_plain_and_has_every_mismatch() -> None:
    report = check(zoo.inception_naive())
    many = tuple(f"conv{i}: archcalc 1, torch 2" for i in range(25))
    failed = dataclasses.replace(report.comparisons[0], layers_equal=0, mismatches=many)
    report = dataclasses.replace(report, comparisons=(failed, *report.comparisons[1:]))
    record = json.loads(json.dumps(report.to_dict()))
    assert record["schema"] == "archcalc.check/1"
    assert record["ok"] is report.ok is False
    assert record["comparisons"][0]["mismatches"] == list(many)
    assert record["comparisons"][8]["causes"] == {"bias, 1 an output element": 416 * 32 * 32}
    assert record["comparisons"][8]["remainder"] == 0
    assert {"torch", "torchvision", "fvcore", "torchinfo", "device_name"} <= record["environment"].keys()
    assert report.table().notes[:-1][-1].endswith("output elements: and 15 more")


def test_torchvision_is_constructed_without_drawing_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = []

    def model(*, weights: None, num_classes: int) -> nn.Module:
        module: nn.Module = torchvision.models.resnet18(weights=weights, num_classes=num_classes)
        devices.append({parameter.device.type for parameter in module.parameters()})
        return module

    monkeypatch.setitem(sys.modules, "torchvision.models", types.SimpleNamespace(resnet18=model))
    assert check(zoo.resnet18(), entry=zoo.find("resnet18"), shape=(1, 3, 32, 32)).ok
    assert devices == [{"meta"}]


class Tied(nn.Module):
    """A weight under two names, a buffer that is not stored, and a state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.mask = nn.Buffer(torch.ones(5), persistent=False)
        self.scale = nn.Buffer(torch.ones(3))

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}

    def forward(self, ids: Tensor) -> Tensor:
        scores: Tensor = self.head(self.embedding(ids))
        return scores * self.scale.sum() + self.mask.sum()


def test_tied_weights_are_compared_once() -> None:
    (argument,) = [Argument((1, 5), "int64")]
    report = check(
        trace(Tied(), torch.zeros(1, 5, dtype=torch.int64), name="tied"), make=Tied, arguments=(argument,), device=CPU
    )
    state = by_what(report.comparisons)["state_dict"]
    assert state.ours == state.theirs == 7 * 4 + 3 + 5
    assert report.ok


class LooksAtItsData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x if x.mean() > 0 else self.second(x)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.filterwarnings("ignore:.*cannot run without data")
def test_a_module_is_traced_on_the_data_it_is_checked_with(sign: int) -> None:
    module = LooksAtItsData()
    nn.init.constant_(module.first.bias, 9 * sign)  # |weights| <= 1/2 on |x| <= 1 add up to 2 at most
    other = LooksAtItsData()
    nn.init.constant_(other.first.bias, -9 * sign)
    report = check(trace(other, (1, 4), name="looks"), make=lambda: module, device=CPU)
    assert by_what(report.comparisons)["MACs (torch)"].ours == {1: 16, -1: 32}[sign]
    assert report.ok
