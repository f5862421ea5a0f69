"""The outline of a network: its blocks inside one another, and which of them are the same but for some values."""

from __future__ import annotations

import keyword
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from archcalc.graph import Network, Node

Values = Mapping[str, Any]
"""A layer's fields or arguments by name."""

MOST_PARAMETERS = 10
"""Blocks that differ in more values are not one block with arguments."""


@dataclass(frozen=True, eq=False)
class Group:
    """A block: nodes that follow each other, in blocks of their own where they lie deeper."""

    name: str
    prefix: str
    """How the full names of what lies in it begin."""
    children: tuple[Node | Group, ...]
    prefixed: bool = True
    """Whether these names say that they lie in it."""

    @property
    def nodes(self) -> Iterator[Node]:
        """All nodes in it, in order."""
        for child in self.children:
            if isinstance(child, Group):
                yield from child.nodes
            else:
                yield child

    @property
    def groups(self) -> Iterator[Group]:
        """All blocks in it, outer ones first."""
        for child in self.children:
            if isinstance(child, Group):
                yield child
                yield from child.groups

    @property
    def last(self) -> str:
        """The name of its last node."""
        child = self.children[-1]
        return child.last if isinstance(child, Group) else child.name

    def entries(self) -> tuple[str, ...]:
        """Names of the nodes outside that flow into it, each once."""
        inside = {node.name for node in self.nodes}
        return tuple(dict.fromkeys(name for node in self.nodes for name in node.inputs if name not in inside))


def outline(network: Network, *, dotted: bool = False) -> Group:
    """The network as one group; with `dotted`, the parts of a name before its last dot are blocks too.

    Then a block also begins only after the layer in it that joins what flows in, so that one tensor does.

    >>> from archcalc import zoo
    >>> [child.name for child in outline(zoo.resnet18()).children][-4:]
    ['layer4', 'avgpool', 'flatten', 'fc']
    """
    return Group("", "", _children(network.nodes, 0, "", dotted))


def _children(nodes: Sequence[Node], depth: int, prefix: str, dotted: bool) -> tuple[Node | Group, ...]:
    children: list[Node | Group] = []
    start = 0
    while start < len(nodes):
        name = _block(nodes[start], depth, prefix, dotted)
        end = start + 1
        if name is None:
            children.append(nodes[start])
        else:
            while end < len(nodes) and _block(nodes[end], depth, prefix, dotted) == name:
                end += 1
            inner, deeper = nodes[start:end], f"{prefix}{name}."
            if dotted and len(inner) > 1 and len(inner[0].inputs) > 1:
                children.append(inner[0])
                inner = inner[1:]
            prefixed = all(node.name.startswith(deeper) for node in inner)
            deeper = deeper if prefixed else prefix
            children.append(Group(name, deeper, _children(inner, depth + 1, deeper, dotted), prefixed))
        start = end
    return tuple(children)


def _block(node: Node, depth: int, prefix: str, dotted: bool) -> str | None:
    if depth < len(node.blocks):
        return node.blocks[depth]
    head, dot, _ = node.name.removeprefix(prefix).partition(".")
    return head if dotted and dot and head else None


@dataclass(eq=False)
class Template:
    """A block that several groups are, with a parameter for each value in which they differ."""

    uses: list[Group]
    parameters: list[str] = field(default_factory=list)
    texts: dict[tuple[str, str], str] = field(default_factory=dict)
    """For a value that differs, by the node's name in the block and its field: the parameter or a multiple of it."""
    values: dict[Group, tuple[Any, ...]] = field(default_factory=dict)
    """What each of the groups has for the parameters."""

    @property
    def body(self) -> Group:
        """The group that it is written from."""
        return self.uses[0]

    @property
    def name(self) -> str:
        """What the names of its groups begin with, without numbers; or else what it is."""
        letters = takewhile(lambda column: len(set(column)) == 1, zip(*(use.name for use in self.uses), strict=False))
        stem = re.sub(r"\W", "_", "".join(letter for letter, *_ in letters).rstrip("0123456789._-"))
        if stem in ("", "block", "layer") and any(node.layer.kind == "Add" for node in self.body.nodes):
            return "residual"
        return stem if stem.isidentifier() and not keyword.iskeyword(stem) else "block"


def templates(root: Group, values: Callable[[Node], Values], fit: Callable[[Group], bool]) -> dict[Group, Template]:
    """For each group that is written as a use of a template, the template; they do not lie inside one another.

    Only groups that `fit` and that one node flows into take part.
    """
    alike: dict[object, list[Group]] = defaultdict(list)
    for group in root.groups:
        if len(group.entries()) == 1 and fit(group):
            alike[_skeleton(group, group, values)].append(group)
    known = {group: Template(uses) for uses in alike.values() if len(uses) > 1 for group in uses[:1]}
    for template in list(known.values()):
        _parametrise(template, values)
        if len(template.parameters) > MOST_PARAMETERS:
            del known[template.body]
        else:
            known |= dict.fromkeys(template.uses, template)
    chosen: dict[Group, Template] = {}
    _choose(root, known, chosen)
    return {group: template for group, template in chosen.items() if template.uses}


