"""PyTorch source code of a network, as a student would write it: modules by name, blocks that repeat as classes."""

from __future__ import annotations

import ast
import keyword
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from archcalc.analysis import analyze
from archcalc.errors import SpecError
from archcalc.extents import Shape
from archcalc.graph import Network, Node
from archcalc.layers import Input, Layer
from archcalc.outline import Group, Template, outline, templates
from archcalc.overwriting import overwriting

WIDTH = 100
"""Longer lines are broken."""

_TAKEN = {
    *("add_module", "apply", "bfloat16", "buffers", "children", "compile", "cpu", "cuda", "double", "eval"),
    *("extra_repr", "float", "forward", "half", "ipu", "load_state_dict", "modules", "mtia", "parameters"),
    *("requires_grad_", "share_memory", "state_dict", "to", "to_empty", "train", "training", "type", "xpu"),
    *("zero_grad", "functional", "math", "nn", "torch", "x", "self", "super", "tuple"),
}
"""Names that a module or the code itself has another use for."""


def source(network: Network, shape: Sequence[Any] | None = None) -> str:
    r"""PyTorch source of the network for inputs of this shape, by default its own; it prints its counts when run.

    Raises SpecError for a layer that there is no source for, ShapeError.

    >>> from archcalc.layers import Linear, ReLU
    >>> text = source(Network.sequential("mlp", (1, 784), [Linear(100), ReLU(), Linear(10)]))
    >>> print(*text.splitlines()[4:18], sep="\n")
    class Mlp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear1 = nn.Linear(784, 100)
            self.relu1 = nn.ReLU()
            self.linear2 = nn.Linear(100, 10)
    <BLANKLINE>
        def forward(self, x: Tensor) -> Tensor:
            x = self.linear1(x)
            x = self.relu1(x)
            x = self.linear2(x)
            return x
    <BLANKLINE>
    <BLANKLINE>
    """
    return _Writer(network, shape).text()


@dataclass(frozen=True, slots=True)
class _Step:
    """One line of a forward method: a call of a submodule, or an expression; what it reads and what it gives."""

    inputs: tuple[str, ...]
    output: str
    attribute: str = ""
    made: str = ""
    """What makes the submodule; nothing where there is none."""
    node: Node | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    """Of an expression, the layer's fields as they are written."""


