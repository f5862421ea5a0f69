"""Targets: what a user names on the command line, and the input it is given."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from importlib import import_module
from os.path import isfile
from reprlib import repr as shorten
from typing import Any

from archcalc import zoo
from archcalc.analysis import Report, analyze
from archcalc.errors import InputError, MissingPackageError, UnknownNameError
from archcalc.extents import Shape
from archcalc.graph import Network
from archcalc.names import unknown
from archcalc.zoo.registry import MOST_DIGITS, Entry

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64")
"""Types an input may have, by torch's names."""


@dataclass(frozen=True)
class Argument:
    """A tensor that a module is called with: its shape, the batch in front where there is one.

    The type is named as torch names it; None is the module's own. An argument without a keyword is positional.
    """

    shape: Shape
    dtype: str | None = None
    keyword: str | None = None
    batched: bool = True


@dataclass(frozen=True)
class Target:
    """A network with what it is to be analysed on, and the zoo entry or the torch module it came from.

    A traced network's module is what `make` gives, to be called with these arguments.
    """

    network: Network
    arguments: tuple[Argument, ...]
    entry: Entry | None = None
    choices: Mapping[str, Any] = field(default_factory=dict)
    make: Callable[[], Any] | None = None

    @property
    def shape(self) -> Shape | None:
        """The shape of the input; None where there are several, on whose shapes the network was traced."""
        return self.arguments[0].shape if len(self.arguments) == 1 else None

    def report(self) -> Report:
        """What every layer costs. Raises ShapeError."""
        return analyze(self.network, self.shape)

    def again(self, *, batch: int | None = None, dtype: str | None = None) -> Target:
        """The module traced again, at another batch or in another type.

        Raises InputError where no input has a batch, or where the module would have to run with data.
        """
        assert self.make is not None
        name, arguments = self.network.name, self.arguments
        if batch is None:
            return _trace(name, self.make, arguments, dtype)
        if not any(argument.batched for argument in arguments):
            raise InputError(f"no input of {name} has a batch")
        arguments = tuple(replace(x, shape=(batch, *x.shape[1:])) if x.batched else x for x in arguments)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*traced with real tensors")
            try:
                return _trace(name, self.make, arguments, dtype or self.network.dtype)
            except UserWarning:
                raise InputError(f"{name} cannot run without data; trace it at that size with --batch") from None


def resolve(name: str, settings: Sequence[str] = (), inputs: Sequence[str] = (), batch: str | None = None) -> Target:
    """The network of this name with `key=value` settings, on inputs such as "3x224x224".

    The name is a zoo entry's, a spec file's (`net.yaml`), or `torch:package.module:callable`, which is traced, by
    default on an image of 3x224x224. After it there may be rewrites (`archcalc.rewrite`), such as
    `vgg19+width=0.5+batch-norm`.
    Raises UnknownNameError for a name or key there is not, InputError for a value or input that cannot be read.

    >>> resolve("vgg19", ["bias=false"], ["3x64x64"], batch="8").shape
    (8, 3, 64, 64)
    """
    name, *rewrites = _parts(name)
    if rewrites:
        return _rewritten(resolve(name, settings, inputs, batch), rewrites)
    chosen = dict(map(_setting, settings))
    if name.startswith("torch:"):
        size = 1 if batch is None else parse_batch(batch)
        arguments = tuple(parse_argument(text, size) for text in inputs or ["3x224x224"])
        return _traced(name.removeprefix("torch:"), chosen, arguments)
    entry, choices = None, {}
    if name.lower().endswith((".yaml", ".yml")):
        if chosen:
            raise InputError(f"{name} has no choices for --set: write them into the file")
        network = import_module("archcalc.specfile").load(name)
    else:
        entry = _found(name)
        choices = entry.parse(chosen)
        network = entry.build(**choices)
    return Target(network, _arguments(network, inputs, batch), entry, choices)


