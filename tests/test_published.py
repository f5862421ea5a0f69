"""Published figures: each is judged by computation, each erratum's cause gives what was printed, none is left over."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import chain, combinations, groupby, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import archcalc as ac
from archcalc import verdicts
from archcalc.cli import main
from archcalc.errors import InputError, UnknownNameError
from archcalc.printed import Match, read, read_several
from archcalc.verdicts import Judged, judge, typed
from archcalc.zoo.figures import TORCHVISION, Cause, Conflict, Figure, figures, of, plain, report, total
from archcalc.zoo.figures.googlenets import BRANCHES, MODULES, Module
from archcalc.zoo.registry import FAMILIES, find

RECORDS = list(csv.DictReader((Path(__file__).parent / "published.csv").read_text(encoding="utf-8").splitlines()))
EVERY = ac.published().figures
PARAMETERS = Figure("vgg16", "parameters", "138 million", total("params"), "nobody", "weights and biases")


def told(one: Judged) -> str:
    return f"{one.network}: {one.figure.quantity} {one.figure.printed}"


def value(text: str) -> Fraction | tuple[int, ...]:
    return read_several(text) if "×" in text or ", " in text else Fraction(text)


def printed(figure: Figure) -> Fraction | tuple[int, ...]:
    try:
        return read_several(figure.printed)
    except InputError:
        return read(figure.printed, figure.kilo).value


def explained(figure: Figure, erratum: Cause | Conflict) -> int | Fraction | tuple[int, ...]:
    if isinstance(erratum, Conflict):
        return plain(erratum.amount())
    return plain(erratum.amount(report(figure.network, figure.input, **figure.choices)))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record['record']}-{record['quantity']}")
def test_every_record_of_the_list_has_its_figure(record: dict[str, str]) -> None:
    found = [
        one.figure
        for one in EVERY
        if one.figure.network == record["network"]
        and " ".join(f"{name}={typed(choice)}" for name, choice in one.figure.choices.items()) == record["choices"]
        and one.figure.quantity == record["quantity"]
        and printed(one.figure) == value(record["value"])
        and record["source"].lower() in one.figure.source.lower()
    ]
    assert found


def test_the_list_is_whole() -> None:
    assert {int(record["record"]) for record in RECORDS} == set(range(1, 195))


@pytest.mark.parametrize("one", EVERY, ids=told)
def test_no_figure_is_left_unexplained(one: Judged) -> None:
    assert one.kind != "unexplained", one.explanation


@pytest.mark.parametrize("one", [one for one in EVERY if one.figure.erratum], ids=told)
def test_what_explains_an_erratum_gives_its_number(one: Judged) -> None:
    figure, erratum = one.figure, one.figure.erratum
    assert one.kind == "erratum"  # not needed where the number is right
    assert erratum
    computed = explained(figure, erratum)
    assert not isinstance(computed, tuple)
    number = read(figure.printed, figure.kilo, whole=figure.whole)
    if isinstance(erratum, Cause):
        assert number.match(Fraction(computed))
    else:
        assert computed == plain(one.ours)
        assert not number.match(Fraction(computed))


def fire(maps: int, squeezed: int) -> int:
    """1×1 to the squeezed maps, from them four times as many by 1×1 and as many by 3×3."""
    return maps * squeezed + squeezed * 4 * squeezed + 9 * squeezed * 4 * squeezed


# MobileNet V1: maps in, maps out, size of the output
BODY = (
    *((32, 64, 112), (64, 128, 56), (128, 128, 56), (128, 256, 28), (256, 256, 28), (256, 512, 14)),
    *(((512, 512, 14),) * 5),
    *((512, 1024, 7), (1024, 1024, 7)),
)
READ_AND_WRITTEN = (150_528 + 13_547_520 + 1_530_368 + 9_192) + (
    150_528
    + (3_211_264 + 1_605_632 + 2 * 802_816 + 2 * 401_408 + 2 * 100_352)
    + (802_816 + 401_408 + 200_704 + 100_352)
    + (25_088 + 4_096 + 4_096)
)
CAUSES = {
    # figure 2 of the paper: 224·224·3, though 55×55 outputs need 227; 55·48·96 in place of 55·55·96
    ("alexnet", "150,528"): 224 * 224 * 3,
    ("alexnet", "253,440"): 55 * 48 * 96,
    # C1 28·28·6·26, S2 14·14·6·5, C3 10·10·(60·25 + 16), S4 5·5·16·5, C5 120·401, F6 84·121, output 10·84
    ("lenet5", "341k"): 122_304 + 5_880 + 151_600 + 2_000 + 48_120 + 10_164 + 840,
    # the table's volumes (input, convolutions, pools, fc) and what convolutions and fc read: the input, what each
    # convolution puts out that no pool follows, four pools, and pool5, fc6, fc7
    ("vgg16", "24M"): READ_AND_WRITTEN,
    ("vgg16", "96MB"): 4 * 24_000_000,
    ("vgg16", "93MB"): 4 * READ_AND_WRITTEN,
    # 28·28·(256·(64 + 64 + 128 + 64) + 9·64·192 + 25·64·96) and once more 28·28·9·64·192
    ("inception-reduced", "358M"): 784 * (256 * 320 + 9 * 64 * 192 + 25 * 64 * 96) + 784 * 9 * 64 * 192,
    ("googlenet", "2.7K"): 7 * 7 * 3 * 8 + 24 * 64 + 64,
    ("googlenet", "34M"): 112 * 112 * (7 * 7 * 3 * 8 + 24 * 64),
    ("googlenet", "380K"): 256 * (128 + 128 + 32 + 64) + 9 * 128 * 192 + 25 * 32 * 96 + 640,
    ("googlenet", "364K"): 480 * (160 + 96 + 24 + 64) + 9 * 96 * 208 + 25 * 24 * 48,
    ("googlenet", "437K"): 512 * (192 + 112 + 16 + 64) + 9 * 112 * 224 + 25 * 16 * 64,
    ("googlenet", "54M"): 7 * 7 * 1072 * 1024,
    # of 14·14 a pooling that does not round up leaves (14 − 3)//2 + 1 = 6 a side
    ("googlenet", "1550 million"): 118_013_952
    + 359_661_568
    + 784 * (163_328 + 388_096)
    + 196 * (375_552 + 448_512 + 509_440 + 604_672 + 867_328)
    + 36 * (1_042_432 + 1_442_816)
    + 1_024_000,
    # (112 − 3)//2 + 1 = 55, then 27, 13, 6
    ("googlenet", "1.43G"): 112**2 * 9_408
    + 55**2 * 114_688
    + 27**2 * (163_328 + 388_096)
    + 13**2 * (375_552 + 448_512 + 509_440 + 604_672 + 867_328)
    + 6**2 * (1_042_432 + 1_442_816)
    + 1_024_000,
    ("googlenet", "1502M"): (34 + 360 + 128 + 304 + 73 + 88 + 100 + 119 + 170 + 54 + 71 + 1) * 10**6,
    ("googlenet", "6.8 million"): 2700 + 1000 * (112 + 159 + 380 + 364 + 437 + 463 + 580 + 840 + 1072 + 1388 + 1000),
    # three stages of 111 bottlenecks (w, w, 4w), the first of each on fewer maps and with a projection
    ("resnet1202", "10.2M"): 3 * 3 * 3 * 16
    + sum(
        (first * w + 9 * w * w + 4 * w * w) + first * 4 * w + 110 * (4 * w * w + 9 * w * w + 4 * w * w)
        for first, w in ((16, 16), (64, 32), (128, 64))
    )
    + 256 * 10
    + 10,
    # on 227×227: conv1 111·111, fire2 to 4 55·55, fire5 to 8 27·27, fire9 and conv10 13·13
    ("squeezenet1-0", "1700 million"): 2
    * (
        111**2 * 7 * 7 * 3 * 96
        + 55**2 * (fire(96, 16) + fire(128, 16) + fire(128, 32))
        + 27**2 * (fire(256, 32) + fire(256, 48) + fire(384, 48) + fire(384, 64))
        + 13**2 * (fire(512, 64) + 512 * 1000)
    ),
    # 112·112·32·27 = 10,838,016 of 568,740,352 is 1.9056 %, rounded 1.91
    ("mobilenet-v1", "1.19%"): Fraction(119, 10_000),
    ("mobilenet-v1", "4866 million"): 112**2 * 27 * 32 + sum(9 * seen * made * size**2 for seen, made, size in BODY),
    # half as many maps; the weights of all convolutions and the classifier with its biases
    ("mobilenet-v1", "1.32 million"): 27 * 16
    + sum(9 * seen // 2 + seen // 2 * made // 2 for seen, made, _ in BODY)
    + 512 * 1000
    + 1000,
    # torchvision's 3,504,872 less a scale and a shift for each map: of conv1, of the first block, of those with six
    # times as many maps inside as come in, and of the last convolution
    ("mobilenet-v2", "3.4 million"): 3_504_872
    - 2
    * (
        32
        + (32 + 16)
        + 2 * 6 * (16 + 2 * 24 + 3 * 32 + 4 * 64 + 3 * 96 + 3 * 160)
        + (2 * 24 + 3 * 32 + 4 * 64 + 3 * 96 + 3 * 160 + 320)
        + 1280
    ),
}
CONFLICTS = {
    ("googlenet", "463K"): 512 * (128 + 128 + 24 + 64) + 9 * 128 * 256 + 25 * 24 * 64,
    ("googlenet", "580K"): 512 * (112 + 144 + 32 + 64) + 9 * 144 * 288 + 25 * 32 * 64,
    ("googlenet", "840K"): 528 * (256 + 160 + 32 + 128) + 9 * 160 * 320 + 25 * 32 * 128,
    ("googlenet", "1072K"): 832 * (256 + 160 + 32 + 128) + 9 * 160 * 320 + 25 * 32 * 128,
    ("googlenet", "1388K"): 832 * (384 + 192 + 48 + 128) + 9 * 192 * 384 + 25 * 48 * 128,
}


def test_errata_are_these_and_no_others() -> None:
    found: dict[type, dict[tuple[str, str], object]] = {Cause: {}, Conflict: {}}
    for one in EVERY:
        figure = one.figure
        if figure.erratum:
            found[type(figure.erratum)][figure.network, figure.printed] = explained(figure, figure.erratum)
    assert found == {Cause: CAUSES, Conflict: CONFLICTS}


def exchanges(one: Module, other: Module) -> Iterator[tuple[str, ...]]:
    """The branches that two rows of GoogLeNet's table 1 can exchange."""
    differing = [
        branch
        for branch, mine, theirs in zip(BRANCHES, one.filters.split(", "), other.filters.split(", "), strict=True)
        if mine != theirs
    ]
    return chain.from_iterable(combinations(differing, size) for size in range(1, len(differing) + 1))


