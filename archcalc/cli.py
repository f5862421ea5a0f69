"""The command line: reads targets and options, prints what the library says. No arithmetic here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from errno import EACCES, EISDIR
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import archcalc
from archcalc.columns import names as column_names
from archcalc.conventions import CONVENTIONS
from archcalc.errors import ArchcalcError, InputError
from archcalc.targets import resolve, torch_part

if TYPE_CHECKING:
    from archcalc.table import Table

app = typer.Typer(
    help="What every layer of a neural network costs, with the arithmetic shown and checked against PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Format(StrEnum):
    """How a result is written."""

    table = "table"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"
    html = "html"


TARGETS = "of the zoo (`archcalc list`), or torch:package.module:callable."
TargetArgument = Annotated[str, typer.Argument(metavar="TARGET", help=f"A network {TARGETS}")]
TargetsArgument = Annotated[list[str], typer.Argument(metavar="TARGET...", help=f"Networks {TARGETS}")]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="A choice of the network, such as bias=false.")
]
InputOption = Annotated[
    str | None, typer.Option("--input", metavar="CxHxW", help="Input without the batch: 3x224x224, or letters: 3xHxW.")
]
BatchOption = Annotated[str | None, typer.Option("--batch", metavar="N", help="Batch size, or a letter.")]
ConventionOption = Annotated[
    str,
    typer.Option("--convention", metavar="NAME", help=f"What the cost column counts: {', '.join(CONVENTIONS)}."),
]
FormatOption = Annotated[Format, typer.Option("--format", help="How to write the result.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", readable=False, help="Write to a file instead.")
]
AsciiOption = Annotated[
    bool | None,
    typer.Option("--ascii/--unicode", help="Characters of tables; plain ASCII where the output is not a terminal."),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda", help="Where to run; auto is every device present.")
]


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"archcalc {archcalc.__version__}")
        raise typer.Exit


@app.command("list")
def list_networks(format: FormatOption = Format.table, output: OutputOption = None, ascii: AsciiOption = None) -> None:
    """List the networks of the zoo with their parameters, MACs and choices."""
    from archcalc.catalogue import catalogue, catalogue_record

    _write(format, output, ascii, catalogue, catalogue_record)


@app.command()
def show(
    target: TargetArgument,
    settings: SetOption = [],  # noqa: B006 - typer reads the default, nobody changes it
    input: InputOption = None,
    batch: BatchOption = None,
    columns: Annotated[
        str | None, typer.Option(metavar="NAME,...", help=f"Columns, of these: {', '.join(column_names())}.")
    ] = None,
    layers: Annotated[str | None, typer.Option(metavar="REGEX", help="Only layers whose names match.")] = None,
    depth: Annotated[int | None, typer.Option(metavar="N", help="Fold rows by block, N levels deep.")] = None,
    working: Annotated[bool, typer.Option("--working", help="Fill the cells with their arithmetic.")] = False,
    all_rows: Annotated[bool, typer.Option("--all", help="Show also layers that are 0 in every column.")] = False,
    convention: ConventionOption = "mac",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if an operation is uncounted.")] = False,
    format: FormatOption = Format.table,
    output: OutputOption = None,
    ascii: AsciiOption = None,
) -> None:
    """Show what every layer costs: activations, parameters, multiply-accumulates."""
    from archcalc.records import report_record

    report = resolve(target, settings, input, batch).report()

    def table() -> Table:
        chosen = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
        return report.table(
            chosen,
            working=working,
            layers=layers,
            depth=depth,
            convention=convention,
            all_rows=all_rows or format is Format.csv,
        )

    _write(format, output, ascii, table, lambda: report_record(report, convention, layers))
    if strict and report.uncounted:
        raise typer.Exit(1)


@app.command()
def explain(
    target: TargetArgument,
    layer: Annotated[str | None, typer.Argument(metavar="LAYER", help="One layer; all of them by default.")] = None,
    settings: SetOption = [],  # noqa: B006
    input: InputOption = None,
    batch: BatchOption = None,
    format: Annotated[Format | None, typer.Option(help="How to write it; plain text by default.")] = None,
    output: OutputOption = None,
    ascii: AsciiOption = False,
) -> None:
    """Show the calculation behind every number, in numbers and in letters, and the sums."""
    from archcalc import units
    from archcalc.explain import explanation, explanation_table
    from archcalc.records import explanation_record

    report = resolve(target, settings, input, batch).report()
    if format is None:
        text = explanation(report, layer)
        _deliver(units.ascii(text) if ascii else text, output)
        return
    _write(
        format,
        output,
        ascii,
        lambda: explanation_table(report, layer),
        lambda: explanation_record(report, layer),
    )


@app.command()
def compare(
    targets: TargetsArgument,
    settings: SetOption = [],  # noqa: B006
    input: InputOption = None,
    batch: BatchOption = None,
    convention: ConventionOption = "mac",
    format: FormatOption = Format.table,
    output: OutputOption = None,
    ascii: AsciiOption = None,
) -> None:
    """Put networks side by side, with ratios and savings against the first."""
    from archcalc.compare import compare as compare_reports
    from archcalc.compare import comparison_record

    reports = [resolve(target, settings, input, batch).report() for target in targets]
    _write(
        format,
        output,
        ascii,
        lambda: compare_reports(reports, convention),
        lambda: comparison_record(reports, convention),
    )


@app.command()
def check(
    targets: TargetsArgument,
    settings: SetOption = [],  # noqa: B006
    input: InputOption = None,
    batch: BatchOption = None,
    device: DeviceOption = "auto",
    format: FormatOption = Format.table,
    output: OutputOption = None,
    ascii: AsciiOption = None,
) -> None:
    """Check every number against real PyTorch modules and three other counters; exit with 1 on any difference."""
    chosen = [resolve(target, settings, input, batch) for target in targets]
    devices = torch_part("devices").resolve(device)
    crosscheck = torch_part("crosscheck")
    reports = []
    with _progress() as advance:
        for target, place in product(chosen, devices):
            report = crosscheck.check(
                target.network,
                entry=target.entry,
                choices=target.choices,
                make=target.make,
                shape=target.shape,
                device=place,
                progress=advance,
            )
            reports.append(report)
    _write_all(format, output, ascii, [report.table for report in reports], [report.to_dict for report in reports])
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


@app.command()
def time(
    targets: TargetsArgument,
    settings: SetOption = [],  # noqa: B006
    input: InputOption = None,
    batch: BatchOption = None,
    device: DeviceOption = "auto",
    dtype: Annotated[str, typer.Option(metavar="NAME", help="float32, float16, bfloat16 or float64.")] = "float32",
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Channels-last memory format.")] = False,
    threads: Annotated[int | None, typer.Option(metavar="N", help="CPU threads; PyTorch's own choice.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Time per layer, beside its MACs.")] = False,
    seconds: Annotated[float, typer.Option(metavar="S", help="Least time to measure each network.")] = 1.0,
    format: FormatOption = Format.table,
    output: OutputOption = None,
    ascii: AsciiOption = None,
) -> None:
    """Time real forward passes: median, interquartile range, images/s, achieved GMAC/s."""
    chosen = [resolve(target, settings, input, batch) for target in targets]
    devices = torch_part("devices").resolve(device)
    stopwatch = torch_part("stopwatch")
    results = []
    with _progress() as advance:
        for target, place in product(chosen, devices):
            advance(f"{target.network.name} on {place}")
            result = stopwatch.time_network(
                target.network,
                target.shape,
                make=target.make,
                device=place,
                dtype=dtype,
                channels_last=channels_last,
                threads=threads,
                layers=layers,
                seconds=seconds,
            )
            results.append(result)
    tables = [lambda: stopwatch.summary(results), *([result.layer_table for result in results] if layers else [])]
    if output is not None and format is Format.table:
        format = Format.json
    _write_all(format, output, ascii, tables, [result.to_dict for result in results])


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A progress bar on standard error where that is a terminal; called with the step under way."""
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from archcalc.table import progress

    with progress() as bar:
        task = bar.add_task("", total=None)
        yield lambda step: bar.update(task, description=step)


