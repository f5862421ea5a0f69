from __future__ import annotations

import csv
import doctest
import io
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archcalc import table as table_module
from archcalc.errors import InputError, UnknownNameError
from archcalc.table import FORMATS, Cell, Column, Formula, Table, latex_document


@dataclass(frozen=True)
class Working:
    factors: tuple[int, ...]
    value: int

    def text(self) -> str:
        return f"{'·'.join(map(str, self.factors))} = {self.value:,}"

    def latex(self) -> str:
        return r" \cdot ".join(map(str, self.factors)) + f" = {self.value}"


TABLE = Table(
    "VGG, input 1×3×224×224",
    (Column("layer", "left"), Column("output", "left"), Column("weights"), Column("working", "left")),
    (
        ("conv1_1", "1×64×224×224", 1728, Working((3, 3, 3, 64), 1728)),
        ("pool1", "1×64×112×112", None, None),
        ("conv2_1", "1×128×112×112", 73728, Working((3, 3, 64, 128), 73728)),
    ),
    total=("Total", None, 75456, None),
    notes=("at least: 1 uncounted", "weights ≥ 0"),
)
NASTY = r"""a&b 50% $x #1 _u_ {b} ~t ^c \d "q" `g` <v> |p| --in --- [0] *s"""
NASTY += " ⌊H/2⌋ ⌈a⌉ · × − … µ μ ≥≤≠≈→∞±÷∂ – — é ß Ð 中 ² √"


def test_markdown_is_aligned_in_its_source() -> None:
    assert TABLE.to_markdown() == (
        "**VGG, input 1×3×224×224**\n"
        "\n"
        "| layer     | output        |    weights | working             |\n"
        "| :-------- | :------------ | ---------: | :------------------ |\n"
        "| conv1_1   | 1×64×224×224  |      1,728 | 3·3·3·64 = 1,728    |\n"
        "| pool1     | 1×64×112×112  |            |                     |\n"
        "| conv2_1   | 1×128×112×112 |     73,728 | 3·3·64·128 = 73,728 |\n"
        "| **Total** |               | **75,456** |                     |\n"
        "\n"
        "at least: 1 uncounted\n"
        "\n"
        "weights ≥ 0\n"
    )


def test_terminal_in_ascii() -> None:
    assert TABLE.to_terminal(ascii=True) == (
        "VGG, input 1x3x224x224\n"
        "layer   | output        | weights | working\n"
        "--------+---------------+---------+--------------------\n"
        "conv1_1 | 1x64x224x224  |   1,728 | 3*3*3*64 = 1,728\n"
        "pool1   | 1x64x112x112  |         |\n"
        "conv2_1 | 1x128x112x112 |  73,728 | 3*3*64*128 = 73,728\n"
        "--------+---------------+---------+--------------------\n"
        "Total   |               |  75,456 |\n"
        "\n"
        "at least: 1 uncounted\n"
        "weights >= 0\n"
    )


def test_terminal_folds_words_and_never_numbers() -> None:
    assert replace(TABLE, title="", notes=()).to_terminal(width=45) == (
        "layer   │ output        │ weights │ working\n"
        "────────┼───────────────┼─────────┼───────────\n"
        "conv1_1 │ 1×64×224×224  │   1,728 │ 3·3·3·64 =\n"
        "        │               │         │ 1,728\n"
        "pool1   │ 1×64×112×112  │         │\n"
        "conv2_1 │ 1×128×112×112 │  73,728 │ 3·3·64·128\n"
        "        │               │         │ = 73,728\n"
        "────────┼───────────────┼─────────┼───────────\n"
        "Total   │               │  75,456 │\n"
    )


def test_terminal_folds_a_closed_form_but_no_number_with_its_unit() -> None:
    sp = pytest.importorskip("sympy")
    N, H = sp.symbols("N H")
    mixed = Table("", (Column("MACs"), Column("time")), ((1728 * N + 64 * H + 1, "1.23 ms"), (86704128, "45.6 µs")))
    assert mixed.to_terminal(width=1) == (
        "      MACs │    time\n───────────┼────────\n    64·H + │ 1.23 ms\n1728·N + 1 │\n86,704,128 │ 45.6 µs\n"
    )


