"""Plots: bars and bubbles show the report's numbers, words stand apart, bad input leaves no file."""

import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.patches import Rectangle
from matplotlib.text import Text

import archcalc as ac
from archcalc import plots, units, zoo
from archcalc.cli import main
from archcalc.errors import ArchcalcError, InputError, UnknownNameError
from archcalc.plots import canvas
from archcalc.plots.numbers import MOST_LINES

Bars = dict[str, dict[str, float]]


def bars(figure: canvas.Plot) -> Bars:
    """Read back from the figure: for each panel the length of each line's bar."""
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    return {
        str(panel.get_label()): dict(zip(names, (bar.get_width() for bar in panel), strict=True))
        for axes in figure.axes
        for panel in axes.containers
        if not str(panel.get_label()).startswith("_")
    }


def words(figure: canvas.Plot) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def assert_legible(figure: canvas.Plot) -> None:
    """No word lies on another or leaves the figure."""
    figure.draw(figure.renderer)
    hidden = beyond(figure)
    shown = [
        (text.get_text(), text.get_window_extent(figure.renderer)) for text in words(figure) if id(text) not in hidden
    ]
    for (one, box), (other, beside) in combinations(shown, 2):
        apart = box.x1 <= beside.x0 or beside.x1 <= box.x0 or box.y1 <= beside.y0 or beside.y1 <= box.y0
        assert apart, f"{one!r} lies on {other!r}"
    for name, box in shown:
        assert box.x0 >= 0, name
        assert box.y0 >= 0, name
        assert box.x1 <= figure.bbox.x1, name
        assert box.y1 <= figure.bbox.y1, name


def beyond(figure: canvas.Plot) -> set[int]:
    """Labels of ticks beyond the ends of an axis, which exist and are not drawn."""
    axes: list[Any] = [axis for one in figure.axes for axis in (one.xaxis, one.yaxis)]
    every = {id(tick.label1) for axis in axes for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())}
    return every - {id(tick.label1) for axis in axes for tick in axis._update_ticks()}


def timed(network: str, layers: dict[str, float], whole: float = 0.02, shape: Sequence[int] = (1, 3, 224, 224)) -> Any:
    return {
        "schema": "archcalc.time/1",
        "network": network,
        "input": list(shape),
        "environment": {"device_name": "a machine"},
        "median_s": whole,
        "layers": [{"name": name, "macs": 0, "median_s": seconds, "iqr_s": 0.0} for name, seconds in layers.items()],
    }


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    return int(end.value.code or 0)


# Bars


def test_bars_are_as_long_as_the_counts() -> None:
    report = ac.analyze(zoo.vgg19())
    drawn = bars(report.plot())
    assert list(drawn) == ["cost", "params", "activations"]
    # conv1_2 of VGG-19: 64·224·224 outputs of 3·3·64 multiply-adds; 64·3·3·64 weights and 64 biases
    assert drawn["cost"]["conv1_2"] == 64 * 224 * 224 * 9 * 64
    assert drawn["params"]["conv1_2"] == 64 * 9 * 64 + 64
    assert drawn["activations"]["conv1_2"] == 64 * 224 * 224
    for row in report:
        expected = row.macs, row.params, row.activations
        assert tuple(panel.get(row.name, 0) for panel in drawn.values()) == expected, row.name


def test_bars_add_up_to_the_total() -> None:
    report = ac.analyze(zoo.resnet34())
    for depth in (None, 1, 2):
        drawn = bars(report.plot(depth=depth))
        total = report.total
        assert [sum(panel.values()) for panel in drawn.values()] == [total.macs, total.params, total.activations]


def test_lines_are_those_of_the_table_in_order() -> None:
    report = ac.analyze(zoo.resnet34())
    table = report.table(["layer", "macs"], depth=1)
    assert list(bars(report.plot(quantities=["macs"], depth=1))["macs"].items()) == list(table.rows)


def test_every_line_has_a_bar_a_name_and_its_numbers() -> None:
    report = ac.analyze(zoo.alexnet())
    figure = report.plot()
    drawn = bars(figure)
    written = [text.get_text() for text in words(figure)]
    for panel in drawn.values():
        for value in filter(None, panel.values()):
            assert units.si(int(value), digits=3) in written
    for name in drawn["cost"]:
        assert name in written
    assert "alexnet on 1×3×227×227" in written
    assert f"total {units.si(report.total.macs)}" in written
    assert any(text.startswith("Left out, 0 in every panel: ") for text in written)


