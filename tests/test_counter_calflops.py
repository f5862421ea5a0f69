import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from archcalc.conventions import convention
from archcalc.errors import CheckError
from archcalc.pytorch.counters import COUNTERS
from tests.counted import CONVOLUTIONS_REFUSED, Call, Shapes, three_counts, unexplained

count = COUNTERS["calflops"]


def test_small_modules_of_every_kind_and_networks() -> None:
    assert unexplained("calflops", CONVOLUTIONS_REFUSED) == []


# (module, inputs, MACs executed, what calflops says)
DEFECTS = [
    # 4 by 6 by 5, of which einsum's FLOPs are counted but no multiply-adds
    pytest.param(Call(lambda a, b: torch.einsum("ij,jk->ik", a, b)), ((4, 5), (5, 6)), 120, 0, id="einsum"),
    # 3 products of 4·5·6, counted as one: 4·5 elements by 6 columns
    pytest.param(Call(lambda a, b: torch.matmul(a, b)), ((4, 5), (3, 5, 6)), 360, 120, id="stretched first"),
    # 8·8 outputs of 4·6 channels and 2·2 taps, counted on 7·7
    pytest.param(nn.Conv2d(4, 6, 2, padding="same"), ((1, 4, 8, 8),), 96 * 64, 96 * 49, id="padding=same, even kernel"),
    # 4 by 4 channels in 2 groups, 3·3 taps on 5·5 inputs: 4·2·9 weights, halved again
    pytest.param(
        nn.ConvTranspose2d(4, 4, 3, groups=2, bias=False), ((1, 4, 5, 5),), 72 * 25, 36 * 25, id="grouped, transposed"
    ),
    # depthwise: 1 filter a group is divided by 4 groups, which is none
    pytest.param(
        nn.ConvTranspose2d(4, 4, 3, groups=4, bias=False), ((1, 4, 5, 5),), 36 * 25, 0, id="depthwise, transposed"
    ),
    pytest.param(Call(lambda a, b: a @ b), ((4, 5), (5, 6)), 120, 0, id="@"),
    pytest.param(Call(lambda a, b: a.matmul(b)), ((4, 5), (5, 6)), 120, 120, id="the same by name"),
    # two products of 3·3·4
    pytest.param(Call(functional.scaled_dot_product_attention), ((1, 1, 3, 4),) * 3, 72, 0, id="fused attention"),
    pytest.param(nn.LSTM(5, 7), ((3, 1, 5),), 3 * 4 * 7 * 12, 0, id="LSTM"),
]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("module", "shapes", "macs", "theirs"), DEFECTS)
def test_defects(module: nn.Module, shapes: Shapes, macs: int, theirs: int) -> None:
    assert three_counts("calflops", module, *map(torch.ones, shapes)) == (macs, macs, theirs)


def test_a_vector_is_counted_as_a_matrix() -> None:
    # 4·5 multiply-adds; 4·5 elements by the 5 of the vector
    assert count.here(Call(lambda a, b: torch.matmul(a, b)), (torch.ones(4, 5), torch.ones(5)), {}).total == 100


def test_in_its_process_again_the_same_and_after_a_failure() -> None:
    module, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).train(), torch.ones(1, 3, 5, 5)
    first = count(module, (x,))
    assert (first.total, first.layers, first.params) == (972, {"0": 972, "1": 0}, 112)  # 3·3 outputs by 108 weights
    assert first.changed == ()
    with pytest.raises(CheckError, match="calflops could not count Conv2d"):
        count(nn.Conv2d(5, 4, 3), (x,))
    assert count(module, (x,)) == first
    assert module.training
    assert isinstance(torch.matmul(x, x), Tensor)


class Twice(nn.Module):
    """One layer that two parents hold, called once."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 7)
        self.also = nn.ModuleList([self.layer])

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


def test_a_module_with_two_parents_counts_double() -> None:
    assert three_counts("calflops", Twice(), torch.ones(1, 5)) == (35, 35, 70)
    assert "module counted again under each parent" in [cause.name for cause in convention("calflops").causes]


def test_what_it_leaves_patched_is_taken_back() -> None:
    before = torch.baddbmm
    inputs = (torch.ones(2, 3, 3),) * 3
    with pytest.raises(CheckError):
        count.here(nn.Conv2d(5, 4, 3), (torch.ones(1, 3, 5, 5),), {})
    assert torch.baddbmm is before
    assert [count.here(Call(lambda *x: torch.baddbmm(*x)), inputs, {}).total for _ in range(2)] == [54, 54]  # 2·3·3·3