class _Writer:
    def __init__(self, network: Network, shape: Sequence[Any] | None):
        self.network = network
        report = analyze(network, shape)
        self.inputs: dict[str, tuple[Shape, ...]] = {row.name: row.inputs for row in report.rows}
        self.shapes = {node.name: report[node.name].output for node in network.input_nodes}
        for name, given in self.shapes.items():
            if any(type(extent) is not int for extent in given):
                raise SpecError(f"{name}: PyTorch source needs an input of whole numbers")
        self.safe = set(overwriting(network.nodes))
        self.read = Counter(name for node in network for name in node.inputs) + Counter(network.outputs)
        self.root = outline(network, dotted=True)
        self.chains: dict[Group, bool] = {}
        self.templates = templates(self.root, self.arguments, self.closed)
        self.classes: dict[str, str] = {}
        self.named: dict[Template, str] = {}
        self.name = self.class_name(network.name)
        self.classes[self.name] = ""

    def text(self) -> str:
        """Imports, helper classes in the order they are needed, the network, and what runs it."""
        outputs = self.network.outputs
        inputs = [node.name for node in self.network.input_nodes]
        del self.classes[self.name]
        body = self.module(self.name, self.root, [], tuple(inputs), outputs, {})
        helpers = "\n\n\n".join([*self.borrowed(), *self.classes.values(), body])
        needed = ["import torch", "from torch import Tensor, nn"]
        needed += ["from torch.nn import functional"] if "functional." in helpers else []
        needed = ["import math", "", *needed] if "math." in helpers else needed
        return "\n".join([*needed, "", "", helpers, "", "", *self.main(), ""])

    def main(self) -> Iterator[str]:
        """Lines that build the network, run it once and print what came out."""
        yield 'if __name__ == "__main__":'
        yield f"    model = {self.name}().eval()"
        tensors = []
        for name, shape in self.shapes.items():
            words = any(name in node.inputs and node.layer.kind.startswith("Embedding") for node in self.network)
            made = f"torch.zeros{shape}, dtype=torch.long)".replace(")", "", 1) if words else f"torch.randn{shape}"
            tensors.append(made)
        yield "    with torch.no_grad():"
        yield f"        output = model({', '.join(tensors)})"
        one = len(self.network.outputs) == 1
        yield f'    print("output", {"tuple(output.shape)" if one else "*[tuple(part.shape) for part in output]"})'
        yield '    print("parameters", sum(parameter.numel() for parameter in model.parameters()))'

    def borrowed(self) -> Iterator[str]:
        """Classes of layers that torch.nn lacks, as archcalc's own builder has them."""
        kinds = {type(node.layer).__name__ for node in self.network}
        for file in dict.fromkeys(file for kind, file in _HELPERS.items() if kind in kinds):
            text = (Path(__file__).parent / "pytorch" / file).read_text(encoding="utf-8")
            for part in ast.parse(text).body:
                if isinstance(part, ast.ClassDef) and part.name in kinds and part.name in _HELPERS:
                    yield re.sub(r"  # type: ignore.*", "", ast.get_source_segment(text, part) or "")

    # Classes

    def class_name(self, name: str) -> str:
        """A class's name that nobody else has: "vgg-11" becomes Vgg11."""
        words = re.findall(r"[A-Za-z0-9]+", name)
        base = "".join(word[0].upper() + word[1:] for word in words) or "Net"
        base = base if base[0].isalpha() and not keyword.iskeyword(base) else f"Net{base}"
        taken = {*self.classes, *_HELPERS, "Tensor"}
        made, number = base, 2
        while made in taken:
            made, number = f"{base}{number}", number + 1
        return made

    def module(
        self,
        name: str,
        group: Group,
        parameters: Sequence[str],
        entries: tuple[str, ...],
        outputs: tuple[str, ...],
        texts: Mapping[tuple[str, str], str],
    ) -> str:
        """The source of a class of these layers, whose inputs and outputs are nodes."""
        shown = {node.name.removeprefix(group.prefix) for node in group.nodes if node.layer.kind in _EXPRESSIONS}
        written = " ".join(text for (layer, _), text in texts.items() if layer in shown)
        stored = [parameter for parameter in parameters if re.search(rf"\b{parameter}\b", written)]
        for parameter in stored:  # what forward needs, it finds in the module
            texts = {
                place: re.sub(rf"\b{parameter}\b", f"self.{parameter}", text) if place[0] in shown else text
                for place, text in texts.items()
            }
        steps = list(self.steps(group, group, {*_TAKEN, *stored}, texts))
        typed = ", ".join(f"{parameter}: {_type(parameter)}" for parameter in parameters)
        signature = f"    def __init__(self{', ' if typed else ''}{typed}) -> None:"
        if len(signature) > WIDTH:
            parts = textwrap.fill(f"self, {typed}", WIDTH, break_long_words=False).replace("\n", "\n        ")
            signature = f"    def __init__(\n        {parts}\n    ) -> None:"
        lines = [f"class {name}(nn.Module):", signature]
        lines.append("        super().__init__()")
        lines += [f"        self.{parameter} = {parameter}" for parameter in stored]
        lines += [f"        self.{step.attribute} = {_indented(step.made, 8)}" for step in steps if step.made]
        return "\n".join([*lines, "", *self.forward(steps, entries, outputs)])

    def forward(self, steps: Sequence[_Step], entries: tuple[str, ...], outputs: tuple[str, ...]) -> Iterator[str]:
        """Lines of the forward method; a value that nobody reads any more gives its variable to the next."""
        last = {name: index for index, step in enumerate(steps) for name in step.inputs}
        last |= dict.fromkeys(outputs, len(steps))
        variables = _variables(steps, entries, last)
        typed = ", ".join(f"{variables[name]}: Tensor" for name in entries)
        returns = "Tensor" if len(outputs) == 1 else f"tuple[{', '.join(['Tensor'] * len(outputs))}]"
        yield f"    def forward(self, {typed}) -> {returns}:"
        for step in steps:
            given = [variables[name] for name in step.inputs]
            result = variables[step.output]
            if step.made:
                target = f"{result}, _" if _pair(step.node) else result
                yield f"        {target} = self.{step.attribute}({_called(step, given)})"
            else:
                yield f"        {self.expression(step, given, result)}"
        yield f"        return {', '.join(variables[name] for name in outputs)}"

    def expression(self, step: _Step, given: list[str], result: str) -> str:
        """The statement for a layer that torch has no module for."""
        node = step.node
        assert node is not None
        values = step.values
        match node.layer.kind:
            case "Add" if node.name in self.safe and result == given[0]:
                return f"{result} += {' + '.join(given[1:])}"
            case "Add":
                return f"{result} = {' + '.join(given)}"
            case "Concat":
                statement = f"{result} = torch.cat([{', '.join(given)}], dim={values['dim']})"
                if len(statement) <= WIDTH:
                    return statement
                parts = textwrap.fill(f"{', '.join(given)}", WIDTH, break_long_words=False).splitlines()
                return "\n            ".join([f"{result} = torch.cat([", *parts]) + f"\n        ], dim={values['dim']})"
            case "Subsample":
                rows, columns = node.layer.stride  # type: ignore[attr-defined]
                rows, columns = (values["stride"],) * 2 if rows == columns else (rows, columns)
                return f"{result} = {given[0]}[:, :, ::{rows}, ::{columns}]"
            case _:
                return f"{result} = functional.pad({given[0]}, (0, 0, 0, 0, 0, {values['channels']}))"

    # Steps

    def steps(self, group: Group, top: Group, taken: set[str], texts: Mapping[tuple[str, str], str]) -> Iterator[_Step]:
        """The steps of a class; blocks that are no module of their own are written out."""
        for child in group.children:
            if isinstance(child, Group) and not self.closed(child):
                yield from self.steps(child, top, taken, texts)
                continue
            full = child.last if isinstance(child, Group) else child.name
            if isinstance(child, Node) and isinstance(child.layer, Input):
                continue
            if isinstance(child, Node) and child.layer.kind in _EXPRESSIONS:
                name = child.name.removeprefix(top.prefix)
                values = {key: texts.get((name, key), repr(value)) for key, value in self.arguments(child).items()}
                yield _Step(child.inputs, full, self.attribute(child, top, taken), "", child, values)
                continue
            node = child if isinstance(child, Node) else None
            inputs = node.inputs if node else child.entries()  # type: ignore[union-attr]
            made = self.made(child, top, texts)
            yield _Step(inputs, full, self.attribute(child, top, taken), made, node)

    def attribute(self, child: Node | Group, top: Group, taken: set[str]) -> str:
        """A name that the class has not used yet: that of the layer or block within it."""
        inside = child.prefix.removesuffix(".") if isinstance(child, Group) and child.prefixed else child.name
        name = re.sub(r"\W", "_", inside.removeprefix(top.prefix))
        name = f"layer{name}" if not name[:1].isalpha() else name
        while name in taken or keyword.iskeyword(name):
            name += "_"
        taken.add(name)
        return name

    def made(self, child: Node | Group, top: Group, texts: Mapping[tuple[str, str], str]) -> str:
        """The expression that makes a layer, an nn.Sequential of a chain, or a block's class."""
        if isinstance(child, Node):
            return self.layer(child, top, texts)
        if template := self.templates.get(child):
            if template not in self.named:
                self.named[template] = self.template_class(template)
            values = ", ".join(map(repr, template.values[child]))
            return f"{self.named[template]}({values})"
        if self.chain(child):
            lines = list(self.sequence(child, top, texts))
            short = f"nn.Sequential({', '.join(lines)})"
            if len(short) < WIDTH - 30 and "\n" not in short and "#" not in short:
                return short
            lines = [_indented(line if "  # " in line else f"{line},", 4) for line in lines]
            return "\n    ".join(["nn.Sequential(", *lines]) + "\n)"
        name = self.class_name(child.name if child.name[:1].isalpha() else "block")
        self.classes[name] = ""
        text = self.module(name, child, [], child.entries(), (child.last,), {})
        del self.classes[name]
        self.classes[name] = text
        return f"{name}()"

    def sequence(self, group: Group, top: Group, texts: Mapping[tuple[str, str], str]) -> Iterator[str]:
        """The modules of a chain, each with its name behind it unless it is a number; runs of one block in short."""
        for made, run in groupby(group.children, lambda child: self.made(child, top, texts)):
            children = list(run)
            if len(children) > 2 and all(child in self.templates for child in children):
                yield f"*[{made} for _ in range({len(children)})]"
                continue
            for child in children:
                name = child.name.removeprefix(group.prefix)
                yield made if name.isdigit() else f"{made},  # {name}"

    def template_class(self, template: Template) -> str:
        """Write the class of blocks that are alike; its name."""
        name = self.class_name(template.name)
        self.classes[name] = ""
        body = template.body
        text = self.module(name, body, template.parameters, body.entries(), (body.last,), template.texts)
        del self.classes[name]
        self.classes[name] = text
        return name

    def layer(self, node: Node, top: Group, texts: Mapping[tuple[str, str], str]) -> str:
        """`nn.Conv2d(3, 64, kernel_size=3)`: widths first, then what must be given, then what is not as usual."""
        kind = type(node.layer).__name__
        if type(node.layer).__module__.startswith("archcalc.layers.operation."):
            raise SpecError(f"{node.name}: there is no PyTorch source for {node.layer.kind}")
        values = self.arguments(node)
        usual = _usual(node.layer)
        name = node.name.removeprefix(top.prefix)
        bare = {"Conv": 2, "Linear": 2, "BatchNorm": 1, "InstanceNorm": 1}
        unnamed = next((count for start, count in bare.items() if kind.startswith(start)), 0)
        unnamed = unnamed or (1 if values and not node.layer.inferred else 0)
        written = []
        for index, (key, value) in enumerate(values.items()):
            text = texts.get((name, key))
            if text is None and key in usual and (value == usual[key] or _each(value) == usual[key]):
                continue
            text = repr(value) if text is None else text
            written.append(text if index < unnamed and key not in usual else f"{key}={text}")
        made = kind if kind in _HELPERS else f"nn.{kind}"
        call = f"{made}({', '.join(written)})"
        if len(call) <= WIDTH - 15:
            return call
        return "\n".join([f"{made}(", *(f"    {_wrapped(part)}," for part in written), ")"])

    def arguments(self, node: Node) -> dict[str, Any]:
        """What constructs the layer's module; in place only where nobody needs what is overwritten."""
        values = node.layer.arguments(*self.inputs[node.name])
        if type(node.layer).__name__ not in _HELPERS:
            values = {key: _each(value) for key, value in values.items()}
        if "inplace" in values:
            values["inplace"] = node.name in self.safe
        return values

    # Blocks

    def closed(self, group: Group) -> bool:
        """Whether one value flows into a block and its last layer's alone out of it."""
        entries = group.entries()
        if len(entries) != 1 or any(node.layer.inputs == 0 for node in group.nodes):
            return False
        within = Counter(name for node in group.nodes for name in node.inputs)
        last = group.last
        return all(node.name == last or self.read[node.name] == within[node.name] for node in group.nodes)

    def chain(self, group: Group) -> bool:
        """Whether a block is layers one after the other, each a module of one tensor: an nn.Sequential."""
        if group not in self.chains:
            before = group.entries()[:1]
            chained = self.closed(group)
            for child in group.children:
                inputs = child.entries() if isinstance(child, Group) else child.inputs
                if isinstance(child, Group):
                    chained = chained and self.closed(child)
                else:
                    chained = chained and child.layer.kind not in _EXPRESSIONS and not _pair(child)
                chained = chained and inputs == before
                before = (child.last if isinstance(child, Group) else child.name,)
            self.chains[group] = chained
        return self.chains[group]


