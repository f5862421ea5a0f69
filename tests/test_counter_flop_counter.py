import pytest
import torch
from torch import Tensor, nn

from archcalc import analyze, trace
from archcalc.pytorch.counters import COUNTERS
from tests.counted import Call, Shapes
from tests.remainders import of_small_modules

count = COUNTERS["torch"]


def test_small_modules_of_every_kind_and_networks() -> None:
    assert of_small_modules("torch") == {}


def _by_groups(x: Tensor, weights: Tensor) -> Tensor:
    ends = torch.tensor([2, 5], dtype=torch.int32)
    products: Tensor = torch._grouped_mm(x.bfloat16(), weights.bfloat16(), offs=ends)
    return products


# (module, inputs, MACs, what FlopCounterMode says)
NOT_SEEN = [
    pytest.param(Call(torch.mv), ((4, 5), (5,)), 20, id="matrix and vector"),
    pytest.param(Call(torch.dot), ((5,), (5,)), 5, id="two vectors"),
    pytest.param(Call(_by_groups), ((5, 8), (2, 8, 16)), 5 * 8 * 16, id="rows in groups"),
    # 2·6·4·3 products with the first, 2·6·4 with the second
    pytest.param(nn.Bilinear(3, 4, 6), ((2, 3), (2, 4)), 144 + 48, id="bilinear"),
]


@pytest.mark.parametrize(("module", "shapes", "macs"), NOT_SEEN)
def test_what_it_does_not_see(module: nn.Module, shapes: Shapes, macs: int) -> None:
    inputs = tuple(map(torch.ones, shapes))
    assert count(module, inputs).total == 0
    assert analyze(trace(module, inputs)).total.macs == macs
