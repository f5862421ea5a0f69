"""A spec file as a Network: names resolved, blocks and repeats written out, every error with its line."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from archcalc.errors import ArchcalcError, ShapeError, SpecError
from archcalc.extents import Shape
from archcalc.graph import Network, Node
from archcalc.layers import KINDS, Input
from archcalc.names import unknown
from archcalc.specfile import calls
from archcalc.specfile.calls import Call
from archcalc.specfile.tree import Items, Pairs, Text, Tree, keys, parse

MOST_LAYERS = 20_000
"""Layers and connections of one network, blocks and repeats written out."""

MOST_NESTED = 40
"""Lists, blocks and branches inside one another."""

LARGEST_TENSOR = 2**53
"""Elements of a layer's output."""

LISTED = "; an input written as a list is the whole shape, with the batch"

NAME = re.compile(r"\w[\w.+×-]{0,99}(:[0-9]{1,9})?")
RESERVED = ("after", "branches", "prefix", "repeat")
TOP = ("name", "input", "blocks", "layers", "outputs")


@dataclass(frozen=True, slots=True)
class _Definition:
    """A named block: its arguments, with a value where there is a default, and its layers."""

    name: str
    line: int
    arguments: dict[str, ast.expr | None]
    body: Items


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where layers are written: how their names begin, in which blocks they lie, what a block was called with."""

    prefix: str = ""
    blocks: tuple[str, ...] = ()
    parent: _Scope | None = None
    definitions: tuple[str, ...] = ()
    entry: str | None = None
    """In a named block, what flows into it."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    depth: int = 0


def read(data: bytes, file: str) -> Network:
    """The network of a spec file's bytes. Raises SpecError, ShapeError that begin with file and line.

    >>> len(read(b"{input: 1x32x32, layers: ['Flatten, Linear(10)']}", "net.yaml"))
    3
    """
    return _Reader(file).network(parse(data, file))


