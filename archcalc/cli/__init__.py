"""The command line: reads targets and options, prints what the library says. No arithmetic here.

A command is the function in the module of the same name that COMMANDS gives for it, such as `show` in `show.py`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cache, wraps
from importlib import import_module
from typing import Annotated, Any

import typer

import archcalc
from archcalc.cli.options import flat
from archcalc.errors import ArchcalcError, InputError

COMMANDS = {
    "list": "listing",
    "show": "show",
    "explain": "explain",
    "receptive": "receptive",
    "memory": "memory",
    "compare": "compare",
    "plot": "plot",
    "code": "code",
    "export": "export",
    "published": "published",
    "check": "check",
    "why": "why",
    "time": "timing",
    "roofline": "roofline",
    "forecast": "forecast",
}
"""Every command and its module, in the order of the help; a module is imported when its command is asked for."""


def app(commands: Iterable[str] = tuple(COMMANDS)) -> typer.Typer:
    """The application with these commands: typer prepares every command it is given, which takes its time."""
    made = typer.Typer(
        help="What every layer of a neural network costs, with the arithmetic shown and checked against PyTorch.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback(invoke_without_command=True)(_options)
    for name in commands:
        module = COMMANDS[name]
        made.command(name)(_interruptible(flat(getattr(import_module(f"archcalc.cli.{module}"), module))))
    return made


def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"archcalc {archcalc.__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of archcalc's own end with their message on standard error and status 2."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    asked = [name for name in arguments[:1] if name in COMMANDS]
    try:
        if sys.stdout is None:
            raise InputError("standard output is closed")
        with warnings.catch_warnings():
            said = cache(_warn)
            warnings.showwarning = lambda message, *_, **__: said(str(message))
            app(asked or COMMANDS)(args=arguments, prog_name="archcalc")
    except ArchcalcError as error:
        print(f"archcalc: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        sys.exit(130)


STOPPED = "archcalc: stopped"


def _interruptible(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which ends with one line and status 130 where it is interrupted: typer would end with 1."""

    @wraps(command)
    def run(**values: Any) -> None:
        try:
            command(**values)
        except KeyboardInterrupt:
            print(STOPPED, file=sys.stderr)
            raise typer.Exit(130) from None

    return run


def _warn(message: str) -> None:
    print(f"archcalc: warning: {message}", file=sys.stderr)
