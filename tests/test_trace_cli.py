"""Targets `torch:package.module:callable` on the command line: every command, every format, bad input."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

import archcalc  # noqa: E402
import archcalc.pytorch  # noqa: E402
from tests.conftest import Shell  # noqa: E402

RESNET = "torch:torchvision.models:resnet18"
FORMATS = ("table", "markdown", "latex", "csv", "json", "html")

MODELS = """
from dataclasses import dataclass

import torch
from torch import nn

class Small(nn.Module):
    def __init__(self, width=8, bias=True):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, bias=bias)
        self.fc = nn.Linear(width, 2)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))

class Spectrum(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return torch.fft.fft2(self.conv(x)).real

class Fails(nn.Module):
    def forward(self, x):
        raise ValueError("a reason of its own")

class Finds(nn.Module):
    def forward(self, x):
        return x[x.nonzero(as_tuple=True)].sum()

class Leaves(nn.Module):
    def forward(self, x):
        raise SystemExit(3)

class LeavesWithData(nn.Module):
    def forward(self, x):
        if not x.is_meta:
            raise SystemExit(3)
        return x + 1

class LeavesAtOnce(nn.Module):
    def __init__(self):
        raise SystemExit(3)

class Broken(nn.Module):
    def __init__(self):
        raise OSError("no weights here")

class Two(nn.Module):
    def forward(self, a, b):
        return a + b

class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyLinear(3))

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.lstm = nn.LSTM(16, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, ids, mask=None):
        x = self.embed(ids)
        if mask is not None:
            x = x.masked_fill(~mask[..., None], 0)
        y, state = self.lstm(x)
        return {"logits": self.head(y), "state": state}

@dataclass
class Pair:
    first: torch.Tensor
    second: torch.Tensor
    third: object = None

class Dual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 5)
        self.b = nn.Linear(6, 7)

    def forward(self, x, y):
        print("a remark of the module")
        return Pair(self.a(x), self.b(y))

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(3, 4))

    def forward(self, x):
        return nn.functional.linear(x, self.w)

class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.own = Own()

    def forward(self, x):
        y = self.own(x) + self.own(2 * x)
        return y, y.detach()

class OnData(nn.Module):
    def forward(self, x):
        if not x.is_meta:
            raise KeyError("not on real data")
        return 2 * x

class Holds(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 4), OnData())

class Fickle(nn.Module):
    def forward(self, x):
        return {"a": x + 1, "b": x[:, :2] * 2 if x.is_meta else x[:, :3] * 2}

class Asks(nn.Module):
    def forward(self, x):
        return x + 1 if x.sum() > 100 else x * 2

made = Small()
number = 3

def not_a_module():
    return 3