def test_with_all_rows_nothing_is_left_out() -> None:
    report = ac.analyze(zoo.alexnet())
    assert list(bars(report.plot(all_rows=True))["cost"]) == [row.name for row in report]


def test_layers_choose_lines() -> None:
    report = ac.analyze(zoo.vgg19())
    assert list(bars(report.plot(layers="^fc"))["params"]) == ["fc6", "fc7", "fc8"]
    with pytest.raises(InputError, match="no layer of vgg19 matches"):
        report.plot(layers="nowhere")


def test_a_convention_counts_the_cost() -> None:
    report = ac.analyze(zoo.vgg19())
    drawn = bars(report.plot(quantities=["cost", "macs"], convention="flop", layers="fc8"))
    assert drawn == {"cost": {"fc8": 2 * 4096 * 1000}, "macs": {"fc8": 4096 * 1000}}


def test_a_long_network_is_folded_until_it_is_short() -> None:
    report = ac.analyze(zoo.resnet152())
    figure = report.plot()
    drawn = bars(figure)
    assert "layer3.35" in drawn["cost"]
    assert len(drawn["cost"]) <= MOST_LINES
    assert sum(drawn["cost"].values()) == report.total.macs
    assert any(text.get_text().startswith("Folded by block, 2 deep") for text in words(figure))


def test_too_many_bars_say_how_to_have_fewer() -> None:
    with pytest.raises(InputError, match=r"resnet1202 has \d+ layers to draw, more than 400; fold them with --depth 1"):
        ac.plot(zoo.resnet1202(), all_rows=True)


def test_an_uncounted_operation_is_said_to_be() -> None:
    from archcalc.layers.operation import Uncounted

    builder = ac.Builder("net", (1, 8))
    builder.add(Uncounted("fft", ((1, 8),), (1, 8)), "odd")
    report = ac.analyze(builder.network())
    written = [text.get_text() for text in words(report.plot(quantities=["macs"]))]
    assert "uncounted" in written


def test_totals_of_several_networks() -> None:
    networks = [zoo.vgg19(), zoo.resnet34(), zoo.mobilenet_v2()]
    figure = ac.plot(*networks)
    drawn = bars(figure)
    for network in networks:
        total = ac.analyze(network).total
        assert [panel[network.name] for panel in drawn.values()] == [total.macs, total.params, total.activations]
    assert_legible(figure)


def test_networks_on_other_inputs_are_named_with_them() -> None:
    assert list(bars(ac.plot(zoo.alexnet(), zoo.vgg19()))["cost"]) == ["alexnet, 1×3×227×227", "vgg19, 1×3×224×224"]


# Time


def test_times_are_drawn_beside_the_counts() -> None:
    record = timed("vgg19", {"conv1_1": 0.004, "relu1_1": 0.001, "fc8": 0.002})
    report = ac.analyze(zoo.vgg19())
    figure = report.plot(times=record)
    drawn = bars(figure)
    assert drawn["time"] | {"conv1_1": 0, "relu1_1": 0, "fc8": 0} == dict.fromkeys(drawn["time"], 0)
    assert (drawn["time"]["conv1_1"], drawn["time"]["relu1_1"], drawn["time"]["fc8"]) == (0.004, 0.001, 0.002)
    written = " ".join(text.get_text() for text in words(figure))
    assert "a machine" in written
    assert "a pass that nobody watches takes 20.0 ms" in written
    assert_legible(figure)


def test_times_fold_with_their_block() -> None:
    record = timed("resnet34", {"layer1.0.conv1": 0.25, "layer1.0.bn1": 0.5, "conv1": 0.125})
    drawn = bars(ac.plot(zoo.resnet34(), quantities=["time"], times=record, depth=1))
    assert drawn == {"time": {"conv1": 0.125, "layer1": 0.75}}


