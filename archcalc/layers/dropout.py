"""Layers that pass their input on at inference, at no cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from archcalc.extents import Shape, prod
from archcalc.layers.base import Layer, Made, check_probability


class Identity(Layer):
    """The input itself (`torch.nn.Identity`)."""

    __slots__ = ()

    worked: ClassVar[bool] = True
    kept: ClassVar[tuple[str, ...]] = ()

    @property
    def in_place(self) -> bool:
        """The output is the input."""
        return True

    def output(self, *inputs: Shape) -> Shape:
        """The input's shape."""
        return inputs[0]


@dataclass(frozen=True, slots=True)
class _Dropout(Layer):
    p: float = 0.5
    inplace: bool = False

    worked: ClassVar[bool] = True
    by_channel: ClassVar[bool] = False
    """Whether whole channels are dropped."""

    def __post_init__(self) -> None:
        check_probability("p", self.p)

    @property
    def in_place(self) -> bool:
        """At inference the output is the input."""
        return True

    @property
    def trains_in_place(self) -> bool:
        """Nothing is dropped, or the input is overwritten."""
        return self.p == 0 or self.inplace

    def keeps(self, *inputs: Shape) -> tuple[Made, ...]:
        """The mask, scaled by 1/(1 - p), so that it is as wide as the activations; one zero where all is dropped."""
        (x,) = inputs
        if self.p in (0, 1):
            return (Made("mask", 1),) if self.p else ()
        return (Made("mask", prod(x[:2] if self.by_channel else x)),)

    def output(self, *inputs: Shape) -> Shape:
        """The input's shape."""
        return inputs[0]


class Dropout(_Dropout):
    """Dropout at inference: the input itself, at no cost (`torch.nn.Dropout`)."""

    __slots__ = ()


class _ChannelDropout(_Dropout):
    __slots__ = ()

    by_channel: ClassVar[bool] = True


class Dropout1d(_ChannelDropout):
    """Dropout of whole channels of sequences, at inference (`torch.nn.Dropout1d`)."""

    __slots__ = ()


class Dropout2d(_ChannelDropout):
    """Dropout of whole channels of images, at inference (`torch.nn.Dropout2d`)."""

    __slots__ = ()


class Dropout3d(_ChannelDropout):
    """Dropout of whole channels of volumes, at inference (`torch.nn.Dropout3d`)."""

    __slots__ = ()


class AlphaDropout(_Dropout):
    """Dropout that keeps mean and variance, at inference (Klambauer et al. 2017; `torch.nn.AlphaDropout`)."""

    __slots__ = ()

    @property
    def trains_in_place(self) -> bool:
        """Nothing is dropped; PyTorch puts the shift that follows into new memory whatever `inplace` says."""
        return self.p == 0


class FeatureAlphaDropout(AlphaDropout):
    """Alpha dropout of whole channels, at inference (`torch.nn.FeatureAlphaDropout`)."""

    __slots__ = ()

    by_channel: ClassVar[bool] = True