"""


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of the user's own in the folder where archcalc is called."""
    (tmp_path / "my_traced_models.py").write_text(MODELS)
    (tmp_path / "my_broken_module.py").write_text("import a_package_that_is_not_there\n")
    (tmp_path / "my_script.py").write_text("import sys\nsys.exit(2)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("my_traced_models", "my_broken_module", "my_script"):
        sys.modules.pop(name, None)


def data(text: str) -> Any:
    return json.loads(text)


# Commands


@pytest.mark.parametrize("format", FORMATS)
def test_show(shell: Shell, format: str) -> None:
    out = shell.ok("show", RESNET, "--input", "3x64x64", "--format", format)
    if format == "json":
        assert data(out)["total"]["params"] == 11_689_512
        assert data(out)["input"] == [1, 3, 64, 64]
    elif format == "csv":
        assert len(list(csv.DictReader(io.StringIO(out)))) >= 60
    else:
        assert "11,689,512" in out.replace("{,}", ",")
        assert "layer4.1.conv2" in out.replace(r"\_", "_")


@pytest.mark.parametrize(
    ("model", "known"), [("resnet34", "resnet34"), ("resnet50", "resnet50"), ("alexnet", "alexnet-torchvision")]
)
def test_show_and_the_zoo_agree_row_for_row(shell: Shell, model: str, known: str) -> None:
    columns = "kind,output,activations,weights,biases,buffers,macs,receptive_field,jump"
    traced = shell.ok("show", f"torch:torchvision.models:{model}", "--format", "csv", "--columns", columns)
    assert traced == shell.ok("show", known, "--format", "csv", "--columns", columns)


@pytest.mark.parametrize("options", [("--depth", "1"), ("--working",), ("--convention", "flop"), ("--batch", "4")])
def test_show_takes_the_options_it_takes_for_the_zoo(shell: Shell, options: tuple[str, ...]) -> None:
    assert shell.ok("show", RESNET, "--input", "3x64x64", *options)


def test_show_with_letters(shell: Shell) -> None:
    record = data(shell.ok("show", RESNET, "--input", "3xHxW", "--batch", "N", "--format", "json"))
    assert record["total"]["params"] == 11_689_512
    assert record["input"] == ["N", 3, "H", "W"]


@pytest.mark.parametrize("format", FORMATS)
def test_explain(shell: Shell, format: str) -> None:
    out = shell.ok("explain", RESNET, "layer1.0.conv1", "--format", format)
    # 64 channels, 3·3·64 weights each; on 56·56 outputs
    number = 64 * 9 * 64 * 56 * 56
    assert str(number) in re.sub(r"[,{}\s]", "", out)


def test_explain_everything(shell: Shell) -> None:
    assert "self_attention" in shell.ok("explain", "torch:torchvision.models:vit_b_16")


def test_export_writes_what_show_reads(shell: Shell, tmp_path: Path) -> None:
    file = str(tmp_path / "resnet.yaml")
    shell.ok("export", RESNET, "--output", file)
    again, traced = archcalc.analyze(archcalc.load(file)), json.loads(shell.ok("show", RESNET, "--format", "json"))
    assert again.total.params == traced["total"]["params"] == 11_689_512  # torchvision's table of its weights
    assert again.total.macs == traced["total"]["macs"]


@pytest.mark.parametrize("format", FORMATS)
def test_compare(shell: Shell, format: str) -> None:
    out = shell.ok("compare", RESNET, "resnet34", "torch:torchvision.models:vgg11", "--format", format)
    assert "11689512" in re.sub(r"[,{}\s]", "", out)


@pytest.mark.parametrize("format", FORMATS)
def test_check(shell: Shell, format: str) -> None:
    assert shell.ok("check", RESNET, "--input", "3x64x64", "--device", "cpu", "--format", format)


@pytest.mark.parametrize("model", ["vit_b_16", "mobilenet_v3_small", "googlenet", "swin_t"])
def test_check_of_models_exits_0(shell: Shell, model: str) -> None:
    shell.ok("check", f"torch:torchvision.models:{model}", "--device", "cpu")


@pytest.mark.parametrize("format", FORMATS)
def test_time(shell: Shell, format: str) -> None:
    out = shell.ok(
        *("time", "torch:my_traced_models:Small", "--input", "3x16x16", "--device", "cpu", "--seconds", "0.01"),
        *("--layers", "--format", format),
    )
    assert "conv" in out or format == "csv"


def test_settings_are_the_callables_arguments(shell: Shell) -> None:
    out = shell.ok(
        "show", "torch:my_traced_models:Small", "--set", "width=5", "--set", "bias=false", "--format", "json"
    )
    assert data(out)["total"]["params"] == 5 * 27 + 5 * 2 + 2


def test_module_object_is_a_target(shell: Shell) -> None:
    out = shell.ok("show", "torch:my_traced_models:made", "--input", "3x16x16", "--format", "json")
    assert data(out)["total"]["params"] == 8 * 27 + 8 + 8 * 2 + 2


def test_name_is_the_callables(shell: Shell) -> None:
    assert data(shell.ok("show", RESNET, "--format", "json"))["network"] == "resnet18"


# Inputs

MINE = "torch:my_traced_models"
WORDS = 50 * 16 + 4 * 8 * (16 + 8) + 2 * 4 * 8 + 8 * 3 + 3
"""Embedding; weights and both biases of the LSTM's four gates; head."""


def macs(record: Any) -> int:
    [found] = [one["ours"] for one in record[0]["comparisons"] if one["what"] == "MACs (torch)"]
    return int(found)


@pytest.mark.parametrize(
    ("target", "options", "wanted"),
    [
        # 2 images of 12 steps; 4·8 gates on 16 + 8 inputs, then 8·3
        ("Words", ("12:int64",), 2 * 12 * (32 * 24 + 24)),
        ("Words", ("ids=12:int64", "mask=12:bool"), 2 * 12 * (32 * 24 + 24)),
        ("Words", ("mask=12:bool", "ids=2x12:int32:nobatch"), 2 * 12 * (32 * 24 + 24)),
        ("Dual", ("4", "6"), 2 * (4 * 5 + 6 * 7)),
        ("Dual", ("y=6", "x=3x4"), 2 * (3 * 4 * 5 + 6 * 7)),
        ("Own", ("4",), 2 * 4 * 3),
        ("Twice", ("4",), 2 * 2 * 4 * 3),
    ],
)
def test_check_with_several_inputs_ids_keywords_and_outputs(
    shell: Shell, target: str, options: tuple[str, ...], wanted: int
) -> None:
    inputs = [word for option in options for word in ("--input", option)]
    ran = shell("check", f"{MINE}:{target}", *inputs, "--batch", "2", "--device", "cpu", "--format", "json")
    record = json.loads(ran.out)
    assert (ran.status, record[0]["ok"], macs(record)) == (0, True, wanted)
    assert all(one["mismatches"] == [] for one in record[0]["comparisons"])
    assert ran.err.replace("a remark of the module\n", "") == ""


def test_check_names_all_inputs(shell: Shell) -> None:
    ran = shell("check", f"{MINE}:Dual", "--input", "4", "--input", "6", "--batch", "2", "--device", "cpu")
    assert ran.out.startswith("dual on 2x4 and 2x6, cpu\n")


def test_check_of_a_module_that_is_one_layer(shell: Shell) -> None:
    made = ("torch:torch.nn:Linear", "--set", "in_features=8", "--set", "out_features=4", "--input", "8")
    [record] = data(shell.ok("check", *made, "--device", "cpu", "--format", "json"))
    equal = {one["what"]: (one["layers_equal"], one["layers_compared"]) for one in record["comparisons"]}
    assert equal["output elements"] == equal["weights"] == equal["biases"] == equal["MACs (torch)"] == (1, 1)
    times = data(shell.ok("time", *made, "--device", "cpu", "--seconds", "0.01", "--layers", "--format", "json"))
    assert [(one["name"], one["macs"]) for one in times[0]["layers"]] == [("linear", 8 * 4)]


def test_every_output_is_compared(shell: Shell) -> None:
    ran = shell("check", f"{MINE}:Fickle", "--input", "4", "--device", "cpu")
    assert ran.status == 1
    assert "output of the network: archcalc 1x4 and 1x2, module 1x4 and 1x3" in ran.out


@pytest.mark.parametrize("command", ["show", "explain", "compare", "time"])
def test_commands_take_several_inputs(shell: Shell, command: str) -> None:
    targets = (f"{MINE}:Words",) * (2 if command == "compare" else 1)
    more = ("--device", "cpu", "--seconds", "0.01", "--layers") if command == "time" else ()
    out = shell.ok(command, *targets, "--input", "ids=12:int64", "--input", "mask=12:bool", *more, "--format", "json")
    if command == "show":
        assert data(out)["total"]["params"] == WORDS
    if command == "time":
        layers = {one["name"]: one["macs"] for one in data(out)[0]["layers"]}
        masks = {"unsqueeze": 0, "bitwise_not": 0, "masked_fill": 0}
        assert layers == {"embed": 0, "lstm": 12 * 32 * 24, "head": 12 * 24} | masks


def test_calls_of_a_module_are_timed_apart_as_they_are_counted(shell: Shell) -> None:
    options = ("--device", "cpu", "--seconds", "0.01", "--layers", "--format", "json")
    out = shell.ok("time", f"{MINE}:Twice", "--input", "4", *options)
    products = [(one["rows"], one["macs"]) for one in data(out)[0]["layers"] if one["macs"]]
    assert products == [(["own.t", "own.mm"], 4 * 3), (["own.t:2", "own.mm:2"], 4 * 3)]


@pytest.mark.filterwarnings("default")
def test_a_module_that_needs_data_is_traced_with_it_and_that_is_said(shell: Shell) -> None:
    ran = shell("show", f"{MINE}:Asks", "--input", "4")
    assert ran.status == 0
    assert re.fullmatch(r"archcalc: warning: asks cannot run without data .*; traced with real tensors\n", ran.err)


# Uncounted operations


@pytest.mark.filterwarnings("default:.*cannot run without data")
def test_a_warning_is_said_once_by_its_first_sentence(shell: Shell) -> None:
    ran = shell("why", "torch:my_traced_models:Finds", "fvcore", "--input", "4")
    assert ran.err.count("warning") == 1
    assert re.search(r"cannot run without data \(The register_meta [^.]*torch.nonzero[^.]*\); traced with", ran.err)


def test_totals_read_at_least(shell: Shell) -> None:
    out = shell.ok("show", "torch:my_traced_models:Spectrum", "--input", "3x16x16")
    assert "at least" in out
    assert "fft" in out
    record = data(shell.ok("show", "torch:my_traced_models:Spectrum", "--input", "3x16x16", "--format", "json"))
    [layer] = [layer for layer in record["layers"] if not layer["counted"]]
    assert "fft" in layer["kind"]
    assert layer["output"] == [1, 4, 16, 16]
    assert len(record["uncounted"]) == 1
    assert record["total"]["macs"] == 12 * 256


def test_strict_exits_with_1_on_uncounted_operations(shell: Shell) -> None:
    ran = shell("show", "torch:my_traced_models:Spectrum", "--input", "3x16x16", "--strict")
    assert (ran.status, ran.err) == (1, "")
    assert "fft" in ran.out
    shell.ok("show", "torch:my_traced_models:Small", "--input", "3x16x16", "--strict")


# Bad input


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("torch:", ["write torch:package.module:callable"]),
        ("torch:torchvision.models", ["write torch:package.module:callable"]),
        ("my_traced_models:Small", ["a PyTorch module is written torch:my_traced_models:Small"]),
        ("torch:my_traced_models.py:Small", ["as Python imports it: torch:my_traced_models:Small"]),
        ("torch:./models/small.py:Small", ["as Python imports it: torch:models.small:Small"]),
        ("torch::resnet18", ["write torch:package.module:callable"]),
        ("torch:no_such_package:thing", ["cannot import no_such_package"]),
        ("torch:my_broken_module:thing", ["my_broken_module", "a_package_that_is_not_there"]),
        ("torch:my_script:Net", ["cannot import my_script: SystemExit: 2"]),
        ("torch:my_traced_models:Leaves", ["Leaves", "SystemExit"]),
        ("torch:my_traced_models:LeavesAtOnce", ["torch:my_traced_models:LeavesAtOnce raised SystemExit: 3"]),
        ("torch:torchvision.models:resnet19", ["resnet19", "resnet18"]),
        ("torch:my_traced_models:Smal", ["Smal", "Small"]),
        ("torch:my_traced_models:number", ["int", "neither a module nor"]),
        ("torch:my_traced_models:not_a_module", ["int", "not an nn.Module"]),
        ("torch:my_traced_models:Fails", ["Fails", "1×3×224×224", "a reason of its own"]),
        ("torch:my_traced_models:Broken", ["Broken", "no weights here"]),
        ("torch:my_traced_models:Two", ["Two", "missing", "'b'"]),
        ("torch:my_traced_models:Lazy", ["lazy"]),
        ("torch:torch.nn:Linear", ["in_features"]),
    ],
)
@pytest.mark.parametrize("command", ["show", "check"])
def test_target_that_cannot_be_traced(shell: Shell, command: str, target: str, words: list[str]) -> None:
    message = shell.refused(command, target)
    assert all(word in message for word in words), message


