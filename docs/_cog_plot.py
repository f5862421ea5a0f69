"""Cog blocks of the page on plots: pictures beside the page, and what can be drawn."""

from __future__ import annotations

import re
import shlex
import sys
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory

from archcalc.cli import main
from archcalc.columns import names
from archcalc.plots.numbers import QUANTITIES

__all__ = ["drawing", "quantities"]

_PICTURES = Path(__file__).parent / "plots"
_WORDS = re.compile(r"<text[^>]*>([^<]*)</text>")


def drawing(command: str, file: str, about: str) -> None:
    """The command, and the picture it draws. `cog -r` draws it anew.

    Otherwise the words of the picture that is kept, which hold the number of every bar, are compared with those drawn
    now; of another version of matplotlib the bytes may differ. Raises RuntimeError where words differ.
    """
    kept = _PICTURES / file
    with TemporaryDirectory() as folder:
        drawn = Path(folder) / file
        _run([*shlex.split(command), "--output", str(drawn)])
        content = drawn.read_bytes()
    if "-r" in sys.argv:
        kept.write_bytes(content)
    elif not kept.exists() or _words(kept.read_bytes()) != _words(content):
        raise RuntimeError(f"docs/plots/{file} is not what archcalc {command} draws now; run 'make docs'")
    print(f"```sh\narchcalc {command} --output {file}\n```\n\n![{about}](plots/{file})")


def quantities() -> None:
    """What --quantities takes, with the meaning of each."""
    meanings = names() | {"time": "median of forward passes, measured: --time FILE"}
    print("| quantity | means |\n| :-- | :-- |")
    for name in QUANTITIES:
        print(f"| `{name}` | {meanings[name]} |")


def _words(svg: bytes) -> list[str]:
    return [unescape(word) for word in _WORDS.findall(svg.decode())]


def _run(arguments: list[str]) -> None:
    """Run a command of archcalc in this process. Raises RuntimeError where it fails."""
    try:
        main(arguments)
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"archcalc {shlex.join(arguments)} ends with {end.code}") from None
