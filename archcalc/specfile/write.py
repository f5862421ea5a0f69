"""A Network as a spec file: fields and inputs that go without saying left out, blocks that are alike written once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from archcalc.analysis import Row, analyze
from archcalc.errors import ArchcalcError, SpecError
from archcalc.extents import Shape
from archcalc.graph import Network, Node
from archcalc.layers import KINDS, Input, Layer
from archcalc.outline import Group, Template, outline, templates
from archcalc.specfile.read import NAME, read


def dumps(network: Network, shape: Shape | None = None) -> str:
    """The network as the text of a spec file, which reads back equal. Raises SpecError where that cannot be.

    Its input has the given shape, by default the network's own.

    Of a traced network the layers are written, not which tensors its module holds.

    >>> from archcalc.layers import Conv2d, Tanh
    >>> print(dumps(Network.sequential("net", (1, 1, 32, 32), [Conv2d(6, 5), Tanh()])), end="")
    name: net
    input: 1x32x32
    layers:
      - Conv2d(6, 5)
      - Tanh
    """
    nodes = [replace(node, layer=Input(shape)) if shape and isinstance(node.layer, Input) else node for node in network]
    rows = analyze(network) if any(node.held for node in network) else ()
    for row in rows:
        _check_held(row)
    bare = tuple(Node(node.name, node.layer, node.inputs, node.blocks) for node in nodes)
    plain = Network(network.name, bare, network.outputs)
    text = _Writer(plain).text()
    try:
        same = read(text.encode(), network.name) == plain
    except ArchcalcError as error:
        raise SpecError(f"{network.name} cannot be written as a spec file: {error}") from None
    if not same:
        raise SpecError(f"{network.name} cannot be written as a spec file: it would not read back equal")
    return text


def _check_held(row: Row) -> None:
    """Raise SpecError where tensors are shared or parameters frozen."""
    buffers = {operand.name for nest in row.nests for operand in nest.operands if operand.role == "buffer"}
    shared = [held.name for held in row.node.held if held.counted_by]
    frozen = [held.name for held in row.node.held if not (held.trained or held.counted_by or held.name in buffers)]
    for what, names in (("shares", shared), ("freezes", frozen)):
        if names:
            raise SpecError(f"{row.name} {what} {', '.join(names)}, which a spec file cannot say")


@dataclass(frozen=True, slots=True)
class _Scope:
    """Prefixes of the blocks around, the innermost first; of a named block, what flows in and what its values are."""

    prefixes: tuple[str, ...] = ("",)
    entry: str | None = None
    texts: Mapping[tuple[str, str], str] = field(default_factory=dict)


class _Writer:
    def __init__(self, network: Network):
        self.network = network
        self.root = outline(network)
        for group in self.root.groups:
            _check(group.name)
        self.templates = templates(self.root, _values, _writable)
        self.names = self.named()
        self.unnamed: Counter[str] = Counter()
        self.seen: set[str] = set()

    def named(self) -> dict[Template, str]:
        """A name for each template that nothing else has."""
        names: dict[Template, str] = {}
        for template in dict.fromkeys(self.templates.values()):
            base = name = template.name
            number = 2
            while name in names.values() or name in KINDS or name in ("true", "false", "none", "null"):
                name, number = f"{base}{number}", number + 1
            names[template] = name
        return names

    def text(self) -> str:
        nodes = self.network.nodes
        count = next((i for i, node in enumerate(nodes) if not isinstance(node.layer, Input)), len(nodes))
        inputs, name = nodes[:count], self.network.name
        if not name.isprintable() or name != name.strip() or not name:
            raise SpecError(f"{name!r} cannot be the name of a spec file's network")
        lines = [f"name: {_scalar(name)}"]
        if [node.name for node in inputs] == ["input"]:
            lines.append(f"input: {_shape(inputs[0])}")
        else:
            lines += ["input:", *(f"  {_check(node.name)}: {_shape(node)}" for node in inputs)]
        if not inputs or count == len(nodes):
            raise SpecError(f"{name} has no {'layers' if inputs else 'input'}")
        self.seen |= {node.name for node in inputs}
        last = inputs[0].name
        bodies: list[str] = []
        for template in self.names:
            bodies += self.definition(template)
        if bodies:
            lines += ["", "blocks:", *bodies, ""]
        body = Group("", "", tuple(child for child in self.root.children if child not in inputs))
        lines += ["layers:", *(f"  {line}" for line in self.lines(body, _Scope(), last))]
        if self.network.outputs != (nodes[-1].name,):
            lines.append(f"outputs: [{', '.join(self.network.outputs)}]")
        return "\n".join(lines) + "\n"

    def definition(self, template: Template) -> list[str]:
        signature = self.names[template]
        if template.parameters:
            signature += f"({', '.join(template.parameters)})"
        body = template.body
        (entry,) = body.entries()
        seen, self.seen, unnamed, self.unnamed = self.seen, set(), self.unnamed, Counter()
        lines = self.lines(body, _Scope((body.prefix,), entry, template.texts), entry, inside=True)
        self.seen, self.unnamed = seen, unnamed
        return [f"  {signature}:", *(f"    {line}" for line in lines)]

    def lines(self, group: Group, scope: _Scope, last: str, *, inside: bool = False) -> list[str]:
        """The items of a list, each on its lines."""
        lines: list[str] = []
        index = 0
        children = group.children
        named = not self.nameless(group, scope.prefixes[0], last)
        while index < len(children):
            child = children[index]
            if not isinstance(child, Group):
                lines += self.layer(child, scope, last, named=named)
            elif child in self.templates and not inside:
                repeats = self.repeats(children[index:])
                lines += self.use(child, scope, last, repeats)
                index += repeats - 1
                child = children[index]
            else:
                inner = replace(scope, prefixes=(child.prefix, *scope.prefixes)) if child.prefixed else scope
                lines.append(f"- {child.name}:")
                lines += [f"    {line}" for line in self.lines(child, inner, last, inside=inside)]
                lines += [] if child.prefixed else ["  prefix: false"]
            last = child.last if isinstance(child, Group) else child.name
            index += 1
        return lines

    def layer(self, node: Node, scope: _Scope, last: str, *, named: bool) -> list[str]:
        name, place = (node.name.removeprefix(scope.prefixes[i]) for i in (0, -1))
        text = _scalar(_call(node.layer, {key: text for (n, key), text in scope.texts.items() if n == place}))
        self.seen.add(node.name)
        lines = [f"- {_check(name)}: {text}" if named else f"- {text}"]
        if node.inputs and node.inputs != (last,):
            references = [self.reference(source, scope) for source in node.inputs]
            joined = ", ".join(references)
            lines.append(f"  after: {joined if len(references) == 1 else f'[{joined}]'}")
        return lines

    def nameless(self, group: Group, prefix: str, last: str) -> bool:
        """Whether the layers of a list need no names: they follow each other, named as the reader would name them."""
        counts = Counter[str]()
        for child in group.children:
            if isinstance(child, Group):
                last = child.last
                continue
            kind = type(child.layer).__name__.lower()
            counts[kind] += 1
            number = self.unnamed[prefix + kind] + counts[kind]
            if child.name != f"{prefix}{kind}{number}" or (child.inputs and child.inputs != (last,)):
                return False
            last = child.name
        self.unnamed.update({prefix + kind: count for kind, count in counts.items()})
        return True

    def repeats(self, children: tuple[Node | Group, ...]) -> int:
        """How many uses of one template with the same values follow each other, their names numbered on."""
        first = children[0]
        assert isinstance(first, Group)
        template = self.templates[first]
        stem = first.name.rstrip("0123456789")
        number = first.name[len(stem) :]
        before, count = first, 1
        for child in children[1:]:
            if not isinstance(child, Group) or self.templates.get(child) is not template or not number:
                break
            if child.name != f"{stem}{int(number) + count}" or child.entries() != (before.last,):
                break
            if template.values[child] != template.values[first] or str(int(number)) != number:
                break
            before, count = child, count + 1
        return count

    def use(self, group: Group, scope: _Scope, last: str, repeats: int) -> list[str]:
        template = self.templates[group]
        values = ", ".join(map(_value, template.values[group]))
        lines = [f"- {group.name}: {self.names[template]}{f'({values})' if values else ''}"]
        self.seen |= {node.name for node in group.nodes}
        (entry,) = group.entries()
        lines += [] if entry == last else [f"  after: {self.reference(entry, scope)}"]
        lines += [f"  repeat: {repeats}"] if repeats > 1 else []
        return lines

    def reference(self, name: str, scope: _Scope) -> str:
        """The shortest name by which the reader finds a node."""
        if scope.entry == name:
            return "input"
        for prefix in scope.prefixes:
            short = name.removeprefix(prefix)
            if name.startswith(prefix) and self.found(short, scope) == name:
                return short
        return f"/{name}"

    def found(self, short: str, scope: _Scope) -> str | None:
        """What the reader finds under a name."""
        return next((prefix + short for prefix in scope.prefixes if prefix + short in self.seen), None)


def _writable(group: Group) -> bool:
    return group.prefixed and all(node.layer.inputs != 0 for node in group.nodes) and len(list(group.nodes)) > 1


def _values(node: Node) -> dict[str, Any]:
    """A layer's fields, equal numbers for all axes as one."""
    layer = node.layer
    values = {field.name: getattr(layer, field.name) for field in fields(layer)}
    for name, value in values.items():
        if isinstance(value, tuple) and value and len(set(value)) == 1 and type(value[0]) is int:
            try:
                one = replace(layer, **{name: value[0]})
            except (ArchcalcError, TypeError):
                continue
            if one == layer:
                values[name] = value[0]
    return values


