"""What the page about spec files calls: commands on the files that are written on the page."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import _cog

from archcalc.cli import main

__all__ = ["spec_error", "spec_run", "spec_source"]

FENCE = re.compile(r"^```yaml\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def spec_run(*commands: str) -> None:
    """The commands and what they print, run beside the files written on the page above."""
    with _files():
        _cog.run(*commands)


def spec_source(command: str, *, start: str, end: str = "") -> None:
    """The command, and of the Python that it prints the part from one line to before another."""
    with _files():
        lines = _cog.call(command).splitlines()
    first = lines.index(start)
    last = lines.index(end, first) if end else len(lines)
    print(f"```console\n$ archcalc {command}\n...\n" + "\n".join(lines[first:last]).rstrip() + "\n...\n```")


def spec_error(command: str) -> None:
    """The command and the message with which it ends."""
    out, error = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    status: object = 0
    with _files(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            main(shlex.split(command))
        except SystemExit as end:
            status = end.code
    if status != 2:
        raise RuntimeError(f"archcalc {command} ends with {status}, not with 2")
    print(f"```console\n$ archcalc {command}\n{error.getvalue()}```")


@contextlib.contextmanager
def _files() -> Any:
    """A folder to work in that has the page's files; of two with one name the one just above."""
    cog: Any = import_module("cog")
    page = (_cog.ROOT / cog.inFile).read_text(encoding="utf-8")
    above = "".join(page.splitlines(keepends=True)[: cog.firstLineNum])
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, text in FENCE.findall(above):
            Path(name).write_text(f"# {name}\n{text}", encoding="utf-8")
        yield
