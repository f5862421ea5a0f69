"""Why: numbers of other counters, explained to the last unit."""

import dataclasses
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archcalc.conventions import CONVENTIONS, Cause
from archcalc.errors import CheckError, InputError, MissingPackageError, UnknownNameError
from archcalc.pytorch.counters import COUNTERS, Counted, installed
from archcalc.pytorch.counters import base as counters
from archcalc.pytorch.why import Why, why, why_target
from archcalc.targets import resolve
from tests.conftest import Shell

TOOLS = ("torch", "fvcore", "torchinfo")


class Small(nn.Module):
    """4·3·3·3 = 108 weights on 7·7 outputs, 4 channels normalised, and a fully connected layer on what is averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc(self.pool(self.norm(self.conv(x))).flatten(1))
        return found


X = torch.zeros(1, 3, 9, 9)
MACS = 108 * 49 + 4 * 2
PARAMS = 108 + 4 + 8 + 8 + 2


@pytest.fixture(scope="module")
def found() -> Why:
    return why(Small(), X, TOOLS)


def test_what_each_tool_adds(found: Why) -> None:
    assert (found.macs, found.params) == (MACS, PARAMS)
    numbers = {one.tool: one.counted.total for one in found.accounts if one.counted}
    # fvcore: 2 for each of 4·49 normalised elements and 1 for each that is averaged;
    # torchinfo: 4·49 + 2 biases and 8 parameters of the norm
    assert numbers == {"torch": MACS, "fvcore": MACS + 2 * 196 + 196, "torchinfo": MACS + 196 + 2 + 8}
    assert [one.remainder for one in found.accounts] == [0, 0, 0]
    assert [one.params_remainder for one in found.accounts] == [None, 0, 0]
    assert found.ok


def test_the_causes_say_where(found: Why) -> None:
    fvcore = found.accounts[1]
    assert [(item.amount, item.rows) for item in fvcore.items] == [(392, ("norm",)), (196, ("pool",))]


def test_causes_add_up_to_the_difference(found: Why) -> None:
    for one in found.accounts:
        assert one.counted
        assert sum(item.amount for item in one.items) == one.counted.total - MACS
    rows = found.table().rows
    more = sum(row[2] for row in rows if row[1] is not None)  # type: ignore[misc]
    assert more == sum(row[2] for row in rows if row[1] is None)  # type: ignore[misc]


def test_two_tools_are_explained_to_each_other(found: Why) -> None:
    table = found.between("fvcore", "torchinfo")
    assert table.total == ("total", MACS + 588, MACS + 206, 206 - 588, None)
    assert sum(row[3] for row in table.rows) == 206 - 588  # type: ignore[misc]
    assert [sum(row[i] for row in table.rows) for i in (1, 2)] == [MACS + 588, MACS + 206]  # type: ignore[misc]


def test_causes_of_the_same_layers_are_one_line_for_two_tools(found: Why) -> None:
    lines = {row[0]: row[1:] for row in found.between("fvcore", "torchinfo").rows}
    # 2 for each of 196 elements; 2 parameters of each of 4 maps, once for each image
    assert lines["batch norm"] == (392, 2 * 4 * X.shape[0], 2 * 4 * X.shape[0] - 392, "norm")
    assert lines["adaptive pooling, 1 an input element"] == (196, 0, -196, "pool")


def test_what_two_tools_have_in_common_is_explained_once() -> None:
    causes = [
        note for note in why(Small(), X, ["ptflops", "ptflops-aten"]).table().notes if "Adding a bias counts" in note
    ]
    assert len(causes) == 1


def test_a_wrong_convention_leaves_a_remainder(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dataclasses.replace(CONVENTIONS["fvcore"], causes=(Cause("nothing", lambda row: 0),))
    monkeypatch.setattr("archcalc.conventions.fvcore.CONVENTIONS", (wrong,))
    result = why(Small(), X, ["fvcore"])
    assert result.accounts[0].remainder == 588
    assert not result.ok


def test_a_tool_that_fails_is_said_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any) -> Counted:
        raise RuntimeError("no such thing")

    monkeypatch.setattr("archcalc.pytorch.counters.fvcore.COUNTERS", (counters.Counter("fvcore", "fvcore", run),))
    result = why(Small(), X, TOOLS)
    assert result.accounts[1].counted is None
    assert result.accounts[1].failed == "fvcore could not count Small: RuntimeError: no such thing"
    assert any("no such thing" in note for note in result.table().notes)
    assert result.ok


def test_a_tool_that_changes_the_module_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(module: nn.Module, *_: Any) -> Counted:
        module.get_submodule("conv").register_buffer("total_ops", torch.zeros(1))
        return Counted(MACS + 588)

    monkeypatch.setattr("archcalc.pytorch.counters.fvcore.COUNTERS", (counters.Counter("fvcore", "fvcore", run),))
    module = Small()
    result = why(module, X, ["fvcore"])
    assert result.accounts[0].counted == Counted(
        MACS + 588, changed=("buffer total_ops in 1 module",), tool="fvcore", version=COUNTERS["fvcore"].version or ""
    )
    assert "total_ops" not in dict(module.named_buffers())
    assert any("leaves in the module" in note and "total_ops" in note for note in result.table().notes)


def test_a_counter_that_patches_runs_in_its_own_process() -> None:
    patching = next((name for name in installed() if COUNTERS[name].patches), None)
    if patching is None:
        pytest.skip("no counter that patches torch is installed")
    before = dict(vars(nn.functional))
    counted = COUNTERS[patching](nn.Linear(4, 2), (torch.zeros(1, 4),))
    assert counted.total in (8, 10)
    assert dict(vars(nn.functional)) == before


def test_a_module_that_cannot_be_sent_is_told_of() -> None:
    patching = next((name for name in installed() if COUNTERS[name].patches), None)
    if patching is None:
        pytest.skip("no counter that patches torch is installed")

    class Local(nn.Linear):
        pass

    with pytest.raises(CheckError, match=f"{patching} runs in its own process, where Local cannot be sent"):
        COUNTERS[patching](Local(4, 2), (torch.zeros(1, 4),))


def test_targets() -> None:
    found = why_target(resolve("alexnet", inputs=["3x67x67"]), ["torch", "torchinfo"])
    assert found.ok
    assert [one.counted is not None for one in found.accounts] == [True, True]
    with pytest.raises(InputError, match="whole numbers"):
        why_target(resolve("alexnet", inputs=["3xHxW"]), ["torch"])


def test_unknown_and_missing_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="unknown counter 'fvcor'; did you mean 'fvcore'"):
        why(Small(), X, ["fvcor"])
    missing = counters.Counter("fvcore", "no-such-package", lambda *_: Counted(0))
    monkeypatch.setattr("archcalc.pytorch.counters.fvcore.COUNTERS", (missing,))
    with pytest.raises(
        MissingPackageError, match=r'no-such-package is not installed: pip install "archcalc\[counters\]"'
    ):
        why(Small(), X, ["fvcore"])
    assert "fvcore" not in installed()


def test_command(shell: Shell) -> None:
    text = shell.ok("why", "inception-reduced", "fvcore", "torchinfo")
    assert "bias" in text
    assert "fvcore and torchinfo" in text
    data = json.loads(shell.ok("why", "inception-reduced", "fvcore", "--format", "json"))
    assert (data["schema"], data["ok"], data["counters"][0]["remainder"]) == ("archcalc.why/1", True, 0)
    assert "unknown counter" in shell.refused("why", "alexnet", "thop2")


def test_the_table_fits_120_columns_and_names_one_of_many_layers() -> None:
    module = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(9)))
    table = why(module, X, TOOLS).table()
    assert [column.header for column in table.columns] == [
        *("counted by, and why", "number", "beyond ours", "remainder", "in")
    ]
    norms = next(row for row in table.rows if row[0] == "· batch norm, by element")
    assert norms == ("· batch norm, by element", None, 2 * 9 * 243, None, "0.1 and 8 more")
    assert max(map(len, dataclasses.replace(table, title="", notes=()).to_terminal().splitlines())) <= 120


def test_only_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any) -> Counted:
        raise AssertionError("it must not run")

    two = counters.Counter("fvcore", "torch", nothing, needs=("no-such-package",))
    monkeypatch.setattr("archcalc.pytorch.counters.fvcore.COUNTERS", (two,))
    with pytest.raises(MissingPackageError, match=r"^no-such-package is not installed"):
        why(Small(), X, ["fvcore"])


def test_causes_of_a_tool_that_failed_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any) -> Counted:
        raise RuntimeError("no such thing")

    monkeypatch.setattr("archcalc.pytorch.counters.fvcore.COUNTERS", (counters.Counter("fvcore", "fvcore", run),))
    found = why(Small(), X, ["fvcore"])
    assert found.table().notes == (
        "fvcore failed: fvcore could not count Small: RuntimeError: no such thing",
        "No counter could count this module: nothing is explained.",
    )
    assert not found.ok


def test_the_command_says_so_where_every_counter_fails(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any) -> Counted:
        raise AssertionError

    monkeypatch.setattr("archcalc.pytorch.counters.fvcore.COUNTERS", (counters.Counter("fvcore", "fvcore", run),))
    ran = shell("why", "inception-reduced", "fvcore")
    assert ran.status == 1
    assert "AssertionError without a word" in ran.out
    assert "nothing is explained" in ran.out
