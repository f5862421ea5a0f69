"""YAML as a tree whose every part knows its line; of YAML's events only, so that nothing is constructed or run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

from archcalc.errors import SpecError

MOST_BYTES = 1 << 20
"""Longer files are not read."""

MOST_DEEP = 30
"""Levels of lists and mappings."""


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar as it is written; YAML's own types (yes, 1e3, ~) mean nothing here."""

    line: int
    value: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    line: int
    items: list[Tree] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pairs:
    """A mapping, in the order it is written."""

    line: int
    pairs: dict[str, tuple[int, Tree]] = field(default_factory=dict)
    """For each key its line and its value."""


Tree: TypeAlias = Text | Items | Pairs


def keys(tree: Tree) -> Iterator[tuple[str, int]]:
    """Every key of every mapping, with its line."""
    waiting: list[Tree] = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Pairs):
            yield from ((key, line) for key, (line, _) in part.pairs.items())
            waiting += (value for _, value in part.pairs.values())
        elif isinstance(part, Items):
            waiting += part.items


def parse(data: bytes, file: str) -> Tree:
    """The tree of a YAML document. Raises SpecError that begins with file and line.

    >>> parse(b"name: net", "net.yaml").pairs["name"]
    (1, Text(line=1, value='net'))
    """
    if len(data) > MOST_BYTES:
        raise SpecError(f"{file}: the file is larger than {MOST_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{file}:{line}: not UTF-8: byte 0x{data[error.start]:02x}") from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _compose(yaml.parse(text, Loader=loader), file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        lines = text.splitlines() or [""]
        number = min(mark.line if mark else 0, len(lines) - 1)
        why = _slip(lines[: number + 1]) or f"not YAML: {error.problem or error.context}"
        raise SpecError(f"{file}:{number + 1}: {why}") from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        place = getattr(error, "position", 0)
        line = data.count(b"\n", 0, place) + 1
        raise SpecError(f"{file}:{line}: not YAML: {getattr(error, 'reason', 'unreadable')}") from None


def _slip(lines: list[str]) -> str | None:
    """What is likely wrong where YAML cannot be read on after these lines."""
    *before, here = lines
    if "\t" in here:
        return "YAML is indented with spaces, not with tabs"
    above = next((line for line in map(str.strip, reversed(before)) if line and not line.startswith("#")), "")
    if found := re.match(r"(?:- )?(\w+):[^\s:]", above):
        return f"write a space after the colon: {found[1]}: ..."
    if above.startswith("- ") and ":" not in above and re.match(r" *\w+:", here):
        return "a layer with keys below it needs a name, such as - conv: Conv2d(1, 5)"
    return None


def _compose(events: Iterator[yaml.Event], file: str) -> Tree:
    """Put events together without recursion; stops at the first thing that a spec file may not have."""
    root: Tree | None = None
    open_: list[Items | Pairs] = []
    keys: list[Text | None] = []  # of each open mapping, the key whose value comes next
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent) and root is not None:
            raise _wrong(file, event, "a second document; a spec file has one")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _wrong(file, event, "anchors and aliases (&a, *a) are not read; write a block with a name instead")
        if getattr(event, "tag", None):
            raise _wrong(file, event, f"tags such as {str(event.tag)[:40]} are not read")
        if isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            open_.pop()
            keys.pop()
            continue
        line = event.start_mark.line + 1
        made: Tree
        if isinstance(event, yaml.ScalarEvent):
            made = Text(line, event.value)
        elif isinstance(event, yaml.CollectionStartEvent):
            made = Items(line) if isinstance(event, yaml.SequenceStartEvent) else Pairs(line)
        else:
            continue
        if not open_:
            root = made
        else:
            keys[-1] = _put(open_[-1], keys[-1], made, file)
        if not isinstance(made, Text):
            open_.append(made)
            keys.append(None)
            if len(open_) > MOST_DEEP:
                raise _wrong(file, event, f"more than {MOST_DEEP} levels of lists and mappings")
    if root is None:
        raise SpecError(f"{file}:1: the file is empty; it needs at least input and layers")
    return root


def _put(parent: Items | Pairs, key: Text | None, made: Tree, file: str) -> Text | None:
    """Add to a list or mapping; the key whose value is to come, if this was one. Raises SpecError."""
    if isinstance(parent, Items):
        parent.items.append(made)
        return None
    if key is not None:
        parent.pairs[key.value] = (key.line, made)
        return None
    if not isinstance(made, Text):
        raise SpecError(f"{file}:{made.line}: a key must be a word, not a list or mapping")
    if made.value in parent.pairs:
        first = parent.pairs[made.value][0]
        raise SpecError(f"{file}:{made.line}: {made.value[:40]!r} is there twice, first at line {first}")
    return made


def _wrong(file: str, event: yaml.Event, message: str) -> SpecError:
    return SpecError(f"{file}:{event.start_mark.line + 1}: {message}")
