"""Layers as they are written, `Conv2d(64, 3, padding=1)`: read with Python's parser, evaluated by hand, never run."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from math import isfinite
from reprlib import repr as shorten
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from archcalc.errors import SpecError
from archcalc.layers.base import Layer
from archcalc.names import unknown

MOST_CHARACTERS = 1000
"""Longer lines of layers are not read."""

MOST_NESTED = 30
"""Levels of brackets and signs."""

LARGEST = 2**53
"""Larger numbers are not read."""

_WORDS = {"true": True, "false": False, "none": None, "null": None}


@dataclass(frozen=True, slots=True)
class Call:
    """A kind or block by name with its arguments, not yet evaluated."""

    name: str
    given: tuple[ast.expr, ...] = ()
    named: tuple[tuple[str, ast.expr], ...] = ()


@lru_cache(4096)
def chain(text: str) -> tuple[Call, ...]:
    """The layers of one line, separated by commas. Raises SpecError.

    >>> [call.name for call in chain("Conv2d(6, 5), Tanh, AvgPool2d(2)")]
    ['Conv2d', 'Tanh', 'AvgPool2d']
    """
    tree = expression(text)
    return tuple(map(_call, tree.elts if isinstance(tree, ast.Tuple) else [tree]))


def expression(text: str) -> ast.expr:
    """The text as a tree. Raises SpecError where it is none."""
    if len(text) > MOST_CHARACTERS:
        raise SpecError(f"more than {MOST_CHARACTERS} characters in one line of layers")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        colon = " after a colon comes a space;" if re.match(r"\w+:\S", text) else ""
        written = "a layer is written Kind or Kind(number, field=value)"
        raise SpecError(f"cannot read {shorten(text)};{colon} {written}") from None
    level: list[ast.AST] = [tree]
    for _ in range(MOST_NESTED):
        level = [part for node in level for part in ast.iter_child_nodes(node)]
    if level:
        raise SpecError(f"cannot read {shorten(text)}: more than {MOST_NESTED} brackets or signs inside one another")
    return tree


def _call(tree: ast.expr) -> Call:
    if isinstance(tree, ast.Name):
        return Call(tree.id)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        named = tuple((keyword.arg, keyword.value) for keyword in tree.keywords if keyword.arg)
        if len(named) == len(tree.keywords) and not any(isinstance(arg, ast.Starred) for arg in tree.args):
            return Call(tree.func.id, tuple(tree.args), named)
    kind = tree.func if isinstance(tree, ast.Call) else tree
    hint = f" without {kind.value.id}:" if isinstance(kind, ast.Attribute) and isinstance(kind.value, ast.Name) else ""
    raise SpecError(f"cannot read {_source(tree)}; a layer is written{hint} Kind or Kind(number, field=value)")


def evaluate(tree: ast.expr, arguments: Mapping[str, Any]) -> Any:
    """A number, word, text or list of these, where names are a block's arguments. Raises SpecError.

    >>> evaluate(expression("4 * width"), {"width": 64})
    256
    """
    match tree:
        case ast.Constant(value=bool() | None | str()):
            return tree.value
        case ast.Constant(value=int() | float()):
            return _bounded(tree.value)
        case ast.Name(id=name) if name in arguments:
            return arguments[name]
        case ast.Name(id=name) if name.lower() in _WORDS:
            return _WORDS[name.lower()]
        case ast.Name(id=name):
            block = f" or an argument of the block ({', '.join(arguments)})" if arguments else ""
            raise SpecError(f'{name[:40]} is no number, true, false or none{block}; text is written "{name[:40]}"')
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return tuple(evaluate(part, arguments) for part in parts)
        case ast.UnaryOp(op=ast.USub(), operand=part):
            return -_number(evaluate(part, arguments), tree)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = (_number(evaluate(part, arguments), tree) for part in (left, right))
            return _bounded(_compute(op, a, b, tree))
    raise SpecError(f"cannot read {_source(tree)}; a value is a number, true, false, none, text or a list of these")


def _compute(op: ast.operator, a: float, b: float, tree: ast.expr) -> float:
    match op:
        case ast.Add():
            return a + b
        case ast.Sub():
            return a - b
        case ast.Mult():
            return a * b
        case ast.FloorDiv() if b:
            return a // b
        case ast.FloorDiv():
            raise SpecError(f"cannot compute {_source(tree)}, a division by 0")
    raise SpecError(f"cannot compute {_source(tree)}; there are + - * and //")


def _number(value: object, tree: ast.expr) -> Any:
    if type(value) not in (int, float):
        raise SpecError(f"cannot compute {_source(tree)}: {shorten(value)} is no number")
    return value


def _bounded(number: Any) -> Any:
    if (isinstance(number, float) and not isfinite(number)) or abs(number) > LARGEST:
        raise SpecError(f"a number is larger than {LARGEST:,}")
    return number


def _source(tree: ast.expr) -> str:
    """The start of the text that a tree was read from."""
    text = ast.unparse(tree)
    return text if len(text) <= 60 else f"{text[:60]}…"


def bind(call: Call, names: list[str], unnamed: int, what: str) -> dict[str, ast.expr]:
    """Arguments by name, of which the first `unnamed` may come without theirs. Raises SpecError."""
    if len(call.given) > unnamed:
        takes = f"{unnamed} value{'s' * (unnamed != 1)} without a name ({', '.join(names[:unnamed])})"
        raise SpecError(f"{what} takes {takes if unnamed else 'no value without a name'}, not {len(call.given)}")
    bound = dict(zip(names, call.given, strict=False))
    for name, value in call.named:
        if name not in names:
            raise SpecError(str(unknown(f"field of {what}", name, names)))
        if name in bound:
            raise SpecError(f"{what} is given {name} twice")
        bound[name] = value
    return bound


def layer(kind: type[Layer], call: Call, arguments: Mapping[str, Any]) -> Layer:
    """The layer of this kind that a call describes; what torch infers has no field. Raises SpecError.

    >>> from archcalc.layers import Linear
    >>> layer(Linear, chain("Linear(10, bias=false)")[0], {})
    Linear(out_features=10, bias=False)
    """
    name = kind.__name__
    all_, required, hints = _fields(kind)  # type: ignore[arg-type] # mypy takes dataclasses for unhashable
    for field, _ in call.named:
        if field in kind.inferred:
            raise SpecError(f"{name}: {field} is read off what flows in; leave it out")
    try:
        bound = bind(call, all_, len(required) if kind.inferred else len(all_), name)
    except SpecError as error:
        if kind.inferred and len(call.given) > len(required):
            raise SpecError(f"{error}; {', '.join(kind.inferred)} is read off what flows in") from None
        raise
    if missing := [field for field in required if field not in bound]:
        raise SpecError(f"{name} needs {', '.join(missing)}")
    values = {field: evaluate(tree, arguments) for field, tree in bound.items()}
    for field, value in values.items():
        if not _fits(value, hints[field]):
            raise SpecError(f"{name}: {field} is {shorten(value)}; it must be {_described(hints[field])}")
    try:
        return kind(**values)
    except SpecError as error:
        raise SpecError(f"{name}: {error}") from None


@lru_cache
def _fields(kind: type[Layer]) -> tuple[list[str], list[str], dict[str, Any]]:
    """Names of the fields, of those that must be given, and the types of all."""
    given = [field for field in fields(kind) if field.init]
    required = [field.name for field in given if field.default is MISSING and field.default_factory is MISSING]
    return [field.name for field in given], required, get_type_hints(kind)


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type, where a list stands for any tuple and a whole number for a float."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:  # an extent
        return type(value) is int and value > 0
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if parts[1:] == (...,):
            return all(_fits(part, parts[0]) for part in value)
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if hint in (None, NoneType):
        return value is None
    return (
        type(value) is int if hint is int else isinstance(value, int | float) if hint is float else type(value) is hint
    )


_TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "none"}


def _described(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return "a whole number of at least 1"
    if origin in (Union, UnionType):
        return " or ".join(map(_described, parts))
    if origin is Literal:
        return " or ".join(f'"{part}"' if isinstance(part, str) else str(part) for part in parts)
    if origin is tuple:
        return "a list of them" if parts[0] is int else "a list"
    return _TYPES.get(hint, "of another type")