def test_one_exchange_of_filters_gives_the_parameters_of_two_rows_and_their_operations() -> None:
    def gives(module: Module, other: Module, branches: tuple[str, ...]) -> bool:
        weights = plain(module.exchanged(other, branches))
        assert isinstance(weights, int)
        return read(module.params, 1024, whole=True).match(Fraction(weights)) is not None

    found = [
        (name, branches)
        for (name, one), other in pairwise(MODULES.items())
        for branches in exchanges(one, other[1])
        if gives(one, other[1], branches) and gives(other[1], one, branches)
    ]
    assert found == [("4a", ("conv1x1", "reduce5x5"))]
    # at 14·14 positions: 73.23 and 87.81 million, printed 73M and 88M
    assert read("73M", whole=True).match(Fraction(196 * 373_632)) == Match("rounds to it", 2)
    assert read("88M", whole=True).match(Fraction(196 * 448_000)) == Match("rounds to it", 2)


@pytest.mark.parametrize("one", [one for one in EVERY if one.figure.source == TORCHVISION], ids=told)
def test_figures_of_torchvision_are_those_of_its_weights(one: Judged) -> None:
    models = pytest.importorskip("torchvision.models")
    reference = find(one.figure.network).reference(one.figure.choices)
    assert reference
    weights = models.get_model_weights(reference.model).DEFAULT
    counts = {weights.meta["num_params"], Fraction(str(weights.meta["_ops"])) * 10**9}
    assert printed(one.figure) in counts