_EXPRESSIONS = frozenset({"Add", "Concat", "Subsample", "PadChannels"})
"""Kinds that are written into forward."""

_HELPERS = {
    "TableConv2d": "build.py",
    "RBF": "build.py",
    "MultiheadAttention": "attention.py",
    "ImageToTokens": "attention.py",
    "ClassToken": "attention.py",
    "PositionalEmbedding": "attention.py",
    "TakeToken": "attention.py",
}
"""Kinds that need a class that torch.nn has not, with the file in archcalc/pytorch that has it."""


def _variables(steps: Sequence[_Step], entries: tuple[str, ...], last: Mapping[str, int]) -> dict[str, str]:
    """For each value the variable that holds it: its first input's, where nobody reads that any more."""
    names = ["x"] if len(entries) == 1 else [re.sub(r"\W", "_", name) for name in entries]
    variables = dict(zip(entries, names, strict=True))
    holder = dict(zip(names, entries, strict=True))  # of each variable, the value in it
    fresh: dict[str, str] = {}  # a variable of its own, by a mark, and the step that it is called after
    joined: set[str] = set()  # of these, those that so far hold only what was joined
    for index, step in enumerate(steps):
        reused = [variables[name] for name in step.inputs[:1] if last[name] <= index]
        if step.node is not None and step.node.layer.kind == "Concat":
            reused = [name for name in (names[0], *reused) if last.get(holder[name], index) <= index]
        held = reused[0] if reused else f"{index} new"
        if not reused or held in joined:
            fresh[held] = step.attribute
            joined = joined - {held} if step.made else joined | {held}
        variables[step.output], holder[held] = held, step.output
    if len(fresh) == 1:
        fresh = dict.fromkeys(fresh, "out")
    return {name: fresh.get(held, held) for name, held in variables.items()}