@pytest.mark.parametrize("command", ["show", "explain", "compare", "check", "time"])
def test_wrong_number_of_channels(shell: Shell, command: str) -> None:
    message = shell.refused(command, RESNET, "--input", "4x64x64")
    assert "conv1 (Conv2d)" in message
    assert "1×4×64×64" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("Dual", "4"), ["dual (Dual)", "1×4", "missing", "'y'"]),
        (("Dual", "4", "6", "7"), ["dual (Dual)", "1×4 and 1×6 and 1×7", "takes 3 positional arguments"]),
        (("Dual", "x=4", "z=6"), ["dual (Dual)", "1×4 and 1×6", "unexpected keyword argument 'z'"]),
        (("Twice", "5"), ["own (Own)", "1×5"]),
        (("Words", "12"), ["embed (Embedding)", "1×12", "float32"]),
        (("Words", "12:int63"), ["unknown dtype 'int63'", "int64"]),
        (("Words", "12:int64:int32"), ["one dtype and nobatch at most"]),
        (("Words", "1d=12:int64"), ["'1d' is not the name of an argument"]),
        (("Words", "=12:int64"), ["'' is not the name of an argument"]),
        (("Words", "ids=12:int64", "ids=12:int64"), ["ids more than once"]),
        (("Words", "ids=:int64"), ["'ids=:int64': it has no extents", "is ids=3:int64:nobatch"]),
        (("Words", "name=12:int64"), ["called name"]),
        (("Dual", "A", "B"), ["A is a letter", "2 inputs"]),
    ],
)
def test_inputs_that_cannot_be(shell: Shell, arguments: tuple[str, ...], words: list[str]) -> None:
    target, *inputs = arguments
    for command in ("show", "check"):
        message = shell.refused(command, f"{MINE}:{target}", *(word for one in inputs for word in ("--input", one)))
        assert all(word in message for word in words), message


