"""What models of timm and transformers do that small modules of torch's own do not, each in as few lines as it takes.

The truth is torch itself, FlopCounterMode, or arithmetic written beside the test.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

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


# Another input

FOLLOW = {
    "reflection": (lambda _, x: F.pad(x, (1, 2, 0, 1), mode="reflect"), (1, 3, 8, 8)),
    "replication": (lambda _, x: F.pad(x, (1, 2), mode="replicate"), (1, 3, 8)),
    "expanded": (lambda _, x: x.mean(1, keepdim=True).expand(-1, 4, -1, -1), (1, 3, 8, 8)),
    "expanded in front": (lambda _, x: x.mean((0, 1)).expand(2, 3, -1, -1), (1, 3, 8, 8)),
    "stacked": (lambda _, x: torch.stack([x, x + 1, x], 1), (1, 3, 8, 8)),
    "stacked last": (lambda _, x: torch.stack((x, -x), -1), (1, 3, 8, 8)),
    **{
        f"{mode} scaled": (lambda _, x, mode=mode: F.interpolate(x, scale_factor=(2.0, 1.5), mode=mode), (1, 3, 8, 8))
        for mode in ("nearest", "nearest-exact", "bilinear", "bicubic")
    },
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