def _found(name: str) -> Entry:
    """The zoo entry of this name. Raises UnknownNameError, InputError for what names something else."""
    try:
        return zoo.find(name)
    except UnknownNameError:
        if isfile(name):  # noqa: PTH113 - Path.is_file raises for long names
            raise InputError(f"{name} is a file, but no spec file, whose name ends with .yaml") from None
        if isfile(f"{name}.yaml"):  # noqa: PTH113
            raise InputError(f"unknown network {name!r}; did you mean the file {name}.yaml?") from None
        if re.fullmatch(r"[\w./]+:\w+", name):
            raise InputError(f"unknown network {name!r}; a PyTorch module is written torch:{name}") from None
        raise


def resolve_all(
    names: Sequence[str], settings: Sequence[str] = (), inputs: Sequence[str] = (), batch: str | None = None
) -> list[Target]:
    """The networks of these names, where a setting is for those that have such a choice. Raises as `resolve` does.

    >>> [target.choices for target in resolve_all(["plain34", "resnet34"], ["shortcut=A"])]
    [{}, {'shortcut': 'A'}]
    """
    takers = {text: [name for name in names if _has(name, _setting(text)[0])] or names for text in settings}
    return [resolve(name, [text for text in settings if name in takers[text]], inputs, batch) for name in names]


def _has(name: str, choice: str) -> bool:
    """Whether a target may have a choice of this name, which of a torch callable only a call can tell."""
    name, *_ = _parts(name)
    try:
        return name.startswith("torch:") or choice in zoo.find(name).choices
    except UnknownNameError:
        return False


def _parts(name: str) -> list[str]:
    """A target's name and the rewrites after it."""
    return re.split(r"\+(?=[a-z-]+(?:[=@+]|$))", name)


def _arguments(network: Network, inputs: Sequence[str], batch: str | None) -> tuple[Argument, ...]:
    """What a network that takes images or vectors is given: its own inputs, or one as typed. Raises InputError."""
    own = tuple(Argument(node.layer.output()) for node in network.input_nodes)
    if not inputs and batch is None:
        return own
    if len(own) > 1:
        raise InputError(f"{network.name} has {len(own)} inputs, which are as its file says")
    (first,) = own
    size = 1 if batch is None else parse_batch(batch)
    given = tuple(parse_argument(text, size) for text in inputs) or (Argument((size, *first.shape[1:])),)
    if len(given) > 1 or given[0].dtype or given[0].keyword or not given[0].batched:
        raise InputError(f"{network.name} takes one --input of extents alone, such as {_extents(first)}")
    if len(given[0].shape) != len(first.shape):
        raise InputError(
            f"--input {inputs[0]} has {len(given[0].shape) - 1} extents; {network.name} takes {len(first.shape) - 1}, "
            f"without the batch, such as {_extents(first)}"
        )
    return given


def _rewritten(target: Target, rewrites: Sequence[str]) -> Target:
    """The target's network rewritten on its input, without the entry or module it came from."""
    from archcalc import rewrite

    network, arguments = target.network, target.arguments
    if target.shape is not None:
        network = rewrite.on_input(network, target.shape)
    for text in rewrites:
        network = rewrite.apply(network, text)
    if target.shape is not None:
        arguments = (replace(arguments[0], shape=network.input_nodes[0].layer.output()),)
    return Target(network, arguments)


def _traced(path: str, settings: Mapping[str, str], arguments: tuple[Argument, ...]) -> Target:
    """The module of this name, traced where extents are numbers; letters are put in afterwards."""
    keywords = [argument.keyword for argument in arguments if argument.keyword]
    if len(set(keywords)) < len(keywords):
        raise InputError(f"--input gives {max(keywords, key=keywords.count)} more than once")
    if "name" in keywords:
        raise InputError("an argument called name cannot be given on the command line")
    letters = [extent for argument in arguments for extent in argument.shape if type(extent) is not int]
    if letters and len(arguments) > 1:
        raise InputError(
            f"{letters[0]} is a letter: torch:{path} has {len(arguments)} inputs, whose extents are numbers"
        )
    with redirect_stdout(sys.stderr):
        name, make = torch_part("load").load(path, settings)
    return _trace(name, make, arguments)


