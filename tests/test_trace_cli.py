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

class Broken(nn.Module):
    def __init__(self):
        raise OSError("no weights here")

class Two(nn.Module):
    def forward(self, a, b):
        return a + b

class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyLinear(3))

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
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("my_traced_models", "my_broken_module"):
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


# Uncounted operations


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
        ("torch::resnet18", ["write torch:package.module:callable"]),
        ("torch:no_such_package:thing", ["cannot import no_such_package"]),
        ("torch:my_broken_module:thing", ["my_broken_module", "a_package_that_is_not_there"]),
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