def test_totals_with_time_are_those_of_passes() -> None:
    records = [timed("vgg19", {}, 0.5), timed("resnet34", {}, 0.25)]
    figure = ac.plot(zoo.vgg19(), zoo.resnet34(), times=records)
    assert bars(figure)["time"] == {"vgg19": 0.5, "resnet34": 0.25}
    machine = records[0]["environment"]["device_name"]
    assert f"Medians of passes on {machine}." in [text.get_text() for text in words(figure)]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "no result of `archcalc time`"),
        ({"schema": "archcalc.report/1"}, "no result of `archcalc time`"),
        (timed("vgg16", {}), "there are no times of vgg19"),
        (timed("vgg19", {}, shape=(1, 3, 32, 32)), "for an input of 1×3×32×32, not 1×3×224×224"),
        ([timed("vgg19", {})] * 2, "there are 2 times of vgg19"),
        (timed("vgg19", {}), "only whole passes of vgg19 were timed"),
        (timed("vgg19", {"conv9": 1.0}), "conv9, which is no layer of vgg19"),
    ],
)
def test_times_that_do_not_fit(records: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    file.write_text(json.dumps(records))
    for times in (records, file):
        with pytest.raises(InputError, match=message):
            ac.plot(zoo.vgg19(), times=times)


def test_files_that_hold_no_times(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*No such file"):
        ac.plot(zoo.vgg19(), times=tmp_path / "none.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(InputError, match="no result of `archcalc time`"):
        ac.plot(zoo.vgg19(), times=tmp_path / "text.json")


# Bubbles


def circles(figure: canvas.Plot) -> dict[str, tuple[float, float, float]]:
    """Where each bubble is, and its area in squared points times 4/π."""
    collections: list[Any] = [one for one in figure.axes[0].collections if not str(one.get_label()).startswith("_")]
    return {one.get_label(): (*one.get_offsets()[0], one.get_sizes()[0]) for one in collections}


def test_bubbles_lie_where_the_counts_are() -> None:
    drawn = circles(plots.bubbles(*plots.zoo_networks()))
    reports = {network.name: ac.analyze(network) for network in plots.zoo_networks()}
    assert drawn.keys() == reports.keys()
    most = max(report.total.activations for report in reports.values())
    largest = max(size for _, _, size in drawn.values())
    for name, report in reports.items():
        x, y, size = drawn[name]
        assert (x, y) == (report.total.macs, report.total.params)
        assert size / largest == pytest.approx(report.total.activations / most)


def test_names_of_bubbles_do_not_overlap() -> None:
    figure = plots.bubbles(*plots.zoo_networks())
    assert_legible(figure)
    written = {text.get_text() for text in words(figure)}
    named = [network.name for network in plots.zoo_networks() if network.name in written]
    assert len(named) > 30
    assert {"ResNet", "VGG", "MobileNet"} <= written


def test_families_have_looks_of_their_own() -> None:
    from archcalc.plots.bubble_chart import _looks

    families = list(dict.fromkeys(entry.family for entry in zoo.ENTRIES.values()))
    looks = [tuple(look.values()) for look in _looks(families).values()]
    assert len(set(looks)) == len(families)


def test_bubbles_by_time_leave_out_what_was_not_timed() -> None:
    records = [timed("vgg19", {}, 0.5), timed("resnet34", {}, 0.25)]
    figure = plots.bubbles(*plots.zoo_networks(), times=records)
    drawn = circles(figure)
    assert drawn.keys() == {"vgg19", "resnet34"}
    assert drawn["vgg19"][2] / drawn["resnet34"][2] == pytest.approx(2)
    assert any("Left out, without a time: lenet5," in text.get_text() for text in words(figure))


def test_bubbles_take_three_quantities() -> None:
    with pytest.raises(InputError, match=r"three quantities .*, not 2: macs, params"):
        plots.bubbles(zoo.vgg19(), quantities=["macs", "params"])
    with pytest.raises(InputError, match="0 buffers, which their area"):
        plots.bubbles(zoo.vgg19(), quantities=["macs", "params", "buffers"])
    with pytest.raises(InputError, match="no network to draw: all have 0 buffers or params"):
        plots.bubbles(zoo.vgg19(), quantities=["buffers", "params", "macs"])


# Drawing


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vgg19", {}),
        ("resnet152", {}),
        ("googlenet", {"depth": 1}),
        ("densenet121", {"layers": "conv", "all_rows": True, "quantities": ["macs"]}),
        ("resnet34", {"quantities": ["tanh", "activations", "frozen"], "convention": "ptflops-aten"}),
        ("mlp", {"quantities": ["params"]}),
    ],
)
def test_words_do_not_overlap(name: str, options: dict[str, Any]) -> None:
    assert_legible(ac.plot(zoo.ENTRIES[name].build(), **options))


def test_the_check_of_overlaps_sees_one() -> None:
    figure = ac.plot(zoo.alexnet())
    first = next(text for text in words(figure) if text.get_text() == "conv1")
    box = first.get_window_extent(figure.renderer)
    figure.write(box.x0 / figure.dpi, box.y0 / figure.dpi, "on top")
    with pytest.raises(AssertionError, match="lies on"):
        assert_legible(figure)


@pytest.mark.parametrize("draw", [lambda: ac.plot(zoo.vgg19()), lambda: plots.bubbles(zoo.vgg19(), zoo.alexnet())])
@pytest.mark.parametrize("format", plots.FORMATS)
def test_a_figure_is_the_same_bytes_each_time(draw: Any, format: str) -> None:
    assert plots.rendered(draw(), format) == plots.rendered(draw(), format)


def test_the_users_settings_neither_change_nor_matter() -> None:
    plain = plots.rendered(ac.plot(zoo.alexnet()), "svg")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        assert plots.rendered(ac.plot(zoo.alexnet()), "svg") == plain
        assert dict(mpl.rcParams) == before


def test_a_notebook_shows_it() -> None:
    assert ac.analyze(zoo.alexnet()).plot()._repr_svg_().startswith("<?xml")


def test_pyplot_is_not_imported() -> None:
    code = "import sys, archcalc as ac; ac.plot(ac.zoo.alexnet()); print('matplotlib.pyplot' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


# The command line


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF")])
def test_the_suffix_names_the_format(name: str, start: bytes, tmp_path: Path) -> None:
    assert command("plot", "alexnet", "--quantities", "macs, params", "--output", tmp_path / name) == 0
    assert (tmp_path / name).read_bytes().startswith(start)


def test_without_a_file_svg_goes_to_what_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("plot", "alexnet") == 0
    assert capsys.readouterr().out == plots.rendered(ac.plot(zoo.alexnet()), "svg").decode()


def test_a_terminal_is_asked_for_a_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert command("plot", "alexnet") == 2
    assert "give one, such as --output plot.svg" in capsys.readouterr().err


def test_the_zoo_and_chosen_networks_as_bubbles(tmp_path: Path) -> None:
    assert command("plot", "zoo", "--output", tmp_path / "zoo.svg") == 0
    assert (tmp_path / "zoo.svg").read_bytes() == plots.rendered(plots.bubbles(*plots.zoo_networks()), "svg")
    assert command("plot", "vgg19", "alexnet", "--bubbles", "--output", tmp_path / "two.svg") == 0
    assert (tmp_path / "two.svg").read_bytes() == plots.rendered(plots.bubbles(zoo.vgg19(), zoo.alexnet()), "svg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vgg19", "--quantities", "mac"], "unknown quantity 'mac'; did you mean 'macs'? There are: cost, activations"),
        (["vgg19", "--quantities", ","], "no quantities; choose from cost,"),
        (["vgg19", "--quantities", "time"], "give --time FILE"),
        (["vgg19", "--convention", "nobody"], "unknown convention 'nobody'"),
        (["vgg19", "--depth", "0"], "--depth is 0"),
        (["vgg19", "--layers", "("], "is not a regular expression"),
        (["vgg19", "--input", "3xHxW"], "a plot takes an input of numbers"),
        (["vgg19", "alexnet", "--depth", "1"], "of several networks the totals are drawn"),
        (["zoo", "--set", "bias=false"], "on their own inputs"),
        (["zoo", "--depth", "1"], "bubbles are of whole networks"),
        (["zoo", "vgg19"], "unknown network 'zoo'"),
    ],
)
def test_bad_input_leaves_no_file(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("plot", *arguments, "--output", tmp_path / "plot.svg") == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("plot.jpg", "cannot draw into plot.jpg: its name must end in .png, .svg, .pdf"),
        ("plot", "cannot draw into plot: its name must end in .png, .svg, .pdf"),
        ("nowhere/plot.svg", "cannot write"),
    ],
)
def test_files_that_cannot_be(file: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("plot", "alexnet", "--output", tmp_path / file) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_it_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['matplotlib'] = None\nfrom archcalc.cli import main\nmain(['plot', 'alexnet'])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == 'archcalc: plots need matplotlib: pip install "archcalc[plot]"\n'


def test_errors_are_archcalcs_own() -> None:
    with pytest.raises(UnknownNameError):
        ac.plot(zoo.vgg19(), quantities=["flops"])
    with pytest.raises(ArchcalcError, match="a network or more"):
        ac.plot()
    with pytest.raises(ArchcalcError, match="a network or more"):
        plots.bubbles()
    assert all(isinstance(bar, Rectangle) for bar in ac.plot(zoo.alexnet()).axes[0].patches)
