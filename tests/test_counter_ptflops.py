import io

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from archcalc.errors import CheckError
from archcalc.pytorch.counters import COUNTERS
from tests.counted import Attend, AttendTo, Call, Shapes, three_counts, unexplained
from tests.remainders import remainders

count = COUNTERS["ptflops"]


@pytest.mark.parametrize("backend", ["ptflops", "ptflops-aten"])
def test_small_modules_of_every_kind_and_networks(backend: str) -> None:
    assert unexplained(backend, r"\w+Cell without a batch" if backend == "ptflops" else "nothing") == []


# (module, inputs, MACs executed, what the backend `pytorch` says)
DEFECTS = [
    pytest.param(nn.ReLU(), ((2, 3),), 0, 2 * 6, id="a module and the function that it calls"),
    pytest.param(Call(lambda x: functional.relu(x)), ((2, 3),), 0, 6, id="the function alone"),
    pytest.param(nn.MaxPool2d(2), ((1, 2, 4, 4),), 0, 2 * 32, id="pooling and the function that it calls"),
    # 2·2·8·8 outputs of both images counted by the function, and 2·8·8 of one by the hook
    pytest.param(nn.Upsample(scale_factor=2), ((2, 2, 4, 4),), 0, 256 + 128, id="upsampling"),
    # 3 steps of 4 gates of 7 units by 5 inputs and 3 of the state, 2 biases; 10 a unit; 7·3 of the projection missing
    pytest.param(
        nn.LSTM(5, 7, proj_size=3), ((3, 1, 5),), 3 * (28 * 8 + 21), 3 * (28 * 8 + 56 + 70), id="LSTM with projection"
    ),
    # 3 tokens of 8: 4·64 a token, 2·3·3·8 of the products; 24 scaled, 2·3·3 through softmax, 24 for a bias
    pytest.param(
        Attend(False, bias=False), ((3, 1, 8),), 768 + 144, 768 + 144 + 24 + 18 + 24, id="a bias that is not there"
    ),
    # once more with weights: products and softmax
    pytest.param(
        Attend(True, bias=False), ((3, 1, 8),), 768 + 144, 768 + 144 + 24 + 18 + 24 + 144 + 18, id="attention twice"
    ),
    # 6·4·3·3 weights by the 4 channels, taken for images, by an axis of 7; biases 4·7·7, of the size alone
    pytest.param(
        nn.Conv2d(4, 6, 3), ((4, 9, 9),), 216 * 49, 4 * (216 * 7 + 49), id="channels of an image without a batch"
    ),
    # 5 keys of 6 and values of 4: 3·64 + 5·8·6 + 5·8·4 + 3·64 of projections, 2·3·5·8 of products; taken to be
    # 3·64 + 5·36 + 5·16 + 3·4·4, 3·5·8 and 2 heads of 3·5·2; 24 scaled, 30 through softmax, 12 for a bias
    pytest.param(
        AttendTo(False, kdim=6, vdim=4, bias=False),
        ((3, 1, 8), (5, 1, 6), (5, 1, 4)),
        784 + 240,
        192 + 180 + 80 + 48 + 120 + 60 + 24 + 30 + 12,
        id="keys and values of other sizes",
    ),
    # 3 tokens: 4·64 a token, 2·3·4·8 of products with a key more; taken to be 2·3·3·8; 24 scaled, 18 softmax, 24
    pytest.param(
        Attend(False, bias=False, add_zero_attn=True),
        ((3, 1, 8),),
        768 + 192,
        768 + 144 + 24 + 18 + 24,
        id="a key more",
    ),
    pytest.param(Call(torch.bmm), ((2, 3, 4), (2, 4, 5)), 120, 0, id="a function held since before"),
    pytest.param(Call(lambda a, b: a @ b), ((4, 5), (5, 6)), 120, 0, id="@"),
    pytest.param(Call(lambda a, b: a.matmul(b)), ((4, 5), (3, 5, 6)), 360, 120, id="stretched first"),
]