@pytest.mark.parametrize("module", FAMILIES)
def test_figures_live_with_the_entries_they_describe(module: str) -> None:
    assert {figure.network for figure in figures(module)} <= set(FAMILIES[module])
    for name in FAMILIES[module]:
        assert find(name).figures == tuple(figure for figure in figures(module) if figure.network == name)


def test_entries_of_others_have_no_figures() -> None:
    def recipe() -> ac.Network:
        return find("vgg16").build()

    assert replace(find("vgg16"), recipe=recipe).figures == ()


# Verdicts


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("138,357,544", "exact"),
        ("138 million", "rounds to it (3 digits)"),
        ("140 million", "rounds to it (2 digits)"),
        ("138.3M", "truncates to it (4 digits)"),
        ("139 million", "unexplained"),
        ("138,357,545", "unexplained"),
    ],
)
def test_the_verdict_is_computed(text: str, verdict: str) -> None:
    assert judge(replace(PARAMETERS, printed=text)).verdict == verdict


@pytest.mark.parametrize(
    ("erratum", "kind"),
    [
        (Cause("its double", lambda one: 2 * one.total.params), "erratum"),
        (Cause("its triple", lambda one: 3 * one.total.params), "unexplained"),
        (Conflict("138,344,128 weights and 13,416 biases", lambda: 138_344_128 + 13_416), "erratum"),
        (Conflict("138,344,128 weights", lambda: 138_344_128), "unexplained"),
    ],
)
def test_an_erratum_is_one_only_if_its_reason_computes(erratum: Cause | Conflict, kind: str) -> None:
    one = judge(replace(PARAMETERS, printed="277 million", erratum=erratum))
    assert one.kind == kind
    assert "printed 277 million" in one.explanation


