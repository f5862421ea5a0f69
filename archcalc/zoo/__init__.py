"""The zoo: published networks as ordinary specs, one file a family; their choices are keyword arguments.

`zoo.vgg19()` is the network called vgg19; its family is imported when it is first asked for.
"""

from archcalc.zoo.registry import ENTRIES, Entry, Recipe, entry, find

__all__ = ["ENTRIES", "Entry", "entry", "find"]

_FUNCTIONS = {name.replace("-", "_"): name for name in ENTRIES}


def __getattr__(name: str) -> Recipe:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return ENTRIES[_FUNCTIONS[name]].recipe


def __dir__() -> list[str]:
    return [*__all__, *_FUNCTIONS]