@pytest.mark.parametrize(("module", "shapes", "macs", "theirs"), DEFECTS)
def test_defects(module: nn.Module, shapes: Shapes, macs: int, theirs: int) -> None:
    assert three_counts("ptflops", module, *map(torch.ones, shapes)) == (macs, macs, theirs)


ATEN = [
    # 3 steps of 4 gates of 7 units by 5 inputs and 7 of the state
    pytest.param(nn.LSTM(5, 7), ((3, 1, 5),), 3 * 4 * 7 * 12, 0, id="LSTM"),
    pytest.param(
        Call(lambda x: functional.scaled_dot_product_attention(x, x, x)), ((1, 2, 3, 4),), 144, 0, id="attention"
    ),
    # 2·3 rows of 4·5 weights, 6·5 biases: one operation; but two where the tensor is strided
    pytest.param(nn.Linear(4, 5), ((2, 3, 4),), 120, 150, id="bias"),
    pytest.param(
        nn.Sequential(Call(lambda x: x.transpose(1, 2)), nn.Linear(4, 5)), ((2, 4, 3),), 120, 120, id="bias apart"
    ),
]


@pytest.mark.parametrize(("module", "shapes", "macs", "theirs"), ATEN)
def test_what_aten_sees(module: nn.Module, shapes: Shapes, macs: int, theirs: int) -> None:
    assert three_counts("ptflops-aten", module, *map(torch.ones, shapes)) == (macs, macs, theirs)


def test_asked_directly_it_divides_modules_by_the_batch_and_functions_not() -> None:
    ptflops = pytest.importorskip("ptflops")
    module, x = nn.Sequential(nn.Linear(5, 7, bias=False), nn.SiLU()).eval(), torch.ones(2, 5)
    total, _ = ptflops.get_model_complexity_info(
        module, (5,), as_strings=False, print_per_layer_stat=False, input_constructor=lambda _: x, ost=io.StringIO()
    )
    assert total == 35 + 2 * 7  # one image's 5·7, both images' 7
    assert three_counts("ptflops", module, x) == (70, 70, 70 + 2 * 7)


def test_in_its_process_again_the_same_and_after_a_failure() -> None:
    module, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU()).train(), torch.ones(1, 3, 5, 5)
    first = count(module, (x,))
    assert (first.total, first.params) == (972 + 36 + 36, 112)  # 3·3 outputs by 108 weights, biases, elements
    assert "attribute start_flops_count in 1 module" in first.changed
    with pytest.raises(CheckError, match="ptflops could not count Conv2d"):
        count(nn.Conv2d(5, 4, 3), (x,))
    assert count(module, (x,)) == first
    assert module.training


def test_aten_leaves_hooks_behind() -> None:
    module = nn.Sequential(nn.Linear(5, 7), nn.ReLU())
    counted = COUNTERS["ptflops-aten"](module, (torch.ones(1, 5),))
    assert set(counted.changed) == {"hook in _forward_pre_hooks in 2 modules", "hook in _forward_hooks in 2 modules"}
    assert not any(one._forward_hooks for one in module.modules())


def test_frozen_parameters_are_not_counted() -> None:
    module = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 2).requires_grad_(False))
    assert COUNTERS["ptflops-aten"](module, (torch.ones(1, 5),)).params == 42
    assert isinstance(module(torch.ones(1, 5)), Tensor)


@pytest.mark.parametrize("fused", [True, False])
def test_attention_of_timm(fused: bool) -> None:
    timm = pytest.importorskip("timm.models.vision_transformer")
    attention = timm.Attention(8, 2)
    attention.fused_attn = fused
    module = nn.Sequential(nn.Linear(8, 8, bias=False), attention)
    # 2 images of 3 tokens: 64 a token; two products of 3·3·8, 2 heads of 3·3 through softmax, 24 scaled; nothing of the
    # layers inside
    assert count(module.eval(), (torch.ones(2, 3, 8),)).total == 2 * (3 * 64 + 2 * 72 + 2 * 9 + 24)
    assert remainders("ptflops", module, torch.ones(2, 3, 8)) == (0, 0)
