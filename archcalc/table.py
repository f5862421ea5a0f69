"""One table, every output format: terminal, Markdown, LaTeX, CSV and HTML; the only importer of rich."""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from archcalc import units
from archcalc.errors import InputError, UnknownNameError

FORMATS = ("table", "markdown", "latex", "csv", "html")

_A4, _A4_LANDSCAPE = 475, 722  # line lengths in pt between margins of 2 cm, a little to spare
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST_UNBROKEN = 40
_MARKDOWN = re.compile(r"[\\|*`<\[\]]|(?<![^\W_])_|_(?![^\W_])")
_NOT_TEX = re.compile(r"[^ -~À-ÏÑ-ÖØ-Ýß-ïñ-öø-ýÿ]")
_TEX_MATH = (
    r"\cdot \times \div - \pm \mu \mu \lfloor \rfloor \lceil \rceil \to \infty \leq \geq \neq \approx \partial | < >"
)
_TEX = str.maketrans(
    {char: f"${tex}$" for char, tex in zip("·×÷−±µμ⌊⌋⌈⌉→∞≤≥≠≈∂|<>", _TEX_MATH.split(), strict=True)}
    | {char: f"\\{char}" for char in "&%$#_{}"}
    | {char: f"{{{char}}}" for char in "*["}  # a bare one that opens a row would belong to the \\ that closed the last
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}"}
    | {"…": r"\ldots{}", "–": r"\textendash{}", "—": r"\textemdash{}", '"': "''"}
)
_TEX_DIGITS = {r"\normalsize": 5.0, r"\small": 4.63, r"\footnotesize": 4.25, r"\scriptsize": 3.99}  # widths in pt
_TEX_PACKAGES = r"\usepackage{amsmath,array,booktabs,longtable}"
_TEX_RAGGED = {"left": r"\raggedright", "right": r"\raggedleft"}

T = TypeVar("T")


def progress(*, ticking: bool = True) -> Any:
    """A rich progress bar with the time it has taken and, where that is known, what is left; gone when it stops.

    It is on standard error, and redrawn by a thread of its own, or when it is told only.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(bar_width=20), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=ticking)


@runtime_checkable
class Formula(Protocol):
    """A cell that knows how to write itself."""

    def text(self) -> str:
        """Write it for people to read."""

    def latex(self) -> str:
        """Write it as LaTeX, to be put between dollar signs."""


Cell: TypeAlias = object
"""An int, float, str, None (blank), `Formula`, or a SymPy or NumPy number."""


@dataclass(frozen=True)
class Column:
    """A column's header and the side its cells keep to."""

    header: str
    align: Literal["left", "right"] = "right"


