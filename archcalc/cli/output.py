"""Where results go: standard output or a file, as a table or a record, in the characters that fit there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from errno import EACCES, EISDIR
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archcalc.errors import InputError

if TYPE_CHECKING:
    from archcalc.table import Table


class Format(StrEnum):
    """How a result is written."""

    table = "table"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"
    html = "html"


ENDINGS = {
    ".md": Format.markdown,
    ".tex": Format.latex,
    ".csv": Format.csv,
    ".json": Format.json,
    ".html": Format.html,
}
"""What a file is by the ending of its name."""


def format_of(asked: Format | None, file: Path | None) -> Format | None:
    """The format asked for, or else that of the file by its ending."""
    return asked or (ENDINGS.get(file.suffix.lower()) if file else None)


FileOption = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", readable=False, help="Write to a file instead.")
]
AsciiOption = Annotated[
    bool | None,
    typer.Option("--ascii/--unicode", help="Characters of tables; plain ASCII where the output is not a terminal."),
]


@dataclass(frozen=True, kw_only=True)
class Output:
    """How and where a command writes its result."""

    asked: Annotated[
        Format | None,
        typer.Option("--format", help="How to write the result; by default as the file's name ends, or as a table."),
    ] = None
    file: FileOption = None
    ascii: AsciiOption = None

    @property
    def format(self) -> Format:
        """How the result is written."""
        return format_of(self.asked, self.file) or Format.table

    def write(self, table: Callable[[], Table], record: Callable[[], dict[str, Any]]) -> None:
        """Write one table, or its record as JSON; only what the format asks for is made. Raises InputError."""
        self._write(lambda: self._rendered(table()), record)

    def write_all(self, tables: Sequence[Callable[[], Table]], records: Sequence[Callable[[], dict[str, Any]]]) -> None:
        """Write several tables one after the other, or their records as one JSON list. Raises InputError."""
        self._write(lambda: self._rendered_all([table() for table in tables]), lambda: [record() for record in records])

    def _write(self, text: Callable[[], str], data: Callable[[], object]) -> None:
        deliver(_json(data(), self.file) if self.format is Format.json else text(), self.file)

    def _rendered_all(self, tables: Sequence[Table]) -> str:
        if self.format is not Format.latex:
            return "\n".join(map(self._rendered, tables))
        from archcalc.table import latex_document

        return latex_document(tables)

    def _rendered(self, table: Table) -> str:
        terminal = self.file is None and sys.stdout.isatty()
        plain = (not terminal and self.format is Format.table) if self.ascii is None else self.ascii
        width = os.get_terminal_size().columns if terminal else None
        color = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return table.render(self.format.value, ascii=plain, width=width, color=color)


@contextmanager
def progress(*, ticking: bool = True) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error where that is a terminal; called with the step under way.

    After the step may come the part of all work that is done, from 0 to 1, and the bar then shows the time left. It
    is redrawn all the time, or, where that would disturb what is measured, when it is called only. What modules print
    meanwhile goes to standard error too.
    """
    with redirect_stdout(sys.stderr):
        if not sys.stderr.isatty():
            yield lambda step, share=None: None
            return
        from archcalc import table

        with table.progress(ticking=ticking) as bar:
            task = bar.add_task("", total=None)
            drawn = 0.0

            def show(step: str, share: float | None = None) -> None:
                nonlocal drawn
                known = {} if share is None else {"total": 1.0, "completed": share}
                now = monotonic()
                due = not ticking and now - drawn > _REDRAWN
                drawn = now if due else drawn
                bar.update(task, description=step, refresh=due, **known)

            yield show


_REDRAWN = 0.2
"""Seconds between drawings of a bar that does not tick."""


def deliver(text: str, file: Path | None) -> None:
    """Print the text, or put it into a file as a whole or not at all. Raises InputError."""
    if file is None:
        _print(text)
    else:
        deliver_bytes(text.encode(), file)


def deliver_bytes(content: bytes, file: Path) -> None:
    """Put bytes into a file as a whole or not at all. Raises InputError."""
    try:
        _save(content, file)
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror}") from None


def _json(data: object, file: Path | None) -> str:
    text = json.dumps(data, ensure_ascii=False, indent=1) + "\n"
    return text if file is not None or _printable(text) else json.dumps(data, indent=1) + "\n"


def _printable(text: str) -> bool:
    """Whether the encoding of standard output has all characters of the text."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


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


def _save(content: bytes, output: Path) -> None:
    """Put the content into a file that appears, or changes, only once it is complete. Raises OSError."""
    place = Path(os.path.realpath(output))  # what a link leads to, not the link, is replaced
    if place.is_dir():
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
    if place.exists() and not os.access(place, os.W_OK):
        raise PermissionError(EACCES, os.strerror(EACCES))
    if output.exists() and not output.is_file():  # a device or a pipe
        output.write_bytes(content)
        return
    draft = place.with_name(f".archcalc-{os.getpid()}")
    file = draft.open("xb")
    try:
        with file:
            file.write(content)
        if place.exists():
            draft.chmod(place.stat().st_mode & 0o7777)
        draft.replace(place)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
