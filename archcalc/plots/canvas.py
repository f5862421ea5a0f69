"""Figures without pyplot: matplotlib's objects alone, so that nobody's figures or settings are touched.

Sizes are in inches, fonts in points. The only module that imports matplotlib.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from archcalc import units

FONT = 8.0
BOLD = {"fontsize": 9, "fontweight": "bold"}
TITLE = {"fontsize": 11, "fontweight": "bold"}
INK, FAINT, GRID, BAND = "#222222", "#666666", "#d8d8d8", "#f4f4f4"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f7f7f")
"""Told apart by colour-blind readers too: Okabe & Ito's palette, grey for its yellow and black."""

_UNDATED: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
_OURS: dict[Any, Any] = {
    "svg.hashsalt": "archcalc",
    "svg.fonttype": "none",  # words stay words, to be searched, copied and read aloud
    "pdf.fonttype": 42,
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
}
_DPI = 150


class Plot(Figure):
    """A figure of archcalc, which notebooks show inline."""

    def __init__(self, width: float, height: float):
        super().__init__(figsize=(width, height), facecolor="white")
        FigureCanvasAgg(self)

    @property
    def renderer(self) -> Any:
        """What measures text."""
        canvas = self.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        return canvas.get_renderer()  # type: ignore[no-untyped-call]

    def _repr_svg_(self) -> str:
        return rendered(self, "svg").decode()

    def panel(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Axes at a place given in inches, with its frame reduced to the left and lower line."""
        across, up = self.get_size_inches()
        axes = self.add_axes((left / across, bottom / up, width / across, height / up))
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.tick_params(labelsize=FONT, colors=INK, length=2.5, color=FAINT)
        axes.set_axisbelow(True)
        return axes

    def write(self, left: float, bottom: float, text: str, **style: Any) -> Text:
        """Text at a place given in inches."""
        across, up = self.get_size_inches()
        return self.text(left / across, bottom / up, text, **{"fontsize": FONT, "color": INK, **style})

    def box(self, text: Text) -> Bbox:
        """The rectangle that a text takes, in pixels."""
        return text.get_window_extent(self.renderer)

    def width_of(self, text: str, **style: Any) -> float:
        """Inches that a text would take."""
        probe = self.write(0, 0, text, **style)
        width = float(self.box(probe).width / self.dpi)
        probe.remove()
        return width

    def wrapped(self, text: str, room: float) -> list[str]:
        """The text in lines that are no wider than so many inches, but for longer words."""
        lines: list[str] = []
        for word in text.split():
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and self.width_of(longer) <= room:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines


@contextmanager
def settings() -> Iterator[None]:
    """Matplotlib's own defaults meanwhile, whatever the user's are, and SVG that is the same whenever it is written."""
    own: dict[Any, Any] = {name: value for name, value in rcParamsDefault.items() if not name.startswith("backend")}
    with rc_context({**own, **_OURS}):
        yield


def rendered(figure: Figure, format: str) -> bytes:
    """The figure as the bytes of a file of this format, which hold no date."""
    file = io.BytesIO()
    with settings():
        figure.savefig(file, format=format, dpi=_DPI, metadata=_UNDATED[format])
    return file.getvalue()


def count_axis(axes: Axes, *, seconds: bool = False) -> None:
    """Few round ticks on the horizontal axis, written with decimal prefixes."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value, seconds=seconds)))
    axes.grid(axis="x", color=GRID, linewidth=0.6)


def log_axes(axes: Axes, *seconds: bool) -> None:
    """Both axes logarithmic between the limits they have, with ticks written with decimal prefixes, or as times."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, time in zip((axes.xaxis, axes.yaxis), seconds, strict=True):
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,), numticks=99))
        axis.set_major_formatter(FuncFormatter(lambda value, _, time=time: tick(value, seconds=time)))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(color=GRID, linewidth=0.6)


def tick(value: float, *, seconds: bool = False) -> str:
    """A round number as it is written on an axis.

    >>> tick(2_500_000.0), tick(1e9), tick(0.02, seconds=True)
    ('2.5 M', '1 G', '20 ms')
    """
    if value == 0:
        return "0"
    text = units.seconds(value) if seconds else units.si(value, digits=3)
    return re.sub(r"\.?0+(?= |$)", "", text) if "." in text else text