def test_terminal_colour_only_adds_escapes() -> None:
    coloured = TABLE.to_terminal(color=True)
    assert "\x1b[1m" in coloured
    plain = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert [line.rstrip() for line in plain.split("\n")] == TABLE.to_terminal().split("\n")
    assert "\x1b" not in TABLE.to_terminal(color=True, ascii=True)


def test_terminal_does_not_depend_on_its_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, coloured = TABLE.to_terminal(), TABLE.to_terminal(color=True)
    monkeypatch.setenv("COLUMNS", "10")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert TABLE.to_terminal() == plain
    monkeypatch.delenv("FORCE_COLOR")
    monkeypatch.setenv("NO_COLOR", "1")
    assert TABLE.to_terminal(color=True) == coloured


def test_cells_are_not_markup() -> None:
    rows = (("blocks[0] [bold] :smile:", 1), ("  indented", 2), ("\x1b[31mred\nline", 3))
    lines = Table("[red]t", (Column("layer", "left"), Column("n")), rows).to_terminal(ascii=True).split("\n")
    assert lines[0] == "[red]t"
    assert lines[3].startswith("blocks[0] [bold] :smile: |")
    assert lines[4].startswith("  indented ")
    assert lines[5].startswith(" [31mred line ")


def test_latex_fragment() -> None:
    assert replace(TABLE, notes=("50% of a_b",)).to_latex(document=False).split("\n", 2)[2] == (
        r"""\begin{longtable}{l l r l}
\caption{VGG, input 1$\times$3$\times$224$\times$224}\\
\toprule
layer & output & weights & working \\
\midrule
\endfirsthead
\toprule
layer & output & weights & working \\
\midrule
\endhead
\bottomrule
\endfoot
conv1\_1 & 1$\times$64$\times$224$\times$224 & $1{,}728$ & $3 \cdot 3 \cdot 3 \cdot 64 = 1728$ \\
pool1 & 1$\times$64$\times$112$\times$112 &  &  \\
conv2\_1 & 1$\times$128$\times$112$\times$112 & $73{,}728$ & $3 \cdot 3 \cdot 64 \cdot 128 = 73728$ \\
\midrule
{\bfseries\boldmath Total} &  & {\bfseries\boldmath $75{,}456$} &  \\
\end{longtable}
{\centering\footnotesize 50\% of a\_b\par}
"""
    )
    assert TABLE.to_latex(document=False).startswith("% needs \\usepackage{amsmath,array,booktabs,longtable}\n")


def test_latex_of_several_tables_is_one_document() -> None:
    wide = Table("", (Column("n"),) * 7, ((1,) * 7,))
    text = latex_document([TABLE, wide])
    assert [text.count(part) for part in (r"\documentclass", r"\begin{document}", r"\end{document}")] == [1, 1, 1]
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == 2
    assert "a4paper,landscape" in text
    assert text.index(TABLE.title.split(",")[0]) < text.index(r"\bigskip") < text.index("$1$")
    assert latex_document([TABLE]) == TABLE.to_latex()


def test_latex_escapes_every_special_character() -> None:
    row = Table("", (Column("n", "left"),), (("& % $ # _ { } ~ ^ \\ --- · × − ⌊a⌋ µ … 中 é",),)).to_latex(
        document=False
    )
    assert (
        r"\& \% \$ \# \_ \{ \} \textasciitilde{} \textasciicircum{} \textbackslash{} -{}-{}- $\cdot$ $\times$ $-$"
        r" $\lfloor$a$\rfloor$ $\mu$ \ldots{} ? é \\"
    ) in row


def test_latex_row_cannot_open_with_an_argument_of_the_row_break() -> None:
    body = Table("", (Column("n", "left"),), (("a",), ("[0]",), ("*",))).to_latex(document=False)
    assert "a \\\\\n{[}0] \\\\\n{*} \\\\\n" in body


