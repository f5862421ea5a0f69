"""What models of timm and transformers do that small modules of torch's own do not, each in as few lines as it takes.

The truth is torch itself, FlopCounterMode, or arithmetic written beside the test.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from archcalc import analyze, trace  # noqa: E402
from archcalc.errors import ShapeError  # noqa: E402
from tests.test_trace import Calls, _numbers, meta, parameter, traced  # noqa: E402


class Replaces(nn.Module):
    """Puts another tensor in a buffer's place while it runs (timm's ConViT)."""

    def __init__(self) -> None:
        super().__init__()
        self.places: Tensor
        self.register_buffer("places", torch.zeros(3))
        self.scale = parameter(5)

    def forward(self, x: Tensor) -> Tensor:
        self.places = torch.arange(5.0, device=x.device)
        return x * self.places


def test_a_buffer_that_forward_replaces_counts_as_it_was() -> None:
    report = traced(Replaces(), (1, 5))
    assert (report.total.buffers, report.total.params) == (3, 5)


# Numbers asked for in forward, as transformers asks whether a mask it has just made hides anything


class Asks(nn.Module):
    """A layer of 10^12 weights, which could not be allocated, applied as often as a number says."""

    def __init__(self, number: Callable[..., Any], features: int = 10**6) -> None:
        super().__init__()
        self.number, self.linear = number, nn.Linear(features, features, bias=False, device="meta")

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        for _ in range(int(self.number(x, *others))):
            x = self.linear(x)
        return x


def doubled(x: Tensor, times: int) -> Tensor:
    for _ in range(times):
        x = x + x
    return x


KNOWN = {
    "mask": lambda x: torch.ones(x.shape[:1], device=x.device).to(torch.bool).all(),
    "positions": lambda x: (torch.arange(len(x), device=x.device) <= 0).sum(),
    "made without a device": lambda x: (x.new_zeros(2, dtype=torch.long) + torch.arange(2)).max(),
    "written, and read before": lambda x: torch.zeros(2, device=x.device).fill_(3).shape[0] // 2,
    "many steps, each of the one before twice": lambda x: doubled(x.new_ones(1), 60) == 2**60,
    "numbers in the code": lambda x: torch.tensor([0, 1], device=x.device).sum(),
    "list as an index": lambda x: (x.new_ones((1, 3))[:, [-1, 0]] == 1).all(),
    "index of a list": lambda x: torch.arange(3, device=x.device)[[1]],
    "equal": lambda x: torch.equal(x.new_ones(2), torch.ones_like(x[:2, 0])),
}


@pytest.mark.parametrize("name", KNOWN)
def test_numbers_that_follow_from_sizes_need_no_data(name: str) -> None:
    assert traced(Asks(KNOWN[name]), (2, 10**6)).total.macs == 2 * 10**12


def test_numbers_that_follow_from_given_tensors_need_no_data() -> None:
    assert traced(Asks(lambda x, n: n + 1), ((2, 10**6), torch.tensor(2))).total.macs == 3 * 2 * 10**12


def overwritten(x: Tensor) -> Tensor:
    flags = torch.zeros(3, device=x.device)
    seen = flags[1:]
    flags[2] = 1
    return seen.any()


UNKNOWN = {
    "overwritten": overwritten,
    "input": lambda x: (x >= 0).all(),
    "chance": lambda x: torch.rand((), device=x.device) >= 0,
    "nothing in it yet": lambda x: torch.isfinite(torch.empty(0, device=x.device).sum()),
    "drawn": lambda x: torch.full((1,), 0.5, device=x.device).bernoulli().sum() >= 0,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_numbers_need_data(name: str) -> None:
    with pytest.warns(UserWarning, match="cannot run without data"):
        report = traced(Asks(UNKNOWN[name], features=4), (2, 4))
    assert report.total.macs == 2 * 4 * 4


# Complex numbers, as in rotary position embeddings


def rotated(_: Any, x: Tensor) -> Tensor:
    angles = torch.arange(4.0, device=x.device)
    turned = torch.view_as_complex(x.reshape(6, 4, 2)) * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned * 0.5).flatten(1)


def test_complex_products_are_several_real_ones() -> None:
    ledger = {row.name: dict(row.ledger) for row in traced(Calls(rotated), (6, 8)) if row.ledger}
    assert ledger == {
        "polar": {"sin": 2 * 4, "mul": 2 * 4},
        "mul": {"mul": 4 * 24, "add": 2 * 24},  # of 6·4 complex numbers with 4
        "mul:2": {"mul": 2 * 24},
    }


def test_complex_products_with_a_complex_number() -> None:
    module = Calls(lambda _, x: torch.view_as_real(torch.view_as_complex(x) * 1j))
    assert dict(traced(module, (3, 2)).total.ledger) == {"mul": 4 * 3, "add": 2 * 3}


def test_arithmetic_of_numbers_alone() -> None:
    report = traced(Calls(lambda _, x: x * torch.div(7, 2, rounding_mode="floor")), (3,))
    assert not report.uncounted
    assert dict(report.total.ledger) == {"div": 1, "mul": 3}


# Another input

FOLLOW: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "reflection": (lambda _, x: F.pad(x, (1, 2, 0, 1), mode="reflect"), (1, 3, 8, 8)),
    "replication": (lambda _, x: F.pad(x, (1, 2), mode="replicate"), (1, 3, 8)),
    "expanded": (lambda _, x: x.mean(1, keepdim=True).expand(-1, 4, -1, -1), (1, 3, 8, 8)),
    "expanded in front": (lambda _, x: x.mean((0, 1)).expand(2, 3, -1, -1), (1, 3, 8, 8)),
    "stacked": (lambda _, x: torch.stack([x, x + 1, x], 1), (1, 3, 8, 8)),
    "stacked last": (lambda _, x: torch.stack((x, -x), -1), (1, 3, 8, 8)),
    "nearest scaled": (lambda _, x: F.interpolate(x, scale_factor=(2.0, 1.5)), (1, 3, 8, 8)),
    "nearest exact scaled": (lambda _, x: F.interpolate(x, scale_factor=2, mode="nearest-exact"), (1, 3, 8, 8)),
    "bilinear scaled": (lambda _, x: F.interpolate(x, scale_factor=(2.0, 1.5), mode="bilinear"), (1, 3, 8, 8)),
    "bicubic scaled": (lambda _, x: F.interpolate(x, scale_factor=2, mode="bicubic"), (1, 3, 8, 8)),
    "linear scaled": (lambda _, x: F.interpolate(x, scale_factor=3, mode="linear"), (1, 3, 8)),
}


@pytest.mark.parametrize("name", FOLLOW)
def test_what_follows_from_the_input_is_not_baked_in(name: str) -> None:
    run, seen = FOLLOW[name]
    wanted = (2, 5, *(size + 5 for size in seen[2:]))
    retargeted, fresh = analyze(trace(Calls(run), seen), wanted), analyze(trace(Calls(run), wanted))
    assert _numbers(retargeted) == _numbers(fresh)
    assert retargeted.output == tuple(Calls(run)(meta(*wanted)).shape)


def test_a_size_that_is_given_is_baked_in() -> None:
    net = trace(Calls(lambda _, x: F.interpolate(x, size=16)), (1, 4, 8))
    with pytest.raises(ShapeError, match="baked in"):
        analyze(net, (1, 4, 9))


def test_an_axis_that_is_stretched_must_have_one_position() -> None:
    net = trace(Calls(lambda _, x: x.expand(3, -1, -1)), (1, 4, 8))
    assert analyze(net, (1, 4, 9)).output == (3, 4, 9)
    with pytest.raises(ShapeError, match="baked in: 2 cannot be stretched to 3"):
        analyze(net, (2, 4, 8))


def test_matrices_are_multiplied_in_pairs() -> None:
    """Queries were expanded to a batch of 1, which is no longer seen: with a batch of 2 their cost would be halved."""
    run = Calls(lambda s, x: s.queries.expand(len(x), -1, -1) @ x.transpose(1, 2), queries=parameter(1, 6, 8))
    net = trace(run, (1, 16, 8))
    assert analyze(net, (1, 32, 8)).total.macs == 6 * 8 * 32
    with pytest.raises(ShapeError, match="multiplied in pairs, not 1 with 2"):
        analyze(net, (2, 16, 8))


def test_tensors_that_are_stacked_have_one_shape() -> None:
    net = trace(Calls(lambda s, x: torch.stack((s.scale, x)), scale=parameter(5)), (5,))
    with pytest.raises(ShapeError, match="must have the same shape"):
        analyze(net, (6,))