def _trace(name: str, make: Callable[[], Any], arguments: tuple[Argument, ...], dtype: str | None = None) -> Target:
    """The module that is made, traced on these arguments, in another type than its own where one is given."""
    load = torch_part("load")
    with redirect_stdout(sys.stderr):  # what a module prints is not part of the report
        args, kwargs = load.to_trace([replace(argument, shape=_whole(argument.shape)) for argument in arguments])
        module = load.without_data(make)
        module = module if dtype is None else load.copy_of_type(module, dtype)
        network = torch_part("trace").trace(module, args, name=name, **kwargs)
    return Target(network, arguments, make=make)


def _whole(shape: Shape) -> Shape:
    """The shape with usual extents for its letters."""
    usual = (1, 3, 224, 224, *[224] * len(shape))
    return tuple(extent if type(extent) is int else known for extent, known in zip(shape, usual, strict=False))


def torch_part(module: str) -> Any:
    """A module of archcalc.pytorch. Raises MissingPackageError where there is no PyTorch."""
    try:
        return import_module(f"archcalc.pytorch.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("torch", "torchvision"):
            raise
        raise MissingPackageError(f'this needs {error.name}: pip install "archcalc[torch]"') from error


def parse_batch(text: str) -> int | str:
    """A batch size as typed: "8", "N". Raises InputError."""
    extent = _extent(text)
    if extent is None:
        raise InputError(
            f"cannot read --batch {shorten(text)}: it must be a positive whole number, or a letter, such as 8 or N"
        )
    return extent


def parse_argument(text: str, batch: int | str) -> Argument:
    """An argument as typed, `[keyword=]extents[:dtype][:nobatch]`, the batch put in front. Raises InputError.

    >>> parse_argument("mask=128:bool", 8)
    Argument(shape=(8, 128), dtype='bool', keyword='mask', batched=True)
    """
    keyword, equals, rest = text.rpartition("=")
    if equals and not keyword.isidentifier():
        raise InputError(f"cannot read --input {shorten(text)}: {shorten(keyword)} is not the name of an argument")
    size, *words = rest.split(":")
    dtypes = [word for word in words if word != "nobatch"]
    for word in dtypes:
        if word not in DTYPES:
            raise unknown("dtype", word, DTYPES)
    if len(dtypes) > 1 or len(words) - len(dtypes) > 1:
        raise InputError(f"cannot read --input {shorten(text)}: after the extents come one dtype and nobatch at most")
    batched = words == dtypes
    if words and not size:
        vector = f"{keyword}{equals}3:{(*dtypes, 'float32')[0]}:nobatch"
        raise InputError(
            f"cannot read --input {shorten(text)}: it has no extents; one number for each of 3 is {vector}"
        )
    extents = parse_extents(size)
    return Argument((batch, *extents) if batched else extents, next(iter(dtypes), None), keyword or None, batched)


def parse_extents(text: str) -> tuple[int | str, ...]:
    """Extents as typed, without the batch: "3x224x224", "3xHxW", "784". Raises InputError.

    >>> parse_extents("3xHxW")
    (3, 'H', 'W')
    """
    extents = []
    for part in text.replace("×", "x").replace(",", "x").split("x"):
        extent = _extent(part)
        if extent is None:
            raise InputError(
                f"cannot read --input {shorten(text)}: extents are positive whole numbers or letters joined by x, "
                "without the batch, such as 3x224x224 or 3xHxW"
            )
        extents.append(extent)
    return tuple(extents)


def _extents(argument: Argument) -> str:
    return "x".join(map(str, argument.shape[1:]))


def _extent(text: str) -> int | str | None:
    """One extent as typed; None where it is none, or longer than any that means something."""
    text = text.strip()
    if not text.isascii() or len(text) > MOST_DIGITS:
        return None
    if text.isdigit():
        return int(text) or None
    return text if text.isidentifier() else None


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--set takes key=value, such as bias=false, not {text!r}")
    return key.strip().replace("-", "_"), value.strip()
