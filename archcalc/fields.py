"""Receptive fields of every layer: size, jump, start and padding, and exactly which pixels an output sees.

Sizes are those of the recurrence (`archcalc.receptive`). Where outputs do not step evenly it has none: there the
windows are followed from every pixel to every output instead, and the most that any output sees is a bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from archcalc import units
from archcalc.analysis import Report, Row
from archcalc.columns import matching
from archcalc.errors import InputError
from archcalc.extents import Extent
from archcalc.layers import Input
from archcalc.nest import Bins, Nest, Scatter, Window
from archcalc.receptive import Field, fold
from archcalc.records import plain
from archcalc.table import Cell, Column, Table

SCHEMA = "archcalc.receptive/1"

_OTHER_PIXELS = ("Reflection", "Replication", "Circular")
"""Kinds of padding by which an output sees pixels from elsewhere in the image."""


MOST_BITS = 2**33
"""Pixels of the image times outputs and taps, over all layers, that are followed one by one."""


class Seen(tuple[int, ...]):
    """Which pixels each output along one axis sees: bit p of element i is set where output i sees pixel p.

    It goes through windows as `Field` does, but knows the ends of the image: padding is not seen.

    >>> [bin(pixels) for pixels in Seen((1, 2, 4)).through(Window("P", "R", stride=2, before=1, after=1), 3)]
    ['0b11', '0b110']
    """

    __slots__ = ()

    def through(self, window: Window, taps: int) -> Seen:
        """What the outputs of a window see."""
        size = len(self)
        return Seen(
            _union(
                self[place]
                for tap in range(taps)
                if 0 <= (place := output * window.stride + tap * window.dilation - window.before) < size
            )
            for output in range(window.outputs(size, taps))
        )

    def whole(self, extent: int) -> Seen:
        """What something sees that sees all of them."""
        return Seen((_union(self),))

    def binned(self, bins: Bins) -> Seen:
        """What bins see, overlapping or not."""
        edges = [(i * bins.size // bins.bins, -(-(i + 1) * bins.size // bins.bins)) for i in range(bins.bins)]
        return Seen(_union(self[start:end]) for start, end in edges)

    def scattered(self, scatter: Scatter, taps: int) -> Seen:
        """What outputs see onto which every input is added at the places of a window."""
        window = scatter.window
        outputs = [0] * scatter.size(len(self), taps)
        for i, pixels in enumerate(self):
            for tap in range(taps):
                place = i * window.stride + tap * window.dilation - window.before
                if 0 <= place < len(outputs):
                    outputs[place] |= pixels
        return Seen(outputs)

    def joined(self, others: Sequence[Seen]) -> Seen | None:
        """What all branches see together, one output spread over all places; None where places do not fit."""
        longest = max(map(len, (self, *others)))
        if any(len(one) not in (1, longest) for one in (self, *others)):
            return None
        spread = [one * longest if len(one) == 1 else one for one in (self, *others)]
        return Seen(map(_union, zip(*spread, strict=True)))


@dataclass(frozen=True)
class Pixels:
    """What the outputs of a layer see along each axis; not `exact`, it is the most that they can see."""

    axes: tuple[Seen, ...]
    exact: bool = True

    def at(self, position: Sequence[int]) -> tuple[tuple[int, ...], ...] | None:
        """The pixels along each axis that the output at this position sees; None where there is no such output.

        An output of padding alone sees nothing along any axis.
        """
        places = [0 if len(axis) == 1 else place for axis, place in zip(self.axes, position, strict=False)]
        if len(position) != len(self.axes) or any(
            not 0 <= place < len(axis) for axis, place in zip(self.axes, places, strict=True)
        ):
            return None
        seen = [axis[place] for axis, place in zip(self.axes, places, strict=True)]
        return tuple(tuple(_bits(pixels)) if all(seen) else () for pixels in seen)


def pixels(report: Report) -> dict[str, Pixels]:
    """Which pixels of the image the outputs of every layer see, by layer.

    What a normalisation sees through its mean and variance is left out. Raises InputError for letters and sweeps, and
    for more than MOST_BITS.
    """
    if any(type(extent) is not int for extent in report.input):
        raise InputError(
            f"which pixels an output sees takes an input of whole numbers, not {units.shape(report.input)}"
        )
    if _too_large(report):
        raise InputError(f"{report.title} has too many pixels and outputs to follow each")
    known: dict[str, Pixels] = {}
    for row in report.rows:
        known[row.name] = _image(row) if not row.sources else _seen(row, [known[name] for name in row.node.inputs])
    return known


def _too_large(report: Report) -> bool:
    image = max((side for row in report if not row.sources for side in row.output[2:]), default=0)
    steps = sum(sum(row.output[2:]) + sum(map(_steps, row.nests)) for row in report if not row.work.still)
    return steps * (image + 1000) > MOST_BITS  # a step costs as much as some 1000 bits


def _steps(nest: Nest) -> int:
    """Pairs of an output and a tap along each axis of the image."""
    windows = [axis.window if isinstance(axis, Scatter) else axis for one in nest.operands for axis in one.axes]
    return sum(nest.loops[one.out] * nest.loops[one.tap] for one in windows if isinstance(one, Window))


def _image(row: Row) -> Pixels:
    places = row.output[2:] if isinstance(row.node.layer, Input) else ()
    return Pixels(tuple(Seen(1 << pixel for pixel in range(extent)) for extent in places))


def _seen(row: Row, sources: Sequence[Pixels]) -> Pixels:
    seeing = [source for source in sources if source.axes]
    if not seeing:
        return Pixels(())
    layer = row.node.layer
    mirrored = getattr(layer, "padding_mode", "zeros") != "zeros" or layer.kind.startswith(_OTHER_PIXELS)
    if all(source.exact for source in seeing) and not mirrored and not _partly_blind(seeing):
        axes = fold([source.axes for source in sources], row.inputs, row.output, row.nests, local=layer.local)
        places = row.output[2:] or (1,) * len(axes)
        if None not in axes and tuple(map(len, axes)) == places:
            return Pixels(axes)
    most = zip(*(map(_union, source.axes) for source in seeing), strict=False)
    return Pixels(tuple(Seen((_union(axis),)) for axis in most), exact=False)


def _partly_blind(sources: Sequence[Pixels]) -> bool:
    """Whether branches meet of which one has outputs that see nothing, so that axes cannot be told apart."""
    return len(sources) > 1 and any(0 in axis for source in sources for axis in source.axes)


def _union(parts: Any) -> int:
    return reduce(or_, parts, 0)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        yield (mask & -mask).bit_length() - 1
        mask &= mask - 1


@dataclass(frozen=True)
class LayerField:
    """The receptive field of a layer, one entry for each axis of the image.

    `padding` is how many pixels before the image the first output sees, and how many past its end the last one does
    (negative where it does not reach it). Sizes that are not `exact` are the most that any output sees.
    """

    row: Row
    size: tuple[Extent, ...]
    exact: bool
    jump: tuple[Extent, ...] | None = None
    start: tuple[Extent, ...] | None = None
    padding: tuple[tuple[Extent, Extent], ...] | None = None


def layer_fields(report: Report) -> tuple[LayerField, ...]:
    """The receptive field of every layer that sees an image, in the order they run.

    >>> from archcalc import analyze, zoo
    >>> field = {field.row.name: field for field in layer_fields(analyze(zoo.vgg16()))}["pool5"]
    >>> field.size, field.jump, field.start, field.padding
    ((212, 212), (32, 32), (15.5, 15.5), ((90, 90), (90, 90)))
    """
    whole = all(type(extent) is int for extent in report.input)
    uneven = whole and any(None in row.fields for row in report.rows)
    seen = pixels(report) if uneven and not _too_large(report) else {}
    return tuple(_layer_field(row, report.input[2:], seen) for row in report.rows if row.fields)


def _layer_field(row: Row, image: Sequence[Extent], seen: dict[str, Pixels]) -> LayerField:
    fields = [field for field in row.fields if field is not None]
    if len(fields) < len(row.fields):
        return _uneven(row, seen.get(row.name))
    outputs = row.output[2:] or (1,) * len(fields)
    return LayerField(
        row,
        tuple(field.size for field in fields),
        True,
        tuple(field.jump for field in fields) if row.output[2:] else None,
        tuple(_half(2 * field.first + field.size - 1) for field in fields),
        tuple(
            (-field.first, field.first + (places - 1) * field.jump + field.size - extent)
            for field, places, extent in zip(fields, outputs, image, strict=False)
        ),
    )


def _uneven(row: Row, known: Pixels | None) -> LayerField:
    """The field of outputs that see unlike many pixels, or lie at unlike distances."""
    if known is None:
        return LayerField(row, (), exact=False)
    spans = [{_span(mask) for mask in axis} for axis in known.axes]
    alike = known.exact and all(len(set(axis)) == 1 for axis in known.axes)
    return LayerField(row, tuple(map(max, spans)), exact=alike)


def _span(mask: int) -> int:
    """Pixels from the first seen to the last."""
    return mask.bit_length() - ((mask & -mask).bit_length() - 1) if mask else 0


def _half(twice: Extent) -> Extent:
    if type(twice) is int:
        return twice // 2 if twice % 2 == 0 else twice / 2
    return twice / 2


def stack(layers: int | str = "N", taps: int | str = "F") -> Any:
    """What `layers` convolutions `taps`×`taps` with stride 1, one after the other, see: a SymPy expression.

    The step is `Field.through` run on letters; SymPy solves the recurrence r(n + 1) = r(n) + (F - 1), r(0) = 1 that it
    gives, and numbers are put in afterwards. Raises MissingPackageError without SymPy.

    >>> stack()
    F*N - N + 1
    >>> stack(3, 5)
    13
    """
    from archcalc.symbols import solved, symbol

    size, F, N = symbol("r"), symbol("F"), symbol("N")
    after = Field(size, 1, 0).through(Window("P", "R"), F)
    closed = solved(after.size, size, Field().size, N)
    return closed.subs(
        {N: symbol(layers) if isinstance(layers, str) else layers, F: symbol(taps) if isinstance(taps, str) else taps}
    )


def receptive_table(
    report: Report, layers: str | None = None, position: Sequence[int] | None = None, *, all_rows: bool = False
) -> Table:
    """The receptive fields as a table, of the layers whose names match; with a position the pixels its output sees.

    Layers that see what the layer before them sees are left out unless `all_rows`. Raises InputError.
    """
    chosen = _chosen(report, layers)
    shown = [field for field in chosen if all_rows or not field.row.work.still]
    seen = pixels(report) if position is not None else {}
    headers = ("layer", "kind", "output", "receptive field", "jump", "start", "padding")
    columns = [Column(header, "left" if i < 3 else "right") for i, header in enumerate(headers)]
    if position is not None:
        place = ", ".join(map(str, position))
        columns.append(Column(f"output {place} sees"))
        if not any(seen[field.row.name].at(position) for field in chosen):
            raise InputError(f"{report.network.name} has no layer with an output at {place}")
    rows = tuple(
        (*_cells(field), *([] if position is None else [_intervals(seen[field.row.name], position)])) for field in shown
    )
    title = f"Receptive fields of {report.title}, in pixels of the input"
    return Table(title, tuple(columns), rows, notes=_notes(chosen, shown))


def _chosen(report: Report, layers: str | None) -> list[LayerField]:
    names = {row.name for row in matching(report, layers)}
    chosen = [field for field in layer_fields(report) if field.row.name in names]
    if not chosen:
        raise InputError(f"{report.title}: none of the layers sees an image")
    return chosen


def _cells(field: LayerField) -> tuple[Cell, ...]:
    row = field.row
    size = units.shape(field.size) if field.size else "unknown"
    return (
        row.name,
        row.kind,
        units.shape(row.output),
        size if field.exact or not field.size else f"≤ {size}",
        None if field.jump is None else units.shape(field.jump),
        None if field.start is None else _list(field.start),
        None if field.padding is None else _list([before for before, _ in field.padding]),
    )


def _list(numbers: Sequence[Extent]) -> str:
    """Numbers along the axes; one where all are alike."""
    texts = [f"{n:g}".replace("-", "−") if type(n) is float else units.count(n) for n in numbers]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)


def _intervals(known: Pixels, position: Sequence[int]) -> str | None:
    seen = known.at(position) if known.exact else None
    if seen is None:
        return None
    return " × ".join(f"{axis[0]}…{axis[-1]}" if axis else "nothing" for axis in seen)


def _notes(chosen: Sequence[LayerField], shown: Sequence[LayerField]) -> tuple[str, ...]:
    notes = [
        "receptive field: pixels from the first seen to the last, padding included; start: centre of what the first "
        "output sees, where pixel 0 is at 0; padding: pixels it sees before that."
    ]
    kept = {field.row.name for field in shown}
    alike: dict[str, int] = {}
    for field in chosen:
        if field.row.name not in kept:
            alike[field.row.kind] = alike.get(field.row.kind, 0) + 1
    if alike:
        listed = ", ".join(f"{count} {kind}" for kind, count in alike.items())
        notes.append(f"Left out, see what the layer before sees: {listed} (--all shows them).")
    if any(not field.exact for field in chosen):
        notes.append("≤: outputs see unlike many pixels, or their place is lost; no output sees more than this.")
    statistics = dict.fromkeys(field.row.kind for field in chosen if field.exact and _statistics(field.row))
    if statistics:
        notes.append(f"What is seen through the mean and variance of {', '.join(statistics)} is left out.")
    return tuple(notes)


def _statistics(row: Row) -> bool:
    """Whether the layer reads sums over places that it does not write, as a normalisation by the data's own mean."""
    return row.node.layer.local and any(
        type(axis) is tuple and axis not in nest.operands[-1].axes
        for nest in row.nests[:-1]
        if all(operand.role != "weight" for operand in nest.operands)
        for axis in nest.operands[0].axes[2:]
    )


def receptive_record(
    report: Report, layers: str | None = None, position: Sequence[int] | None = None
) -> dict[str, Any]:
    """The receptive fields as plain data, schema archcalc.receptive/1. Raises InputError."""
    seen = pixels(report) if position is not None else {}
    records = []
    for field in _chosen(report, layers):
        row = field.row
        record = {
            "name": row.name,
            "kind": row.kind,
            "inputs": list(row.node.inputs),
            "output": plain(row.output),
            "receptive_field": plain(field.size) if field.size else None,
            "exact": field.exact,
            "jump": plain(field.jump),
            "start": None if field.start is None else [n if type(n) is float else plain(n) for n in field.start],
            "padding": plain(field.padding),
        }
        if position is not None:
            known = seen[row.name]
            record["pixels"] = plain(known.at(position)) if known.exact else None
        records.append(record)
    return {
        "schema": SCHEMA,
        "network": report.network.name,
        "input": plain(report.input),
        **({} if position is None else {"position": list(position)}),
        "layers": records,
    }