def test_a_shape_is_exact_or_nothing() -> None:
    shape = replace(PARAMETERS, printed="7×7×512", amount=lambda _: (7, 7, 512))
    assert judge(shape).kind == "exact"
    assert judge(replace(shape, printed="7×7×256")).kind == "unexplained"


def test_zeros_at_the_end_count_where_the_column_is_whole() -> None:
    figure = replace(PARAMETERS, printed="840K", amount=lambda _: 847 * 1024, kilo=1024)
    assert judge(replace(figure, printed="850K")).digits == 2
    assert judge(replace(figure, whole=True)).kind == "unexplained"
    assert judge(replace(figure, printed="847K", whole=True)).kind == "exact"


# Printed numbers


@pytest.mark.parametrize(
    ("text", "number", "match"),
    [
        ("650,000", 659_272, Match("truncates to it", 2)),
        ("650,000", 654_999, Match("rounds to it", 2)),
        ("60 million", 65_000_000, Match("truncates to it", 1)),
        ("60 million", 64_999_999, Match("rounds to it", 1)),
        ("60 million", 59_500_000, Match("rounds to it", 2)),
        ("60 million", 54_999_999, None),
        ("0.27M", 275_000, Match("truncates to it", 2)),
        ("0.27M", 265_000, Match("rounds to it", 2)),
        ("1.50G", 1_540_000_000, None),
        ("1.5G", 1_540_000_000, Match("rounds to it", 2)),
        ("thirteen", 13, Match("exact")),
        ("27C²", 27, Match("exact")),
    ],
)
def test_matches(text: str, number: int, match: Match | None) -> None:
    assert read(text).match(Fraction(number)) == match


@pytest.mark.parametrize(("kilo", "kind"), [(1000, None), (1024, "exact")])
def test_k_is_what_the_source_says(kilo: int, kind: str | None) -> None:
    match = read("112K", kilo).match(Fraction(114_688))
    assert (match.kind if match else None) == kind


@given(st.integers(1, 10**12), st.integers(0, 3))
def test_what_is_rounded_or_cut_off_is_recognised(number: int, decimals: int) -> None:
    millions = Decimal(number) / 10**6
    place = Decimal(1).scaleb(-decimals)
    for mode, kinds in (
        (ROUND_HALF_UP, {"exact", "rounds to it"}),
        (ROUND_DOWN, {"exact", "rounds to it", "truncates to it"}),
    ):
        text = f"{millions.quantize(place, mode)}M"
        match = read(text).match(Fraction(number))
        assert match, text
        assert match.kind in kinds


@given(st.integers(10**6, 10**9), st.integers(1, 5))
def test_what_is_off_by_more_than_a_digit_is_not(number: int, more: int) -> None:
    text = f"{Decimal(number).scaleb(-6).quantize(Decimal('0.01')) + more * Decimal('0.01')}M"
    match = read(text).match(Fraction(number - number % 10**4))
    assert match is None or match.digits < len(text) - 2


