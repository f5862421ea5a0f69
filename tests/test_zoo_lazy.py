"""The table of families: complete, right, and only what is asked for is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from archcalc import zoo
from archcalc.zoo.registry import FAMILIES

PIECES = {"__init__", "registry", "parts"}


def families_loaded(code: str) -> set[str]:
    """Families that a fresh interpreter has imported after running the code."""
    probe = f"import sys\n{code}\nprint(*(name.removeprefix('archcalc.zoo.') for name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(run.stdout.split()) & set(FAMILIES)


def test_the_table_names_every_family_and_every_entry() -> None:
    assert zoo.__file__ is not None
    assert {path.stem for path in Path(zoo.__file__).parent.glob("*.py")} - PIECES == set(FAMILIES)
    found: dict[str, list[str]] = {}
    for name, entry in zoo.ENTRIES.items():
        found.setdefault(entry.recipe.__module__.removeprefix("archcalc.zoo."), []).append(name)
    assert {module: tuple(names) for module, names in found.items()} == FAMILIES
    assert len(zoo.ENTRIES) == len(list(zoo.ENTRIES)) == sum(map(len, FAMILIES.values()))


def test_no_module_hides_an_entry() -> None:
    # importing archcalc.zoo.x makes zoo.x that module
    assert set(FAMILIES).isdisjoint(name.replace("-", "_") for name in zoo.ENTRIES)


@pytest.mark.parametrize(
    ("code", "families"),
    [
        ("import archcalc", set()),
        ("import archcalc\nassert 'vgg19' in archcalc.zoo.ENTRIES\nlen(archcalc.zoo.ENTRIES)", set()),
        ("import archcalc\narchcalc.zoo.vgg19()", {"vgg"}),
        ("import archcalc\narchcalc.zoo.find('alexnet_torchvision').build()", {"alexnets"}),
        ("import archcalc\narchcalc.zoo.resnet18()\narchcalc.zoo.plain18()", {"resnet"}),
        ("import archcalc\nlist(archcalc.zoo.ENTRIES.values())", set(FAMILIES)),
    ],
)
def test_a_family_is_imported_when_one_of_its_entries_is_asked_for(code: str, families: set[str]) -> None:
    assert families_loaded(code) == families


def test_what_the_zoo_does_not_have() -> None:
    with pytest.raises(AttributeError, match=r"module 'archcalc\.zoo' has no attribute 'vgg20'"):
        _ = zoo.vgg20
    assert "vgg20" not in zoo.ENTRIES
    assert {"vgg19", "alexnet_torchvision", "find"} <= set(dir(zoo))
