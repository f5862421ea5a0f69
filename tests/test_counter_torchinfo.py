import pytest
import torch
from torch import Tensor, nn

from archcalc.pytorch.counters import COUNTERS
from tests.counted import Call, Shared, Tied
from tests.remainders import of_small_modules, remainders

count = COUNTERS["torchinfo"]


def test_small_modules_of_every_kind_and_networks() -> None:
    # the weight that two layers share is counted again, but the root takes it off what it holds itself: 5 and 4·3·9 + 4
    assert of_small_modules("torchinfo") == {"Tied": (0, -25)}


class Own(nn.Module):
    """A layer with parameters of its own and no submodule; the name has the word."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class Held(nn.Module):
    """A layer that two modules hold, under the root or not."""

    def __init__(self, root: bool) -> None:
        super().__init__()
        linear = nn.Linear(5, 5, bias=False)
        self.one = linear if root else nn.Sequential(linear, nn.Tanh())
        self.other = nn.Sequential(linear, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.one(x))  # type: ignore[no-any-return]


class Listed(nn.Module):
    """A layer that runs in one module, at some depth, and is held by a list as well."""

    def __init__(self, deep: bool, first: bool = False) -> None:
        super().__init__()
        linear = nn.Linear(5, 5, bias=False)
        block = nn.Sequential(linear, nn.Tanh()) if deep else linear
        if first:
            self.all = nn.ModuleList([block])
        self.run = nn.Sequential(nn.Sequential(block, nn.ReLU()))
        if not first:
            self.all = nn.ModuleList([block])

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)  # type: ignore[no-any-return]


# (module, input, MACs executed, what torchinfo says)
DEFECTS = [
    # 4 channels by 6, 3·3 taps on 5·5 inputs; on 11·11 outputs
    pytest.param(
        nn.ConvTranspose2d(4, 6, 3, 2, bias=False), (1, 4, 5, 5), 216 * 25, 216 * 121, id="transposed convolution"
    ),
    pytest.param(nn.Linear(5, 7, bias=False), (2, 3, 5), 6 * 35, 2 * 35, id="tokens"),
    pytest.param(Call(lambda x: x @ x), (5, 5), 125, 0, id="functional call"),
    # 3·7 outputs are multiplied with the 7·12 weights
    pytest.param(nn.RNNCell(5, 7, bias=False), (3, 5), 3 * 84, 21 * 84, id="one step"),
    pytest.param(Own(), (3, 4), 0, 12, id="a parameter called weight"),
]


@pytest.mark.parametrize(("module", "shape", "macs", "theirs"), DEFECTS)
def test_defects(module: nn.Module, shape: tuple[int, ...], macs: int, theirs: int) -> None:
    x = torch.ones(shape)
    assert COUNTERS["torch"](module, (x,)).total == macs
    assert count(module, (x,)).total == theirs
    assert remainders("torchinfo", module, x) == (0, 0)


def test_a_table_counts_as_if_it_were_multiplied() -> None:
    x = torch.zeros(2, 3, dtype=torch.int64)
    assert count(nn.Embedding(10, 4), (x,)).total == 2 * 40
    assert remainders("torchinfo", nn.Embedding(10, 4), x) == (0, 0)


@pytest.mark.parametrize(
    ("module", "params", "theirs"),
    [
        (Held(False), 25, 75),
        (Held(True), 25, 50),
        (Listed(False), 25, 50),
        (Listed(True), 25, 50),
        (Shared(), 50, 50),
        (Tied(), 182, 182),
    ],
)
def test_parameters(module: nn.Module, params: int, theirs: int) -> None:
    x = torch.ones(3, 5)
    assert sum(one.numel() for one in module.parameters()) == params
    assert count(module, (x,)).params == theirs


def test_a_module_that_two_hold_is_explained() -> None:
    assert remainders("torchinfo", Held(False), torch.ones(3, 5)) == (0, 0)
    assert remainders("torchinfo", Held(True), torch.ones(3, 5)) == (0, 0)
    for deep in (False, True):
        for first in (False, True):
            assert remainders("torchinfo", Listed(deep, first), torch.ones(3, 5)) == (0, 0)