@pytest.mark.parametrize("options", ["3x64x64:int64", "x=3x64x64", "3x64x64:nobatch"])
def test_zoo_networks_take_one_input_of_extents(shell: Shell, options: str) -> None:
    for more in ((), ("--input", options)):
        assert "vgg19 takes one --input of extents alone" in shell.refused("show", "vgg19", "--input", options, *more)


@pytest.mark.parametrize("command", ["check", "time"])
def test_a_module_that_fails_on_real_data_is_named(shell: Shell, command: str) -> None:
    message = shell.refused(command, "torch:my_traced_models:LeavesWithData", "--input", "4", "--device", "cpu")
    assert "SystemExit: 3" in message
    message = shell.refused(command, f"{MINE}:Holds", "--input", "4", "--device", "cpu")
    assert message == "1 (OnData) received 1×4 and failed with KeyError: 'not on real data'"


def test_input_that_is_too_small(shell: Shell) -> None:
    message = shell.refused("show", "torch:torchvision.models:alexnet", "--input", "3x16x16")
    assert "features." in message
    assert "×" in message


def test_setting_there_is_not(shell: Shell) -> None:
    assert "wdth" in shell.refused("show", "torch:my_traced_models:Small", "--set", "wdth=5")
    assert "--set" in shell.refused("show", "torch:my_traced_models:made", "--set", "width=5")


def test_refused_output_is_not_written(shell: Shell, tmp_path: Path) -> None:
    shell.refused("show", "torch:my_traced_models:Fails", "--output", str(tmp_path / "report.txt"))
    assert not (tmp_path / "report.txt").exists()


def test_torch_target_without_torch(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archcalc, "pytorch", archcalc.pytorch)  # which importing it again replaces
    for name in [name for name in sys.modules if name.startswith("archcalc.pytorch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install" in shell.refused("show", RESNET)
