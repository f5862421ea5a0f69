import pytest
import torch
from torch import nn

from archcalc.pytorch.counters import COUNTERS
from tests.counted import Call, OwnLinear, three_counts, unexplained

count = COUNTERS["torchscan"]


def test_small_modules_of_every_kind() -> None:
    assert unexplained("torchscan") == []


# Defects: (module, input, MACs executed, what torchscan says)
DEFECTS = [
    # 8·8 outputs of 2 channels, 3·3 - 1 = 8 comparisons each, of which 3 - 1 = 2 are seen
    pytest.param(nn.MaxPool2d(3, 1), (1, 2, 10, 10), 0, 128 * 2, id="a window of one number"),
    pytest.param(nn.MaxPool2d((3, 3), 1), (1, 2, 10, 10), 0, 128 * 8, id="the same window of two numbers"),
    # 3 - 1 additions and a division for each of two axes: 4 an output, of 3·3 - 1 + 2 = 10
    pytest.param(nn.AvgPool2d(3, 1), (1, 2, 10, 10), 0, 128 * 4, id="an average of one number"),
    # 4 channels by 6, 3·3 taps on 5·5 inputs; on 11·11 outputs, and 4 for each of two axes
    pytest.param(nn.ConvTranspose2d(4, 6, 3, 2), (1, 4, 5, 5), 216 * 25, 216 * 121 + 8, id="transposed convolution"),
    pytest.param(Call(lambda x: x @ x), (5, 5), 125, 0, id="functional call"),
    # 6·7·7 outputs by 9 of the height, taken for channels, by 3·3 taps
    pytest.param(nn.Conv2d(4, 6, 3), (4, 9, 9), 216 * 49, 6 * 49 * 81, id="size of an image without a batch"),
    # 1·4 rows of 6 outputs by 9 features; the class puts out 4·4, which are counted by 9
    pytest.param(OwnLinear(9, 6), (1, 4, 9), 4 * 54 + 16 * 6, 16 * 9, id="a subclass"),
    # 3 steps, 4 gates of 7 units, 5 inputs and 7 of the state
    pytest.param(nn.LSTM(5, 7), (3, 1, 5), 3 * 4 * 7 * 12, 0, id="LSTM"),
]


@pytest.mark.parametrize(("module", "shape", "macs", "theirs"), DEFECTS)
def test_defects(module: nn.Module, shape: tuple[int, ...], macs: int, theirs: int) -> None:
    assert three_counts("torchscan", module, torch.ones(shape)) == (macs, macs, theirs)


def test_layers_and_what_it_has_no_formula_for() -> None:
    module = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.BatchNorm1d(7), nn.LSTM(7, 2))
    counted = count(module, (torch.ones(3, 5),))
    # 3 rows of 35, 2 for each of 21 elements
    assert counted.layers == {"0": 105, "1": 0, "2": 42, "3": 0}
    assert counted.total == 147
    assert counted.unsupported == ("GELU", "LSTM")
    assert counted.changed == ()


def test_again_the_same() -> None:
    module, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)).train(), torch.ones(1, 3, 9, 9)
    assert count(module, (x,)) == count(module, (x,))
    assert module.training