def _write(
    format: Format,
    output: Path | None,
    ascii: bool | None,
    table: Callable[[], Table],
    record: Callable[[], dict[str, Any]],
) -> None:
    """Render one table, or its record as JSON, and deliver it."""
    if format is Format.json:
        _deliver(_json(record(), output), output)
    else:
        _deliver(_rendered(table(), format, output, ascii), output)


def _write_all(
    format: Format,
    output: Path | None,
    ascii: bool | None,
    tables: Sequence[Callable[[], Table]],
    records: Sequence[Callable[[], dict[str, Any]]],
) -> None:
    """Render several tables one after the other, or their records as one JSON list."""
    if format is Format.json:
        _deliver(_json([record() for record in records], output), output)
    else:
        _deliver("\n".join(_rendered(table(), format, output, ascii) for table in tables), output)


def _json(data: object, output: Path | None) -> str:
    text = json.dumps(data, ensure_ascii=False, indent=1) + "\n"
    return text if output is not None or _printable(text) else json.dumps(data, indent=1) + "\n"


def _printable(text: str) -> bool:
    """Whether the encoding of standard output has all characters of the text."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _rendered(table: Table, format: Format, output: Path | None, ascii: bool | None) -> str:
    terminal = output is None and sys.stdout.isatty()
    plain = (not terminal and format is Format.table) if ascii is None else ascii
    width = os.get_terminal_size().columns if terminal else None
    return table.render(format.value, ascii=plain, width=width, color=terminal and not os.environ.get("NO_COLOR"))


def _deliver(text: str, output: Path | None) -> None:
    """Print the text, or put it into a file as a whole or not at all. Raises InputError."""
    if output is None:
        _print(text)
        return
    try:
        _save(text, output)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from None


def _print(text: str) -> None:
    """Print the text, transliterated where the encoding of standard output lacks a character of it."""
    if not _printable(text):
        from archcalc import units

        text = units.ascii(text)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
        if isinstance(error, BrokenPipeError):  # whoever read it, such as head, has seen enough
            return
        raise InputError(f"cannot write to standard output: {error.strerror}") from None


def _save(text: str, output: Path) -> None:
    """Put the text into a file that appears, or changes, only once it is complete. Raises OSError."""
    place = Path(os.path.realpath(output))  # what a link leads to, not the link, is replaced
    if place.is_dir():
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
    if place.exists() and not os.access(place, os.W_OK):
        raise PermissionError(EACCES, os.strerror(EACCES))
    if output.exists() and not output.is_file():  # a device or a pipe
        output.write_text(text, encoding="utf-8")
        return
    draft = place.with_name(f".archcalc-{os.getpid()}")
    file = draft.open("x", encoding="utf-8")
    try:
        with file:
            file.write(text)
        if place.exists():
            draft.chmod(place.stat().st_mode & 0o7777)
        draft.replace(place)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _name(command: Any) -> str:
    return str(command.name or command.callback.__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of archcalc's own end with their message on standard error and status 2."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    known = app.registered_commands
    asked = [command for command in known if arguments[:1] == [_name(command)]]
    try:
        if sys.stdout is None:
            raise InputError("standard output is closed")
        app.registered_commands = asked or known  # typer prepares every command it is given, which takes its time
        app(args=arguments, prog_name="archcalc")
    except ArchcalcError as error:
        print(f"archcalc: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        app.registered_commands = known


if __name__ == "__main__":
    main()