def _usual(layer: Layer) -> dict[str, Any]:
    """The fields of a layer that need not be given, with the values that they have then."""
    usual = {given.name: given.default for given in fields(layer) if given.default is not MISSING}
    if layer.kind in ("Softmax", "Softmin", "LogSoftmax"):  # torch has no axis of its own for these
        del usual["dim"]
    if usual.get("stride", 0) is None:  # pooling
        usual["stride"] = _each(getattr(layer, "kernel_size", None))
    return usual


def _each(value: Any) -> Any:
    """One number for all axes where they have the same."""
    if isinstance(value, tuple) and value and len(set(value)) == 1 and type(value[0]) is int:
        return value[0]
    return value


def _pair(node: Node | None) -> bool:
    """Whether a module returns its state beside its output."""
    return node is not None and node.layer.kind in ("RNN", "LSTM", "GRU", "LSTMCell")


def _called(step: _Step, given: list[str]) -> str:
    """What a module is called with: an LSTM takes its states as one."""
    if step.node is not None and step.node.layer.kind.startswith("LSTM") and len(given) == 3:
        return f"{given[0]}, ({given[1]}, {given[2]})"
    return ", ".join(given)


def _type(parameter: str) -> str:
    return "bool" if parameter in ("inplace", "bias", "affine", "ceil_mode") else "int"


def _indented(text: str, columns: int) -> str:
    return text.replace("\n", "\n" + " " * columns)


def _wrapped(text: str) -> str:
    """A long argument, one line for each tuple in it."""
    return text if len(text) <= WIDTH else text.replace("), (", "),\n     (")