def _skeleton(group: Group, top: Group, values: Callable[[Node], Values]) -> object:
    """What groups that one template stands for have in common: all but the values."""
    entry, *_ = top.entries()

    def relative(name: str) -> str:
        return "/" if name == entry else name.removeprefix(top.prefix)

    return tuple(
        (child.name, child.prefixed, _skeleton(child, top, values))
        if isinstance(child, Group)
        else (
            relative(child.name),
            type(child.layer),
            tuple(map(relative, child.inputs)),
            tuple((name, type(value)) for name, value in values(child).items()),
        )
        for child in group.children
    )


def _parametrise(template: Template, values: Callable[[Node], Values]) -> None:
    """Find the values in which the uses differ; those that always agree, or are always multiples, are one parameter."""
    columns: dict[tuple[Any, ...], list[tuple[str, str]]] = defaultdict(list)
    for nodes in zip(*(group.nodes for group in template.uses), strict=True):
        name = nodes[0].name.removeprefix(template.body.prefix)
        for key, *rest in zip(*(values(node).items() for node in nodes), strict=True):
            column = tuple(value for _, value in (key, *rest))
            if any(value != column[0] for value in column):
                columns[column].append((name, key[0]))
    multiples = {}
    for column in columns:
        for other in sorted(columns, key=repr):
            factor = _factor(column, other)
            if factor and not any(_factor(other, third) for third in columns):
                multiples[column] = (other, factor)
                break
    own = [column for column in columns if column not in multiples]
    template.parameters = _named([columns[column] for column in own])
    names = dict(zip(own, template.parameters, strict=True))
    for column, places in columns.items():
        other, factor = multiples.get(column, (column, 1))
        text = names[other] if factor == 1 else f"{factor} * {names[other]}"
        template.texts |= dict.fromkeys(places, text)
    for index, group in enumerate(template.uses):
        template.values[group] = tuple(column[index] for column in own)


def _factor(column: tuple[Any, ...], other: tuple[Any, ...]) -> int:
    """The whole number above 1 that one column is the other times everywhere; 0 if there is none.

    Of two uses only, that would often be by chance.
    """
    if (
        len(column) < 3
        or any(type(value) is not int or value < 2 for value in (*column, *other))
        or column[0] % other[0]
    ):
        return 0
    factor = column[0] // other[0]
    times = all(value == factor * base for value, base in zip(column, other, strict=True))
    return int(factor) if factor > 1 and times else 0


def _named(parameters: Sequence[Sequence[tuple[str, str]]]) -> list[str]:
    """A name for each parameter from the places it stands at: its field, or its layer where fields are the same."""
    names = [_field(places, short=True) for places in parameters]
    if len(set(names)) < len(names):
        names = [_field(places, short=False) for places in parameters]
    shared, taken = Counter(names), set[str]()
    for index, places in enumerate(parameters):
        name = names[index]
        if shared[name] > 1:
            layer, key = places[0]
            name = re.sub(r"\W", "_", layer) + (f"_{key}" if key.startswith("in_") else "")
            name = name if name.isidentifier() and not keyword.iskeyword(name) else f"p{index + 1}"
        while name in taken:
            name += "_"
        taken.add(name)
        names[index] = name
    return names


def _field(places: Sequence[tuple[str, str]], *, short: bool) -> str:
    """What the fields at some places are called: channels where they are of what flows in and of what flows out."""
    keys = [key for _, key in places]
    into = next((key for key in keys if key in ("in_channels", "in_features")), "")
    out = next((key for key in keys if key in ("out_channels", "out_features")), "")
    if short and out:
        return out.removeprefix("out_")
    return into or out or keys[0]


def _choose(group: Group, known: Mapping[Group, Template], chosen: dict[Group, Template]) -> float:
    """Lines that a group takes where the better of the ways to write it is chosen: in itself, or by a template."""
    inner: dict[Group, Template] = {}
    inline = 1 + sum(_choose(child, known, inner) if isinstance(child, Group) else 1 for child in group.children)
    template = known.get(group)
    if template is not None:
        size = 1 + sum(1 for _ in group.nodes)
        lines = 1 + size / len(template.uses)
        if lines < 0.7 * inline:
            chosen[group] = template
            return lines
    chosen.update(inner)
    return inline
