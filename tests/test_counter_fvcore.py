from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from archcalc import trace
from archcalc.errors import CheckError
from archcalc.pytorch.counters import COUNTERS
from archcalc.pytorch.crosscheck import check_module
from tests.counted import Attend, Call, Shapes
from tests.remainders import of_small_modules, remainders

count = COUNTERS["fvcore"]


def test_small_modules_of_every_kind_and_networks() -> None:
    failures = of_small_modules("fvcore")
    products = {f"{product} {kind}" for product in ("@", "method") for kind in ("vector", "vector 3-D")}
    # it takes vectors for matrices
    assert failures.keys() == products | {"@ vector strided", "vector @ vector", "vector method vector"}
    assert {*failures.values()} == {
        "fvcore could not count Call: RuntimeError: its rule for matmul takes a vector for a matrix"
    }


# (module, inputs, MACs executed, what fvcore says)
DEFECTS = [
    pytest.param(nn.Conv2d(3, 4, 3, padding="same"), ((1, 3, 5, 5),), 108 * 25, 0, id="padding=same"),
    pytest.param(nn.Conv2d(3, 4, 3, padding="valid"), ((1, 3, 5, 5),), 108 * 9, 0, id="padding=valid"),
    pytest.param(
        Call(lambda x, w: functional.conv2d(x, w, padding="same")),
        ((1, 3, 5, 5), (4, 3, 3, 3)),
        108 * 25,
        0,
        id="padding=same of a function",
    ),
    # 3 tokens by 4 maps of 8·8; two heads of two products of 3·3·4
    pytest.param(Attend(False), ((3, 1, 8),), 3 * 4 * 64 + 2 * 2 * 36, 3 * 4 * 64, id="fused attention"),
    pytest.param(nn.LSTM(5, 7), ((3, 1, 5),), 3 * 4 * 7 * 12, 0, id="LSTM"),
    pytest.param(Call(torch.matmul), ((4, 5), (3, 5, 6)), 360, 120, id="stretched first"),
    # 6,422,529 (numpy adds one) is written 6.423e+06, and halved
    pytest.param(
        Call(lambda a, b: torch.einsum("ij,jk->ik", a, b)), ((3136, 32), (32, 32)), 3_211_264, 3_211_500, id="einsum"
    ),
]


@pytest.mark.parametrize(("module", "shapes", "macs", "theirs"), DEFECTS)
def test_defects(module: nn.Module, shapes: Shapes, macs: int, theirs: int) -> None:
    inputs = tuple(map(torch.ones, shapes))
    assert COUNTERS["torch"](module, inputs).total == macs
    assert count(module, inputs).total == theirs
    assert remainders("fvcore", module, *inputs) == (0, 0)


def test_attention_of_frozen_parameters_is_not_hidden_in_one_operation() -> None:
    module = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).requires_grad_(False)
    assert count(module, (torch.ones(2, 3, 8),)).total > 6 * 512
    assert remainders("fvcore", module, torch.ones(2, 3, 8)) == (0, 0)


@dataclass
class Pair:
    """Two results."""

    one: Tensor
    other: Tensor


class Named(nn.Module):
    """Two layers by name; what they put out may be a pair of no known class."""

    def __init__(self, kept: bool) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(4, 5), nn.Linear(6, 7)
        self.kept = kept

    def forward(self, x: Tensor, y: Tensor, *, factor: float = 1) -> Any:
        both = factor * self.one(x), self.other(y)
        return Pair(*both) if self.kept else both


def test_arguments_by_name_are_brought_in_order() -> None:
    given = {"y": torch.ones(1, 6), "x": torch.ones(1, 4)}
    assert count(Named(kept=False), (), given).total == 20 + 42
    with pytest.raises(CheckError, match="by position, and factor can be given by name only"):
        count(Named(kept=False), (), {**given, "factor": 2})


def test_what_it_cannot_count_is_skipped_in_a_check_of_a_traced_module() -> None:
    module, inputs = Named(kept=True), (torch.ones(1, 4), torch.ones(1, 6))
    found = check_module(
        module, trace(module, inputs), label="traced", tools=("fvcore",), traced=True, inputs=(inputs, {})
    )
    assert all(one.ok for one in found)
    assert found[-1].skipped.startswith("fvcore could not count Named: ")