def _call(layer: Layer, texts: Mapping[str, str]) -> str:
    """`Conv2d(64, 3, padding=1)`: what must be given first, then whatever is not as usual; `texts` stand for values."""
    kind = type(layer)
    values = _values(Node("", layer, ()))
    needed = [field.name for field in fields(kind) if _required(field)]
    kept = dict(values)
    for name in values:
        rest = {key: value for key, value in kept.items() if key != name}
        if name not in needed and name not in texts and _makes(kind, rest, layer):
            kept = rest
    written = [texts.get(name, _value(kept[name])) for name in needed]
    written += [f"{name}={texts.get(name) or _value(value)}" for name, value in kept.items() if name not in needed]
    return f"{kind.__name__}({', '.join(written)})" if written else kind.__name__


def _required(field: Any) -> bool:
    from dataclasses import MISSING

    return field.default is MISSING and field.default_factory is MISSING


def _makes(kind: type[Layer], values: Mapping[str, Any], layer: Layer) -> bool:
    try:
        return kind(**values) == layer
    except (ArchcalcError, TypeError):
        return False


def _value(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"({', '.join(map(_value, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, int | float):
        return repr(value)
    raise SpecError(f"a {type(value).__name__} cannot be written in a spec file")


def _scalar(text: str) -> str:
    """A text as YAML takes it: as it is, or quoted."""
    plain = text[0].isalpha() and ": " not in text and " #" not in text and not text.endswith(":")
    return text if plain else json.dumps(text, ensure_ascii=False)


def _check(name: str) -> str:
    if not NAME.fullmatch(name):
        raise SpecError(f"a spec file cannot have a layer or block called {name!r}")
    return name


def _shape(node: Node) -> str:
    shape = node.layer.output()
    if any(type(extent) is not int for extent in shape):
        raise SpecError(f"{node.name} is not of whole numbers")
    if len(shape) > 1 and shape[0] == 1:
        return "x".join(map(str, shape[1:]))
    return f"[{', '.join(map(str, shape))}]"
