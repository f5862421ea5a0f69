"""Options that several commands take, each written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer

from archcalc.conventions import CONVENTIONS
from archcalc.targets import Target, resolve, resolve_all

TARGETS = (
    "of the zoo (`archcalc list`), a spec file (net.yaml), or torch:package.module:callable; "
    "perhaps rewritten: vgg19+depthwise-separable."
)

ConventionOption = Annotated[
    str,
    typer.Option("--convention", metavar="NAME", help=f"What the cost column counts: {', '.join(CONVENTIONS)}."),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda", help="Where to run; auto is every device present.")
]


@dataclass(frozen=True, kw_only=True)
class _Given:
    """What a network is made with and given."""

    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A choice of the network, such as bias=false; of several networks, those that have it take it.",
        ),
    ] = field(default_factory=list)
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            metavar="CxHxW",
            help="Input without the batch, which is put in front: 3x224x224, or letters: 3xHxW. For torch: targets "
            "also [name=]EXTENTS[:dtype][:nobatch], one for each argument: ids=128:int64.",
        ),
    ] = field(default_factory=list)
    batch: Annotated[str | None, typer.Option("--batch", metavar="N", help="Batch size, or a letter.")] = None


@dataclass(frozen=True, kw_only=True)
class OneTarget(_Given):
    """TARGET and what it is made with."""

    target: Annotated[str, typer.Argument(metavar="TARGET", help=f"A network {TARGETS}")]

    def resolve(self) -> Target:
        """The network. Raises ArchcalcError."""
        return resolve(self.target, self.settings, self.inputs, self.batch)


@dataclass(frozen=True, kw_only=True)
class Targets(_Given):
    """TARGET... and what each of them is made with."""

    targets: Annotated[list[str], typer.Argument(metavar="TARGET...", help=f"Networks {TARGETS}")]

    def resolve(self) -> list[Target]:
        """The networks. Raises ArchcalcError."""
        return resolve_all(self.targets, self.settings, self.inputs, self.batch)


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer takes it: a parameter that is a dataclass becomes one parameter for each of its fields."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    shown = [
        one
        for parameter in inspect.signature(command).parameters.values()
        for one in (
            _fields(groups[parameter.name])
            if parameter.name in groups
            else [parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY)]
        )
    ]

    def flattened(**values: Any) -> None:
        made = {name: kind(**{f.name: values.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
        command(**made, **values)

    flattened.__name__, flattened.__doc__ = command.__name__, command.__doc__
    flattened.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    vars(flattened)["__signature__"] = inspect.Signature(shown)
    return flattened


def _fields(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for one in fields(group):
        default = one.default if one.default_factory is MISSING else one.default_factory()
        yield inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if default is MISSING else default,
            annotation=hints[one.name],
        )