def test_latex_turns_the_page_for_many_columns() -> None:
    def paper(columns: int, cell: Cell = 1) -> str:
        document = Table("", (Column("n"),) * columns, ((cell,) * columns,)).to_latex()
        found = re.search(r"\\usepackage\[(.*)\]\{geometry\}", document)
        assert found
        return found[1]

    assert paper(6) == "a4paper,margin=2cm"
    assert paper(7) == "a4paper,landscape,margin=2cm"
    assert paper(6, 10**18) == "a4paper,landscape,margin=2cm"
    assert paper(20, 10**9).startswith("paperwidth=")


def test_csv() -> None:
    assert TABLE.to_csv() == (
        "layer,output,weights,working\n"
        'conv1_1,1x64x224x224,1728,"3*3*3*64 = 1,728"\n'
        "pool1,1x64x112x112,,\n"
        'conv2_1,1x128x112x112,73728,"3*3*64*128 = 73,728"\n'
        "Total,,75456,\n"
    )


def test_html() -> None:
    small = Table("a < b", (Column("n & m", "left"), Column("k")), (("<x>", -1728),), (None, 5), ("c > d",))
    assert small.to_html() == (
        '<table class="archcalc">\n'
        "<caption>a &lt; b</caption>\n"
        '<thead><tr><th style="text-align: left">n &amp; m</th><th style="text-align: right">k</th></tr></thead>\n'
        "<tbody>\n"
        '<tr><td>&lt;x&gt;</td><td style="text-align: right">−1,728</td></tr>\n'
        "</tbody>\n"
        '<tfoot style="font-weight: bold"><tr><td></td><td style="text-align: right">5</td></tr></tfoot>\n'
        "</table>\n"
        "<p><small>c &gt; d</small></p>\n"
    )


def test_markdown_escapes() -> None:
    rows = ((r"a|b\c *d* `e` <f> [g] _h_ i_j",),)
    written = Table("", (Column("n", "left"),), rows).to_markdown()
    assert written.split("\n")[2] == r"| a\|b\\c \*d\* \`e\` \<f> \[g\] \_h\_ i_j |"


def test_numbers_of_other_kinds() -> None:
    sp, np = pytest.importorskip("sympy"), pytest.importorskip("numpy")
    N, H, W = sp.symbols("N H W", integer=True, positive=True)
    cells = (1728 * N * H * W, sp.floor(H / 2), sp.Integer(1728), np.int64(1728), np.array([1, 1728]), np.float64(1.5))
    kinds = Table("", (Column("x"),), tuple((cell,) for cell in cells))
    assert [line.strip("| ") for line in kinds.to_markdown().splitlines()[2:]] == [
        "1728·N·H·W",
        "⌊H/2⌋",
        "1,728",
        "1,728",
        "1 … 1,728 (2 values)",
        "1.500",
    ]
    assert kinds.to_csv().splitlines()[1:] == [
        "1728*N*H*W",
        "floor(H/2)",
        "1728",
        "1728",
        '"1 ... 1,728 (2 values)"',
        "1.5",
    ]
    assert r"$1728 N H W$ \\" in kinds.to_latex()


def test_working_is_a_formula() -> None:
    assert isinstance(Working((1,), 1), Formula)


@pytest.mark.parametrize(("rows", "total"), [(((1,), (1, 2)), None), (((1,),), (1, 2)), (((1,),), ())])
def test_a_row_of_another_length_is_refused(rows: tuple[tuple[Cell, ...], ...], total: tuple[Cell, ...] | None) -> None:
    with pytest.raises(InputError, match=r"table 't': (row 2|the total) has [02] cells for 1 columns"):
        Table("t", (Column("n"),), rows, total)


