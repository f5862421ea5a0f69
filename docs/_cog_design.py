"""Cog blocks about the design: the modules of the package, in their own words."""

from __future__ import annotations

import ast
from pathlib import Path
from textwrap import fill

__all__ = ["modules"]

_ROOT = Path(__file__).resolve().parent.parent / "archcalc"


def modules() -> None:
    """Every module and every folder with its files, and what they say they are."""
    files = sorted(path for path in _ROOT.glob("*.py") if not path.name.startswith("__"))
    folders = sorted(path.parent for path in _ROOT.rglob("*/__init__.py"))
    lines = [f"- `{path.name}`: {_says(path)}" for path in files]
    lines += [f"- `{folder.relative_to(_ROOT).as_posix()}/`: {_inside(folder)}" for folder in folders]
    print(*(fill(line, 120, subsequent_indent="  ", break_on_hyphens=False) for line in lines), sep="\n")


def _inside(folder: Path) -> str:
    names = sorted(path.stem for path in folder.glob("*.py") if not path.name.startswith("__"))
    return f"{_says(folder / '__init__.py')} Files: {', '.join(names)}."


def _says(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].replace("`", "")