class _Reader:
    def __init__(self, file: str):
        self.file = file
        self.line = 1
        self.nodes: list[Node] = []
        self.lines: dict[str, int] = {}
        self.listed: set[str] = set()
        self.layers: Tree = Items(1)
        self.item_line = 0
        self.definitions: dict[str, _Definition] = {}
        self.unnamed: Counter[str] = Counter()
        self.spent = 0

    @contextmanager
    def at(self, line: int) -> Iterator[None]:
        """Errors raised inside begin with the file and this line."""
        outer, self.line = self.line, line
        try:
            yield
        except _LocatedError:
            raise
        except ArchcalcError as error:
            kind = _LocatedShapeError if isinstance(error, ShapeError) else _LocatedError
            raise kind(f"{self.file}:{line}: {error}") from None
        finally:
            self.line = outer

    def network(self, tree: Tree) -> Network:
        with self.at(tree.line):
            if not isinstance(tree, Pairs):
                raise SpecError(f"a spec file has the keys {', '.join(TOP)}")
            for key, (line, _) in tree.pairs.items():
                if key not in TOP:
                    with self.at(line):
                        raise unknown("key", key[:40], TOP)
            for key in ("input", "layers"):
                if key not in tree.pairs:
                    raise SpecError(f"{key} is missing")
            name = self.named(tree.pairs) if "name" in tree.pairs else (Path(self.file).stem or "network")
            self.define(tree.pairs["blocks"][1]) if "blocks" in tree.pairs else None
            last = self.inputs(tree.pairs["input"][1])
            self.layers = tree.pairs["layers"][1]
            last = self.items(self.layers, _Scope(), last)
            self.layers = Items(1)
            outputs: tuple[str, ...] = (last,)
            if "outputs" in tree.pairs:
                line, asked = tree.pairs["outputs"]
                with self.at(line):
                    outputs = tuple(self.resolve(text, _Scope()) for text in self.texts(asked, "outputs"))
            self.shapes()
            return Network(name, tuple(self.nodes), outputs)

    def named(self, pairs: Mapping[str, tuple[int, Tree]]) -> str:
        line, tree = pairs["name"]
        with self.at(line):
            if not isinstance(tree, Text) or not tree.value.isprintable() or not 0 < len(tree.value.strip()) <= 100:
                raise SpecError("name is a word or a few, at most 100 characters")
            return tree.value

    # Inputs

    def inputs(self, tree: Tree) -> str:
        """Add the nodes of the network's inputs; the name of the first."""
        given = tree.pairs if isinstance(tree, Pairs) else {"input": (tree.line, tree)}
        with self.at(tree.line):
            if not given:
                raise SpecError("input is a shape such as 3x224x224, without the batch")
        for name, (line, value) in given.items():
            with self.at(line):
                full = self.add(Node(self.full(name, _Scope()), Input(self.shape(value)), ()))
                self.listed |= {full} if isinstance(value, Items) else set()
        return self.nodes[0].name

    def shape(self, tree: Tree) -> Shape:
        """3x224x224 is one image of that shape; a list is the whole shape, with the batch."""
        batch: list[int] = []
        parts: list[str] = []
        if isinstance(tree, Text):
            batch, parts = [1], tree.value.replace("×", "x").split("x")
        elif isinstance(tree, Items):
            parts = [part.value if isinstance(part, Text) else "" for part in tree.items]
        sizes = [int(part) if re.fullmatch(r" *[0-9]{1,12} *", part) else 0 for part in parts]
        if not sizes or not all(sizes) or len(sizes) > 16:
            raise SpecError("input is a shape of positive whole numbers, without the batch, such as 3x224x224")
        return (*batch, *sizes)

    # Blocks

    def define(self, tree: Tree) -> None:
        with self.at(tree.line):
            if not isinstance(tree, Pairs):
                raise SpecError("blocks has a name, such as basic(width, stride=1), and a list of layers for each")
            for signature, (line, body) in tree.pairs.items():
                with self.at(line):
                    definition = self.definition(signature, line, body)
                    if definition.name in self.definitions:
                        there = self.definitions[definition.name].line
                        raise SpecError(f"block {definition.name} is there twice, first at line {there}")
                    self.definitions[definition.name] = definition

    def definition(self, signature: str, line: int, body: Tree) -> _Definition:
        found = calls.chain(signature)
        if len(found) != 1:
            raise SpecError("a block has one name, such as basic(width, stride=1)")
        (call,) = found
        if call.name in KINDS:
            raise SpecError(f"{call.name} is a kind of layer; give the block another name")
        if not isinstance(body, Items) or not body.items:
            raise SpecError(f"block {call.name} needs a list of layers")
        arguments: dict[str, ast.expr | None] = {}
        for argument in call.given:
            if not isinstance(argument, ast.Name):
                raise SpecError(f"block {call.name}: an argument is a name or name=value")
            if argument.id in arguments:
                raise SpecError(f"block {call.name} has the argument {argument.id} twice")
            arguments[argument.id] = None
        for name, value in call.named:
            if name in arguments:
                raise SpecError(f"block {call.name} has the argument {name} twice")
            calls.evaluate(value, {})
            arguments[name] = value
        return _Definition(call.name, line, arguments, body)

    # Layers

    def items(self, tree: Tree, scope: _Scope, last: str) -> str:
        """Add the layers of a list, of a line, or of one item after the layer `last`; the name of the last of them."""
        with self.at(tree.line):
            if scope.depth > MOST_NESTED:
                raise SpecError(f"more than {MOST_NESTED} blocks and branches inside one another")
            if isinstance(tree, Items):
                if not tree.items:
                    raise SpecError("a list without layers")
                for item in tree.items:
                    last = self.item(item, _inside(scope), last)
                return last
            return self.item(tree, _inside(scope), last)

    def item(self, tree: Tree, scope: _Scope, last: str) -> str:
        with self.at(tree.line):
            if isinstance(tree, Text):
                for call in calls.chain(tree.value):
                    last = self.place(call, None, scope, (last,))
                return last
            if isinstance(tree, Items):
                raise SpecError("a list inside a list; a block is written name: and then its list")
            names = [key for key in tree.pairs if key not in RESERVED]
            if len(names) != 1:
                raise SpecError(
                    f"an item has one name before its layer, and then {', '.join(RESERVED)}; "
                    f"here {' and '.join(name[:40] for name in names[:3]) or 'is none'}"
                )
            self.item_line = tree.line
            return self.copies(names[0], tree, scope, last)

    def copies(self, name: str, tree: Pairs, scope: _Scope, last: str) -> str:
        """The item, or as many as `repeat` says, their names numbered on."""
        if "repeat" not in tree.pairs:
            return self.one(name, tree, scope, (), last)
        line, count = tree.pairs["repeat"]
        with self.at(line):
            number = calls.evaluate(calls.expression(_text(count, "repeat")), scope.arguments)
            if type(number) is not int or number < 1:
                raise SpecError("repeat is a whole number of at least 1")
            if number > MOST_LAYERS:
                raise SpecError(f"repeat is {number:,}; a network has at most {MOST_LAYERS:,} layers")
            found = re.fullmatch(r"(.*?)([0-9]{0,9})", name)
            stem, first = (found[1], int(found[2] or 1)) if found else (name, 1)
            for index in range(number):
                after = () if index == 0 else (last,)
                last = self.one(f"{stem}{first + index}", tree, scope, after, last, written=name)
            return last

    def one(
        self, name: str, tree: Pairs, scope: _Scope, after: tuple[str, ...], last: str, written: str | None = None
    ) -> str:
        """One layer, block or use of a block; it follows `after`, or what it says itself, or `last`."""
        line, value = tree.pairs[written or name]
        sources = after or (last,)
        if not after and "after" in tree.pairs:
            where, asked = tree.pairs["after"]
            with self.at(where):
                sources = tuple(self.resolve(text, scope) for text in self.texts(asked, "after"))
        if "branches" in tree.pairs:
            if isinstance(value, Items):
                raise SpecError(f"{name[:40]}: branches are joined by a layer, such as Add or Concat")
            sources = self.branches(tree.pairs["branches"], scope, sources)
        with self.at(line):
            if isinstance(value, Items):
                return self.block(name, tree, value, scope, sources)
            if "prefix" in tree.pairs:
                raise SpecError("prefix belongs to a block with its own list of layers")
            if isinstance(value, Pairs):
                raise SpecError(f"{name[:40]}: a layer is written on one line, such as Conv2d(64, kernel_size=3)")
            if name in KINDS and value.value.strip() not in KINDS and not value.value.strip()[:1].isalpha():
                raise SpecError(f"a layer's fields are written in brackets: {name}({value.value[:40]})")
            found = calls.chain(value.value)
            if len(found) != 1:
                raise SpecError(f"{name[:40]} names one layer, not {len(found)}; a block is a list below its name")
            return self.place(found[0], name, scope, sources)

    def branches(self, pair: tuple[int, Tree], scope: _Scope, sources: tuple[str, ...]) -> tuple[str, ...]:
        """The ends of branches that all start at one layer; an empty one passes it on."""
        line, tree = pair
        with self.at(line):
            if not isinstance(tree, Items) or len(tree.items) < 2:
                raise SpecError("branches is a list of two or more, each a line of layers or a list")
            if len(sources) != 1:
                raise SpecError("branches start at one layer")
            ends = []
            for branch in tree.items:
                empty = isinstance(branch, Items) and not branch.items
                ends.append(sources[0] if empty else self.items(branch, scope, sources[0]))
            return tuple(ends)

    def block(self, name: str, tree: Pairs, body: Items, scope: _Scope, sources: tuple[str, ...]) -> str:
        """Layers that lie in a block of their own; unless `prefix: false`, its name begins theirs."""
        prefixed = True
        if "prefix" in tree.pairs:
            prefixed = self.truth(tree.pairs["prefix"])
        full = self.full(name, scope)
        if len(sources) != 1:
            raise SpecError(f"block {name} follows one layer, not {len(sources)}")
        prefix = f"{full}." if prefixed else scope.prefix
        inner = _Scope(prefix, (*scope.blocks, name), scope, scope.definitions, None, scope.arguments, scope.depth)
        return self.items(body, inner, sources[0])

    def truth(self, pair: tuple[int, Tree]) -> bool:
        line, tree = pair
        with self.at(line):
            value = calls.evaluate(calls.expression(_text(tree, "prefix")), {})
            if type(value) is not bool:
                raise SpecError("prefix is true or false")
            return value

    def place(self, call: Call, name: str | None, scope: _Scope, sources: tuple[str, ...]) -> str:
        """Add the layer, or the layers of the named block, that a call stands for."""
        if name is None:
            kind = call.name.lower()
            self.unnamed[scope.prefix + kind] += 1
            name = f"{kind}{self.unnamed[scope.prefix + kind]}"
        if call.name in self.definitions:
            return self.use(self.definitions[call.name], call, name, scope, sources)
        if call.name not in KINDS:
            kinds = [name for name, kind in KINDS.items() if ".operation." not in kind.__module__]
            choices = [name[:40] for name in (*kinds, *self.definitions)]
            raise unknown("kind of layer", call.name[:40], choices, most=2 * len(KINDS))
        layer = calls.layer(KINDS[call.name], call, scope.arguments)
        return self.add(Node(self.full(name, scope), layer, () if layer.inputs == 0 else sources, scope.blocks))

    def use(self, definition: _Definition, call: Call, name: str, scope: _Scope, sources: tuple[str, ...]) -> str:
        """The layers of a named block, with the values that it is called with."""
        if definition.name in scope.definitions:
            way = " → ".join((*scope.definitions, definition.name))
            raise SpecError(f"block {definition.name} includes itself: {way}")
        if len(sources) != 1:
            raise SpecError(f"block {definition.name} follows one layer, not {len(sources)}")
        names = list(definition.arguments)
        bound = calls.bind(call, names, len(names), definition.name)
        values = {}
        for argument, default in definition.arguments.items():
            tree = bound.get(argument, default)
            if tree is None:
                raise SpecError(f"block {definition.name} needs {argument}")
            values[argument] = calls.evaluate(tree, scope.arguments if argument in bound else {})
        prefix, blocks = f"{self.full(name, scope)}.", (*scope.blocks, name)
        within = (*scope.definitions, definition.name)
        inner = _Scope(prefix, blocks, None, within, sources[0], values, scope.depth)
        return self.items(definition.body, inner, sources[0])

    # Names

    def full(self, name: str, scope: _Scope) -> str:
        full = scope.prefix + name
        if not NAME.fullmatch(name) or len(full) > 250:
            raise SpecError(
                f"{name[:40]!r} cannot be a name: letters, digits and . _ - + × make one, up to 100 of them, "
                "and perhaps a number after a colon"
            )
        return full

    def add(self, node: Node) -> str:
        self.spent += len(node.inputs) + getattr(node.layer, "num_layers", 1)
        if self.spent > 3 * MOST_LAYERS or len(self.nodes) >= MOST_LAYERS:
            raise SpecError(f"repeats and blocks make more than {MOST_LAYERS:,} layers")
        if node.name in self.lines:
            raise SpecError(f"two layers are called {node.name!r}, the first at line {self.lines[node.name]}")
        node.check()
        self.nodes.append(node)
        self.lines[node.name] = self.line
        return node.name

    def resolve(self, name: str, scope: _Scope) -> str:
        """The full name of an earlier layer: looked for in the block it is written in, then in those around it."""
        if name.startswith("/") and not scope.definitions and name[1:] in self.lines:
            return name[1:]
        within: _Scope | None = scope
        while within is not None:
            if within.entry is not None and name == "input":
                return within.entry
            if within.prefix + name in self.lines:
                return within.prefix + name
            prefix, within = within.prefix, within.parent
        around = self.definitions[scope.definitions[-1]].body if scope.definitions else self.layers
        for key, line in keys(around):
            if key == name and line >= self.item_line:
                raise SpecError(f"{name[:40]!r} is at line {line}, not above this layer; only layers above it flow in")
        known = [full.removeprefix(prefix) for full in self.lines if full.startswith(prefix)]
        entry = ["input"] if scope.definitions else []
        raise unknown("earlier layer", name[:40], [*entry, *known])

    def texts(self, tree: Tree, key: str) -> list[str]:
        """A name or a list of names."""
        items = tree.items if isinstance(tree, Items) else [tree]
        if not items:
            raise SpecError(f"{key} is empty; it takes the name of a layer or a list of names")
        return [_text(item, key) for item in items]

    def shapes(self) -> None:
        """Let every layer take what flows into it, so that errors have their lines. Raises ShapeError, SpecError."""
        from archcalc.analysis import Work

        shapes: dict[str, Shape] = {}
        known: dict[Any, Shape] = {}
        for node in self.nodes:
            inputs = tuple(shapes[name] for name in node.inputs)
            with self.at(self.lines[node.name]):
                key = (type(node.layer), node.layer, inputs)
                shape = known.get(key)
                if shape is None:
                    try:
                        shape = known[key] = Work(node.layer, inputs).output
                        _check_size(shape)
                    except ShapeError as error:
                        flowing = " and ".join("×".join(map(str, x)) for x in inputs[:4])
                        hint = LISTED if self.listed.intersection(node.inputs) else ""
                        raise ShapeError(f"{node.name} ({node.layer.kind}) on {flowing}: {error}{hint}") from None
                    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
                        raise SpecError(f"{node.name} ({node.layer.kind}) has fields that cannot be: {error}") from None
                shapes[node.name] = shape


class _LocatedError(SpecError):
    """An error that begins with its file and line."""


class _LocatedShapeError(ShapeError, _LocatedError):
    """The same, of a shape."""


def _inside(scope: _Scope) -> _Scope:
    return replace(scope, depth=scope.depth + 1)


def _text(tree: Tree, key: str) -> str:
    if not isinstance(tree, Text) or len(tree.value) > 300:
        raise SpecError(f"{key} takes a short text")
    return tree.value


def _check_size(shape: Shape) -> None:
    elements = 1
    for extent in shape:
        if extent < 1:
            raise ShapeError("nothing of the input is left")
        elements *= extent
        if elements > LARGEST_TENSOR:
            raise ShapeError(f"the output has more than {LARGEST_TENSOR:,} elements")
