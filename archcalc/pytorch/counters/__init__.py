"""Other people's counters, one file a counter, each read when it is asked for.

What each adds to the multiply-adds is said by the convention of the same name in `archcalc/conventions/`.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module

from archcalc.names import unknown
from archcalc.pytorch.counters.base import Counted, Counter

__all__ = ["COUNTERS", "Counted", "Counter", "counter", "installed"]

_FILES = {
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
}


class _Counters(Mapping[str, Counter]):
    def __getitem__(self, name: str) -> Counter:
        found: tuple[Counter, ...] = import_module(f"{__name__}.{_FILES[name]}").COUNTERS
        return next(one for one in found if one.name == name)

    def __iter__(self) -> Iterator[str]:
        return iter(_FILES)

    def __len__(self) -> int:
        return len(_FILES)


COUNTERS: Mapping[str, Counter] = _Counters()
"""Every counter by the name of its convention."""


def counter(name: str) -> Counter:
    """The counter of this name. Raises UnknownNameError with the choices."""
    try:
        return COUNTERS[name]
    except KeyError:
        raise unknown("counter", name, COUNTERS) from None


def installed() -> list[str]:
    """Names of the counters whose packages are there."""
    return [name for name, one in COUNTERS.items() if one.version is not None]
