import pytest
import torch
from torch import Tensor, nn

from archcalc.pytorch.counters import COUNTERS
from tests.counted import Call, MyConv
from tests.remainders import of_small_modules, remainders

count = COUNTERS["thop"]


def test_small_modules_of_every_kind_and_networks() -> None:
    assert of_small_modules("thop") == {}


class Bare(nn.Module):
    """A layer and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 7)
        self.scale = nn.Parameter(torch.ones(7))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.scale  # type: ignore[no-any-return]


class Twice(nn.Module):
    """A layer with two parents, called by each."""

    def __init__(self) -> None:
        super().__init__()
        linear = nn.Linear(5, 5, bias=False)
        self.one, self.other = nn.Sequential(linear), nn.Sequential(linear, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.one(x))  # type: ignore[no-any-return]


# (module, input, MACs executed, what thop says)
DEFECTS = [
    # 4 channels by 6, 3·3 taps on 5·5 inputs; on 11·11 outputs
    pytest.param(nn.ConvTranspose2d(4, 6, 3, 2), (1, 4, 5, 5), 216 * 25, 216 * 121, id="transposed convolution"),
    pytest.param(Call(lambda x: x @ x), (5, 5), 125, 0, id="functional call"),
    pytest.param(MyConv(4, 6, 3), (1, 4, 5, 5), 216 * 9, 0, id="subclass"),
    # 6·7·7 outputs by 9 of the height, taken for channels, by 3·3 taps
    pytest.param(nn.Conv2d(4, 6, 3), (4, 9, 9), 216 * 49, 6 * 49 * 81, id="size of an image without a batch"),
    # 7 units by 5 inputs and 7 of the state; each and a sum of 7 for 5 batches
    pytest.param(nn.RNNCell(5, 7, bias=False), (5,), 84, 5 * (84 + 7), id="a single step"),
    # each call is counted by two hooks, and both parents take the sum: 2 calls of 25, four times
    pytest.param(Twice(), (1, 5), 50, 200, id="two parents"),
]


@pytest.mark.parametrize(("module", "shape", "macs", "theirs"), DEFECTS)
def test_defects(module: nn.Module, shape: tuple[int, ...], macs: int, theirs: int) -> None:
    x = torch.ones(shape)
    assert COUNTERS["torch"](module, (x,)).total == macs
    assert count.here(module, (x,), {}).total == theirs
    assert remainders("thop", module, x) == (0, 0)


@pytest.mark.parametrize(
    ("module", "params", "theirs"),
    [
        (Bare(), 42 + 7, 42),
        (nn.Linear(5, 7), 42, 0),  # the outermost module is not asked
        (nn.Sequential(nn.Linear(5, 7), nn.GroupNorm(1, 7)), 42 + 14, 42),
        (Twice(), 25, 50),
    ],
)
def test_parameters(module: nn.Module, params: int, theirs: int) -> None:
    x = torch.ones(1, 5)
    assert sum(one.numel() for one in module.parameters()) == params
    assert count(module, (x,)).params == theirs
    assert remainders("thop", module, x) == (0, 0)


def test_a_size_that_is_no_whole_number_is_cut_off() -> None:
    # of P·Q outputs of a mean of H·W each costs H/P·W/Q in floating point, and 1: together H·W + P·Q, or a bit less
    sizes = [(h, w, p, q) for h in range(3, 12) for w in range(3, 12) for p in (3, 5, 6, 7) for q in (3, 5, 6, 7)]
    short = [(h, w, p, q) for h, w, p, q in sizes if int((h / p * (w / q) + 1) * (p * q)) != h * w + p * q]
    assert short
    for h, w, p, q in short[:4]:
        module, x = nn.AdaptiveAvgPool2d((p, q)), torch.ones(1, 1, h, w)
        assert count(module, (x,)).total == h * w + p * q - 1
        assert remainders("thop", module, x) == (0, 0)


def test_what_it_leaves_behind_is_in_a_copy() -> None:
    module, x = nn.Sequential(nn.Linear(5, 7), nn.Tanh()).train(), torch.ones(2, 5)
    first = count(module, (x,))
    assert first.changed == ("buffer total_ops in 1 module", "buffer total_params in 1 module")
    assert [*module.state_dict()] == ["0.weight", "0.bias"]
    assert module.training
    assert count(module, (x,)) == first