@dataclass(frozen=True)
class Table:
    """Rows of cells under headers, with a title, a total and notes where there are any.

    >>> table = Table("", (Column("layer", "left"), Column("weights")), (("conv1_1", 1728), ("conv1_2", 36864)))
    >>> print(table.to_markdown(), end="")
    | layer   | weights |
    | :------ | ------: |
    | conv1_1 |   1,728 |
    | conv1_2 |  36,864 |
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: tuple[Cell, ...] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for i, row in enumerate(self._body, 1):
            if len(row) != len(self.columns):
                label = f"row {i}" if i <= len(self.rows) else "the total"
                raise InputError(f"table {self.title!r}: {label} has {len(row)} cells for {len(self.columns)} columns")

    def render(self, format: str, *, ascii: bool = False, width: int | None = None, color: bool = False) -> str:
        """Write the table in one of `FORMATS`; width and color matter to the terminal only."""
        match format:
            case "table":
                return self.to_terminal(ascii=ascii, width=width, color=color)
            case "markdown":
                return self.to_markdown(ascii=ascii)
            case "latex":
                return units.ascii(self.to_latex()) if ascii else self.to_latex()
            case "csv":
                return self.to_csv()
            case "html":
                return self.to_html().encode("ascii", "xmlcharrefreplace").decode() if ascii else self.to_html()
        raise UnknownNameError(f"unknown format {format!r}: choose one of {', '.join(FORMATS)}")

    def to_terminal(self, *, ascii: bool = False, width: int | None = None, color: bool = False) -> str:
        """Write for a terminal: words fold to fit the width, numbers never do, and nothing is cut.

        Without a width nothing folds, and rich, which takes longer to import than most tables to compute, stays away.
        """
        if width is None and not (color and not ascii):
            return self._plain(ascii)
        from rich.box import ASCII2, SQUARE
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        def write(cell: Cell) -> Text:
            return Text(units.ascii(_text(cell)) if ascii else _text(cell))

        grid = self._grid(write)
        natural, least = self._widths(lambda text: write(text).cell_len)
        rules = 3 * (len(self.columns) - 1)
        fitted = _fit(natural, least, width - rules) if width else natural
        table = RichTable(box=ASCII2 if ascii else SQUARE, show_edge=False, pad_edge=False, header_style="bold")
        for column, header, size in zip(self.columns, grid[0], fitted, strict=True):
            table.add_column(header, justify=column.align, width=size, overflow="fold")
        for i, row in enumerate(grid[1:]):
            if i == len(self.rows):
                table.add_section()
            table.add_row(*row, style="bold" if i == len(self.rows) else None)
        title, *notes = map(write, (self.title, *self.notes))
        title.stylize("bold")
        color = color and not ascii
        console = Console(
            file=io.StringIO(),
            width=max(sum(fitted) + rules, width or max(text.cell_len for text in (title, *notes)), 1),
            color_system="standard" if color else None,
            force_terminal=color,
            no_color=not color,
        )
        with console.capture() as capture:
            for part in (title if self.title else None, table, Text() if notes else None, *notes):
                if part is not None:
                    console.print(part)
        return re.sub(r" +$", "", capture.get(), flags=re.MULTILINE)

    def _plain(self, ascii: bool) -> str:
        def write(cell: Cell) -> str:
            return units.ascii(_text(cell)) if ascii else _text(cell)

        bar, rule, cross = ("|", "-", "+") if ascii else ("│", "─", "┼")
        grid = self._grid(write)
        sizes = [max(1, *map(_cells, cells)) for cells in zip(*grid, strict=True)]
        right = [column.align == "right" for column in self.columns]
        lines = [f" {bar} ".join(map(_pad, row, sizes, right)) for row in grid]
        line = f"{rule}{cross}{rule}".join(rule * size for size in sizes)
        rules = [1, len(self.rows) + 1] if self.total is not None else [1]
        for place in reversed(rules):
            lines.insert(place, line)
        title = [write(self.title)] if self.title else []
        notes = ["", *map(write, self.notes)] if self.notes else []
        return "\n".join([line.rstrip(" ") for line in (*title, *lines, *notes, "")])

    def to_markdown(self, *, ascii: bool = False) -> str:
        """Write a GitHub table whose source is aligned too."""

        def write(cell: Cell) -> str:
            text = units.ascii(_text(cell)) if ascii else _text(cell)
            return _MARKDOWN.sub(r"\\\g<0>", text).strip()

        header, *body = self._grid(write)
        if self.total is not None:
            body[-1] = [text and f"**{text}**" for text in body[-1]]
        sizes = [max(3, *map(_cells, cells)) for cells in zip(header, *body, strict=True)]
        right = [column.align == "right" for column in self.columns]
        rule = ["-" * (size - 1) + ":" if r else ":" + "-" * (size - 1) for size, r in zip(sizes, right, strict=True)]
        lines = [f"| {' | '.join(map(_pad, row, sizes, right))} |" for row in (header, rule, *body)]
        title = [f"**{write(self.title)}**", ""] if self.title else []
        notes = [line for note in self.notes for line in ("", write(note))]
        return "\n".join([*title, *lines, *notes, ""])

    def to_latex(self, *, document: bool = True) -> str:
        """Write a longtable with booktabs rules, in a document that compiles or alone for a document of one's own."""
        if document:
            return latex_document((self,))
        size, _, width = self._tex_layout()
        return "\n".join(
            [f"% needs {_TEX_PACKAGES}", f"% at {size} it is about {width}pt wide", *self._tex_lines(), ""]
        )

    def _tex_lines(self) -> list[str]:
        _, spec, _ = self._tex_layout()
        header, *body = (rf"{' & '.join(row)} \\" for row in self._grid(_tex))
        if self.total is not None:
            bold = (text and rf"{{\bfseries\boldmath {text}}}" for text in map(_tex, self.total))
            body[-1:] = [r"\midrule", rf"{' & '.join(bold)} \\"]
        return [
            rf"\begin{{longtable}}{{{spec}}}",
            *([rf"\caption{{{_tex(self.title)}}}\\"] if self.title else []),
            *(r"\toprule", header, r"\midrule", r"\endfirsthead"),
            *(r"\toprule", header, r"\midrule", r"\endhead"),
            *(r"\bottomrule", r"\endfoot"),
            *body,
            r"\end{longtable}",
            *(rf"{{\centering\footnotesize {_tex(note)}\par}}" for note in self.notes),
        ]

    def _tex_layout(self) -> tuple[str, str, int]:
        """Return the largest font in which the table fits, its columns' specification, and its width in pt."""
        natural, least = self._widths(lambda text: len(text) + text.count("·") // 2)
        gaps = 12 * len(self.columns)
        upright = len(self.columns) <= 6 and sum(natural) * _TEX_DIGITS[r"\normalsize"] + gaps <= _A4
        page = _A4 if upright else _A4_LANDSCAPE
        fonts = (size for size, digit in _TEX_DIGITS.items() if sum(least) * digit + gaps <= page)
        size = next(fonts, r"\scriptsize")
        digit = _TEX_DIGITS[size]
        fitted = _fit(natural, least, int((page - gaps) / digit))
        spec = " ".join(
            column.align[0] if have >= want else rf">{{{_TEX_RAGGED[column.align]}\arraybackslash}}p{{{have / 2}em}}"
            for column, have, want in zip(self.columns, fitted, natural, strict=True)
        )
        return size, spec, math.ceil(sum(fitted) * digit + gaps)

    def to_csv(self) -> str:
        """Write CSV in pure ASCII: numbers raw, the total in the last row, neither title nor notes."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(self._grid(_raw))
        return out.getvalue()

    def to_html(self) -> str:
        """Write one table of class archcalc, its notes as paragraphs after it."""

        def write(tag: str, row: Sequence[Cell]) -> str:
            styles = [
                f' style="text-align: {c.align}"' if tag == "th" or c.align == "right" else "" for c in self.columns
            ]
            cells = (f"<{tag}{s}>{html.escape(_text(cell))}</{tag}>" for s, cell in zip(styles, row, strict=True))
            return f"<tr>{''.join(cells)}</tr>"

        lines = ['<table class="archcalc">']
        if self.title:
            lines.append(f"<caption>{html.escape(_text(self.title))}</caption>")
        lines.append(f"<thead>{write('th', [column.header for column in self.columns])}</thead>")
        lines += ["<tbody>", *(write("td", row) for row in self.rows), "</tbody>"]
        if self.total is not None:
            lines.append(f'<tfoot style="font-weight: bold">{write("td", self.total)}</tfoot>')
        lines += ["</table>", *(f"<p><small>{html.escape(_text(note))}</small></p>" for note in self.notes), ""]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.to_terminal()

    def _repr_html_(self) -> str:
        return self.to_html()

    @property
    def _body(self) -> tuple[tuple[Cell, ...], ...]:
        return self.rows if self.total is None else (*self.rows, self.total)

    def _grid(self, write: Callable[[Cell], T]) -> list[list[T]]:
        return [[write(cell) for cell in row] for row in ([column.header for column in self.columns], *self._body)]

    def _widths(self, measure: Callable[[str], int]) -> tuple[list[int], list[int]]:
        """Return each column's natural width and the least it folds to without breaking a number or a short word."""

        def longest_word(text: str) -> int:
            return max((min(measure(word), _LONGEST_UNBROKEN) for word in text.split()), default=1)

        natural, least = [], []
        for i, column in enumerate(self.columns):
            cells = [row[i] for row in self._body]
            sizes = [measure(_text(cell)) for cell in cells]
            unbroken = (int, float) if column.align == "left" else (int, float, str)
            folded = (
                size if isinstance(cell, unbroken) else longest_word(_text(cell))
                for cell, size in zip(cells, sizes, strict=True)
            )
            natural.append(max(1, measure(column.header), *sizes))
            least.append(max(1, longest_word(column.header), *folded))
        return natural, least


def latex_document(tables: Sequence[Table]) -> str:
    """Write tables one after the other in a LaTeX document that compiles, on paper that the widest fits."""
    layouts = [table._tex_layout() for table in tables]
    width = max(width for _, _, width in layouts)
    paper = "a4paper,landscape" if width > _A4 or any(len(table.columns) > 6 for table in tables) else "a4paper"
    if width > _A4_LANDSCAPE:
        paper = f"paperwidth={width * 1.05 + 114:.0f}pt,paperheight=210mm"
    lines = [r"\documentclass{article}", rf"\usepackage[{paper},margin=2cm]{{geometry}}", _TEX_PACKAGES]
    lines += [r"\begin{document}", r"\setlength{\LTcapwidth}{\linewidth}"]
    for index, (table, (size, _, _)) in enumerate(zip(tables, layouts, strict=True)):
        lines += [*([r"\bigskip"] if index else []), size, *table._tex_lines()]
    return "\n".join([*lines, r"\end{document}", ""])


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, (int, float)):
        return units.count(cell)
    text = cell if isinstance(cell, str) else cell.text() if isinstance(cell, Formula) else units.count(cell)
    return _CONTROL.sub(" ", text)


def _raw(cell: Cell) -> int | float | str:
    if isinstance(cell, float):
        return float(cell)
    whole = units.exact(cell)
    return units.ascii(_text(cell)) if whole is None else whole


def _tex(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        text = re.sub("--+", lambda dashes: "{}".join(dashes[0]), _text(cell).translate(_TEX))
        return _NOT_TEX.sub(lambda char: units.ascii(char[0]).translate(_TEX), text)
    return f"${cell.latex() if isinstance(cell, Formula) else units.latex(cell)}$"


def _pad(text: str, size: int, right: bool) -> str:
    gap = " " * (size - _cells(text))
    return gap + text if right else text + gap


def _cells(text: str) -> int:
    """Cells of a terminal that the text takes: two for a wide character, none for an accent on the one before it."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "FW" else 1 for char in text)


def _fit(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Narrow the widest columns first until all fit the room or none can be narrower."""
    widths = list(natural)
    while sum(widths) > room:
        foldable = [i for i, width in enumerate(widths) if width > least[i]]
        if not foldable:
            break
        widths[max(foldable, key=widths.__getitem__)] -= 1
    return widths
