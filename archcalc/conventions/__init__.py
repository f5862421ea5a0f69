"""Conventions: how archcalc and other counters count, one file a counter, read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from archcalc.conventions.base import Cause, Convention
from archcalc.names import unknown

__all__ = ["CONVENTIONS", "Cause", "Convention", "convention"]

_FILES = {
    "mac": "plain",
    "flop": "plain",
    "torch": "flop_counter",
    "fvcore": "fvcore",
    "torchinfo": "torchinfo",
    "ptflops": "ptflops",
    "ptflops-aten": "ptflops",
    "calflops": "calflops",
    "deepspeed": "deepspeed",
    "torchscan": "torchscan",
    "thop": "thop",
    "torchlens": "torchlens",
    "convnet-burden": "documents",
    "netscope": "documents",
    "keras": "documents",
}


class _Conventions(Mapping[str, Convention]):
    def __getitem__(self, name: str) -> Convention:
        found: tuple[Convention, ...] = import_module(f"{__name__}.{_FILES[name]}").CONVENTIONS
        return next(one for one in found if one.name == name)

    def __iter__(self) -> Iterator[str]:
        return iter(_FILES)

    def __len__(self) -> int:
        return len(_FILES)


CONVENTIONS: Mapping[str, Convention] = _Conventions()
"""Every convention by name."""


def convention(name: str) -> Convention:
    """The convention of this name. Raises UnknownNameError with the choices."""
    try:
        return CONVENTIONS[name]
    except KeyError:
        raise unknown("convention", name, CONVENTIONS) from None