def test_render_dispatches() -> None:
    assert FORMATS == ("table", "markdown", "latex", "csv", "html")
    assert TABLE.render("table", ascii=True, width=45) == TABLE.to_terminal(ascii=True, width=45)
    assert TABLE.render("markdown") == TABLE.to_markdown()
    assert TABLE.render("latex") == TABLE.to_latex()
    assert TABLE.render("csv") == TABLE.to_csv()
    assert TABLE.render("html") == TABLE.to_html()
    with pytest.raises(UnknownNameError, match="unknown format 'pdf': choose one of table, markdown, latex, csv, html"):
        TABLE.render("pdf")


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_table_still_has_its_headers(format: str) -> None:
    assert "weights" in Table("", TABLE.columns, ()).render(format)


TEXT = st.text(max_size=12)
TABLES = st.builds(
    lambda title, headers, rows, notes: Table(
        title, (Column(headers[0], "left"), Column(headers[1]), Column(headers[2])), tuple(rows), rows[0], tuple(notes)
    ),
    TEXT,
    st.tuples(TEXT, TEXT, TEXT),
    st.lists(st.tuples(TEXT, st.none() | st.integers(), TEXT | st.floats()), min_size=1, max_size=4),
    st.lists(TEXT, max_size=2),
)


@given(TABLES, st.sampled_from(FORMATS), st.none() | st.integers(1, 120))
def test_ascii_is_pure_in_every_format(table: Table, format: str, width: int | None) -> None:
    written = table.render(format, ascii=True, width=width, color=True)
    assert written.isascii()
    assert written.endswith("\n")
    if format in {"table", "markdown"}:
        assert all(line == line.rstrip() for line in written.split("\n"))


class CellReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data


def _read_html(text: str) -> list[list[str]]:
    reader = CellReader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader.rows[1:]


def _read_lines(separator: str, pattern: str) -> Callable[[str], list[list[str]]]:
    def read(text: str) -> list[list[str]]:
        return [re.split(separator, line) for line in text.splitlines() if re.search(pattern, line)]

    return read


READERS: dict[str, Callable[[str], list[list[str]]]] = {
    "table": _read_lines("│", "^(layer_|Sum)"),
    "markdown": _read_lines(r"\|", r"^\| (layer_|\*\*Sum)"),
    "latex": _read_lines("&", r"^(layer\\_|\{\\bfseries\\boldmath Sum)"),
    "csv": lambda text: list(csv.reader(io.StringIO(text)))[1:],
    "html": _read_html,
}


@given(st.lists(st.tuples(st.integers(-(10**20), 10**20), st.integers()), min_size=1, max_size=6), st.integers(1, 100))
def test_every_format_reads_back_and_sums_to_its_total(numbers: list[tuple[int, int]], width: int) -> None:
    total = ("Sum", sum(a for a, _ in numbers), sum(b for _, b in numbers))
    rows = tuple((f"layer_{i}", a, b) for i, (a, b) in enumerate(numbers))
    table = Table("", (Column("name", "left"), Column("first"), Column("second")), rows, total)
    for format, read in READERS.items():
        cells = [
            [
                int(digits)
                for cell in row
                if (digits := re.sub(r"^.*(layer|Sum).*$|[^\d−-]", "", cell).replace("−", "-"))
            ]
            for row in read(table.render(format, width=width))
        ]
        assert cells == [[a, b] for a, b in (*numbers, total[1:])], format
        assert [sum(column) for column in zip(*cells[:-1], strict=True)] == cells[-1], format


WIDE = st.text("aé·×⌊│中あ한ｆ\u0301 \t\n\x1b|", max_size=8).map(lambda text: text.strip(" \t\n\x1b"))


