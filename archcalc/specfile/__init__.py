"""Spec files: networks written down in YAML, read and written. Nothing in a file is run."""

from __future__ import annotations

import os
from pathlib import Path

from archcalc.errors import InputError
from archcalc.graph import Network
from archcalc.specfile.read import read
from archcalc.specfile.tree import MOST_BYTES
from archcalc.specfile.write import dumps

__all__ = ["dumps", "load", "read", "save"]


def load(path: str | os.PathLike[str]) -> Network:
    """The network that a spec file describes. Raises InputError, SpecError, ShapeError with file and line."""
    file = Path(path)
    try:
        if file.exists() and not file.is_file():
            raise InputError(f"cannot read {file}: it is {'a directory' if file.is_dir() else 'no file'}")
        with file.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:  # a NUL in the path
        raise InputError(f"cannot read {str(path)!r}: {error}") from None
    return read(data, str(file))


def save(network: Network, path: str | os.PathLike[str]) -> None:
    """Write a network to a spec file, from which `load` reads an equal one. Raises InputError, SpecError."""
    text = dumps(network)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
