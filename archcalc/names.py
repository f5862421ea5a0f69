"""Messages about names: what was asked for, what comes near, what there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from archcalc import units
from archcalc.errors import UnknownNameError

MANY = 40
"""Names that are listed."""


def some(names: Sequence[str], most: int = 10) -> str:
    """The names, or the first of them and how many more there are.

    >>> some(["conv1", "conv2", "conv3"], most=2)
    'conv1, conv2 and 1 more'
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {units.count(len(names) - most)} more"


def unknown(what: str, name: object, known: Iterable[str], most: int = MANY) -> UnknownNameError:
    """The error for a name that is not among those known, with near matches and the first `most` that there are.

    Of more than MANY none are listed where something comes near.

    >>> str(unknown("network", "vgg91", ["vgg16", "vgg19", "alexnet"]))
    "unknown network 'vgg91'; did you mean 'vgg19' or 'vgg16'? There are: vgg16, vgg19, alexnet"
    """
    from difflib import get_close_matches

    choices = list(known)
    spelled = {choice.lower(): choice for choice in choices}
    asked = str(name).lower()
    longer = [choice for choice in spelled if asked and choice.startswith(asked)]
    near = [spelled[match] for match in longer[:3] or get_close_matches(asked, spelled, n=3)]
    hint = f" did you mean {' or '.join(map(repr, near))}?" if near else ""
    if near and len(choices) > MANY:
        return UnknownNameError(f"unknown {what} {name!r};{hint}")
    listed = ", ".join(choices[:most]) + (", ..." if len(choices) > most else "")
    there = f"{' There' if hint else ' there'} {'are' if choices else 'is'}: {listed or 'none'}"
    return UnknownNameError(f"unknown {what} {name!r};{hint}{there}")
