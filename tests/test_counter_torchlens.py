import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from archcalc import zoo
from archcalc.pytorch.build import build
from archcalc.pytorch.counters import COUNTERS
from tests.counted import networks
from tests.remainders import remainders

count = COUNTERS["torchlens"]


class Product(nn.Module):
    """A product of an image's rows with themselves."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("...ij,...kj->...ik", x, x)


class Half(nn.Module):
    """Half of a weight, which is then no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(14, 5))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight[:7])


# (module, input, MACs executed, what torchlens says); what it has no formula for, it names
DEFECTS = [
    # 3 steps, 4 gates of 7 units, 5 inputs and 7 of the state
    pytest.param(nn.LSTM(5, 7), (3, 1, 5), 3 * 4 * 7 * 12, 0, id="LSTM"),
    pytest.param(Half(), (3, 5), 105, 0, id="weights that are computed"),
]


@pytest.mark.parametrize(("module", "shape", "macs", "theirs"), DEFECTS)
def test_defects(module: nn.Module, shape: tuple[int, ...], macs: int, theirs: int) -> None:
    x = torch.ones(shape)
    assert COUNTERS["torch"](module, (x,)).total == macs
    counted = count(module, (x,))
    assert counted.total == theirs
    assert counted.unsupported
    assert remainders("torchlens", module, x) == (0, 0)


def test_einsum_with_an_ellipsis_is_named_as_unknown() -> None:
    counted = count(Product(), (torch.ones(2, 3, 4),))
    assert (counted.total, counted.unsupported) == (0, ("einsum",))


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3, groups=1, padding="same"), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)),
    ],
)
def test_layers(module: nn.Module) -> None:
    assert remainders("torchlens", module, torch.ones(2, 3, 6, 6)) == (0, 0)


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention(batch_first: bool) -> None:
    module = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
    assert remainders("torchlens", module, torch.ones(2, 3, 8)) == (0, 0)


def test_the_module_is_left_alone_and_again_the_same() -> None:
    module, x = nn.Sequential(nn.Linear(5, 7), nn.Tanh()).train(), torch.ones(2, 5)
    function = torch.relu
    first = count(module, (x,))
    assert first.changed == ()
    assert (first.total, first.params) == (70, 42)
    assert [*module.state_dict()] == ["0.weight", "0.bias"]
    assert module.training
    assert torch.relu is function
    assert count(module, (x,)) == first


@pytest.mark.parametrize(("name", "module", "inputs"), [one for one in networks() if one[0] in ("resnet18", "swin")])
def test_networks(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert remainders("torchlens", module, *inputs) == (0, 0), name


def test_a_convolution_by_table_has_no_parameter_of_its_shape() -> None:
    network = zoo.find("lenet5").build()
    assert remainders("torchlens", build(network), torch.ones(network.input_nodes[0].layer.output())) == (0, 0)
