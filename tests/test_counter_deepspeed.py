import pytest
import torch
from torch import Tensor, nn

from archcalc.errors import CheckError
from archcalc.pytorch.counters import COUNTERS
from tests.counted import CONVOLUTIONS_REFUSED, Call, Shapes, three_counts, unexplained

count = COUNTERS["deepspeed"]


def test_small_modules_of_every_kind_and_networks() -> None:
    assert unexplained("deepspeed", CONVOLUTIONS_REFUSED) == []


# (module, inputs, MACs executed, what DeepSpeed says)
DEFECTS = [
    # 4 by 6 by 5, of which einsum's FLOPs are counted but no multiply-adds
    pytest.param(Call(lambda a, b: torch.einsum("ij,jk->ik", a, b)), ((4, 5), (5, 6)), 120, 0, id="einsum"),
    # 3 products of 4·5·6, counted as one: 4·5 elements by 6 columns
    pytest.param(Call(lambda a, b: torch.matmul(a, b)), ((4, 5), (3, 5, 6)), 360, 120, id="stretched first"),
    # 8·8 outputs of 4·6 channels and 2·2 taps, counted on 7·7
    pytest.param(nn.Conv2d(4, 6, 2, padding="same"), ((1, 4, 8, 8),), 96 * 64, 96 * 49, id="padding=same, even kernel"),
    pytest.param(nn.LSTM(5, 7), ((3, 1, 5),), 3 * 4 * 7 * 12, 0, id="LSTM"),
]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("module", "shapes", "macs", "theirs"), DEFECTS)
def test_defects(module: nn.Module, shapes: Shapes, macs: int, theirs: int) -> None:
    assert three_counts("deepspeed", module, *map(torch.ones, shapes)) == (macs, macs, theirs)


def test_a_vector_is_counted_as_a_matrix() -> None:
    # 4·5 multiply-adds; 4·5 elements by the 5 of the vector
    assert count.here(Call(lambda a, b: torch.matmul(a, b)), (torch.ones(4, 5), torch.ones(5)), {}).total == 100


def test_in_its_process_again_the_same_and_after_a_failure() -> None:
    module, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).train(), torch.ones(1, 3, 5, 5)
    first = count(module, (x,))
    assert (first.total, first.layers, first.params) == (972, {"0": 972, "1": 0}, 112)  # 3·3 outputs by 108 weights
    assert first.changed == ()
    with pytest.raises(CheckError, match="deepspeed could not count Conv2d"):
        count(nn.Conv2d(5, 4, 3), (x,))
    assert count(module, (x,)) == first
    assert module.training
    assert isinstance(torch.matmul(x, x), Tensor)