@pytest.mark.parametrize("text", ["", "many", "60 millions", "1.2.3", "-5", "1,00"])
def test_what_is_no_number_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="cannot read the printed number"):
        read(text)


@pytest.mark.parametrize("text", ["", "7", "7×", "7×7, 5", "a×b"])
def test_what_is_no_shape_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="cannot read the printed numbers"):
        read_several(text)


# The command, and Python


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["published", *arguments])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_the_command_explains_everything(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert out.rstrip().endswith(f"| {len(EVERY):>7}")
    assert "55*48*96 = 253,440" in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "inception", "--format", "json")
    record = json.loads(out)
    assert code == 0
    assert record["schema"] == "archcalc.published/1"
    (erratum,) = (figure for figure in record["figures"] if figure["verdict"] == "erratum")
    assert erratum["ours"] == 271_351_808
    assert erratum["printed"] == "358M"
    assert "358,055,936" in erratum["explanation"]
    assert record["counts"]["erratum"] == 1


@pytest.mark.parametrize("format", ["markdown", "latex", "csv", "html"])
def test_formats(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "alexnet", "--format", format)
    assert code == 0
    assert "Krizhevsky" in out


def test_an_unexplained_figure_is_shown_and_ends_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        verdicts, "figures", lambda module: (replace(PARAMETERS, printed="1M"),) if module == "vgg" else ()
    )
    code, out, _ = run(capsys)
    assert code == 1
    assert "1 unexplained" in out
    assert "ours 138,357,544" in out


def test_a_target_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "vgg91")
    assert (code, out) == (2, "")
    assert "'vgg19'" in err


def test_a_target_is_a_family_or_an_entry() -> None:
    def networks(target: str) -> set[str]:
        return {one.figure.network for one in ac.published(target).figures}

    assert networks("alexnet") == networks("AlexNet") == {"alexnet", "alexnet-torchvision"}
    assert networks("vgg16") == {"vgg16"}
    assert networks("alexnet_torchvision") == {"alexnet-torchvision"}
    assert networks("ResNet for CIFAR") == networks("resnet-for-cifar") >= {"resnet20", "resnet1202"}
    with pytest.raises(UnknownNameError):
        ac.published("")


def test_figures_are_grouped_by_network_and_choices() -> None:
    groups = [name for name, _ in groupby(one.network for one in EVERY)]
    assert len(groups) == len(set(groups))


def test_the_function_stays_a_function() -> None:
    assert ac.published("overfeat") == ac.published("overfeat")
    assert str(ac.published("overfeat")).startswith("overfeat: 2 published figures")


def test_figures_are_loaded_only_by_those_who_ask() -> None:
    code = "import archcalc, sys; archcalc.analyze(archcalc.zoo.vgg19()); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "archcalc.zoo.vgg" in loaded
    assert "figures" not in loaded
    assert "verdicts" not in loaded


@pytest.mark.parametrize("amount", [of("conv1_1", "weights"), total("weights")])
def test_amounts_are_numbers_of_the_report(amount: Callable[[ac.Report], object]) -> None:
    network = report("vgg16")
    assert plain(amount(network)) in (1728, network.total.weights)  # type: ignore[arg-type]


def test_on_a_terminal_each_network_has_a_narrow_table_with_its_sources_and_errata_below() -> None:
    naive, reduced, *_, counts = ac.published("inception").by_network()
    assert [column.header for column in naive.columns] == ["quantity", "printed", "ours", "verdict", "from"]
    assert naive.rows[0] == ("convolution operations", "854M", 854_196_224, "rounds to it (3 digits)", "[1]")
    assert naive.notes[0] == "[1] CS231n 2017, lecture 9: multiply-adds, no biases"
    assert reduced.rows[0][3] == "erratum"
    assert any("= 358,055,936; right is 271,351,808" in note for note in reduced.notes)
    assert counts.total == ("total", len(ac.published("inception").figures))


def test_no_table_of_a_network_is_wider_than_120_columns() -> None:
    grids = [replace(table, title="", notes=()).to_terminal() for table in ac.published().by_network()]
    assert max(len(line) for grid in grids for line in grid.splitlines()) <= 120


def test_other_formats_have_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "inception", "--format", "csv")
    header, *rows = out.splitlines()
    assert header == "network,quantity,printed,ours,verdict,convention,source"
    assert len(rows) == len(ac.published("inception").figures)
