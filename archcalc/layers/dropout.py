"""Layers that pass their input on at inference, at no cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from archcalc.errors import SpecError
from archcalc.extents import Shape
from archcalc.layers.base import Layer


class Identity(Layer):
    """The input itself (`torch.nn.Identity`)."""

    __slots__ = ()

    worked: ClassVar[bool] = True

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

    def __post_init__(self) -> None:
        if not isinstance(self.p, int | float) or not 0 <= self.p <= 1:
            raise SpecError(f"p is {self.p!r}; a probability lies between 0 and 1")

    @property
    def in_place(self) -> bool:
        """At inference the output is the input."""
        return True

    def output(self, *inputs: Shape) -> Shape:
        """The input's shape."""
        return inputs[0]


class Dropout(_Dropout):
    """Dropout at inference: the input itself, at no cost (`torch.nn.Dropout`)."""

    __slots__ = ()


class Dropout1d(_Dropout):
    """Dropout of whole channels of sequences, at inference (`torch.nn.Dropout1d`)."""

    __slots__ = ()


class Dropout2d(_Dropout):
    """Dropout of whole channels of images, at inference (`torch.nn.Dropout2d`)."""

    __slots__ = ()


class Dropout3d(_Dropout):
    """Dropout of whole channels of volumes, at inference (`torch.nn.Dropout3d`)."""

    __slots__ = ()


class AlphaDropout(_Dropout):
    """Dropout that keeps mean and variance, at inference (Klambauer et al. 2017; `torch.nn.AlphaDropout`)."""

    __slots__ = ()


class FeatureAlphaDropout(_Dropout):
    """Alpha dropout of whole channels, at inference (`torch.nn.FeatureAlphaDropout`)."""

    __slots__ = ()