@given(
    st.lists(st.tuples(WIDE, st.none() | st.integers(), WIDE), max_size=4),
    st.tuples(WIDE, WIDE, WIDE),
    st.booleans(),
    WIDE,
    st.lists(WIDE, max_size=2),
)
def test_both_terminal_writers_write_the_same(
    rows: list[tuple[Cell, ...]], headers: tuple[str, str, str], summed: bool, title: str, notes: list[str]
) -> None:
    """Without width and colour the table is written without rich; apart from escapes nobody should see a difference."""
    columns = (Column(headers[0], "left"), Column(headers[1]), Column(headers[2], "left"))
    table = Table(title, columns, tuple(rows), rows[0] if rows and summed else None, tuple(notes))
    coloured = re.sub(r"\x1b\[[\d;]*m", "", table.to_terminal(color=True))
    assert [line.rstrip(" ") for line in coloured.split("\n")] == table.to_terminal().split("\n")
    assert table.to_terminal(ascii=True, width=500) == table.to_terminal(ascii=True)


def test_wide_characters_take_two_cells() -> None:
    table = Table("", (Column("层", "left"), Column("n")), (("卷积1", 1728), ("cafe\u0301", 2)), ("和", 1730))
    assert table.to_terminal() == (
        "层    │     n\n──────┼──────\n卷积1 │ 1,728\ncafe\u0301  │     2\n──────┼──────\n和    │ 1,730\n"
    )
    assert table.to_markdown().splitlines()[2:4] == ["| 卷积1  |     1,728 |", "| cafe\u0301   |         2 |"]


WORDS = st.lists(st.text("abcxyz", min_size=1, max_size=60), min_size=1, max_size=5).map(" ".join)


@given(st.lists(st.tuples(WORDS, st.integers()), min_size=1, max_size=3), st.integers(1, 200))
def test_no_width_cuts_anything(rows: list[tuple[str, int]], width: int) -> None:
    for words, n in rows:
        table = Table("", (Column("w", "left"), Column("n")), ((words, n),))
        lines = [line.split("|") for line in table.to_terminal(ascii=True, width=width).splitlines()[2:]]
        assert "".join(line[0] for line in lines).replace(" ", "") == words.replace(" ", "")
        assert [line[1].strip() for line in lines if line[1].strip()] == [f"{n:,}"]
        longest = max(1, *(min(40, len(word)) for word in words.split()))
        assert max(len("|".join(line)) for line in lines) <= max(width, longest + 3 + len(f"{n:,}"))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(tmp_path: Path) -> None:
    nasty = Table(
        NASTY,
        (Column(NASTY, "left"), Column("n"), Column("working")),
        ((NASTY, -1728, Working((3,) * 80, 3**80)), ("[0]", 1.5, None), ("*", float("nan"), 1), (None, None, None)),
        ("[Sum]", 1, Working((1,), 1)),
        (NASTY,),
    )
    wide = Table("", (Column("number of MACs"),) * 16, ((10**12,) * 16,) * 80, (80 * 10**12,) * 16)
    before = r"\documentclass{article}\usepackage{amsmath,array,booktabs,longtable}\begin{document}"
    sources = {
        "plain": TABLE.to_latex(),
        "nasty": nasty.to_latex(),
        "wide": wide.to_latex(),
        "fragment": "\n".join(
            [before, TABLE.to_latex(document=False), nasty.to_latex(document=False), r"\end{document}"]
        ),
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.tex").write_text(source, encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert run.returncode == 0, run.stdout[-2000:]
        assert "Missing character" not in run.stdout
        assert name == "fragment" or "Overfull" not in run.stdout, run.stdout[-2000:]


def test_only_a_width_or_colour_needs_rich() -> None:
    script = (
        "import sys; from archcalc.table import *; t = Table('', (Column('n'),), ((1,),))\n"
        "for f in FORMATS: t.render(f)\n"
        "t.render('table', color=True, ascii=True)\n"
        "print({'rich', 'sympy', 'numpy', 'torch'} & set(sys.modules))\n"
        "t.render('table', width=80); print('rich' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("set()\nTrue\n", "")


def test_500_rows_are_instant() -> None:
    big = replace(TABLE, rows=TABLE.rows[:1] * 500)
    fastest = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        big.to_markdown()
        fastest = min(fastest, time.perf_counter() - start)
    assert fastest < 0.1


def test_doctests() -> None:
    result = doctest.testmod(table_module)
    assert result.attempted >= 2
    assert not result.failed
