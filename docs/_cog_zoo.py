"""What the page of the zoo calls."""

from __future__ import annotations

from itertools import groupby

import archcalc as ac
from archcalc import units, zoo
from archcalc.catalogue import citation, typed


def zoo_families() -> None:
    """For each family its paper and its networks, with what is particular about each."""
    for family, entries in groupby(zoo.ENTRIES.values(), key=lambda entry: entry.family):
        members = list(entries)
        print(f"### {family}\n")
        for paper in dict.fromkeys(entry.paper for entry in members):
            print(f"{paper}.\n")
        for entry in members:
            total = ac.analyze(entry.build()).total
            choices = ", ".join(f"`{name}={typed(value)}`" for name, value in entry.choices.items())
            counts = f"{units.count(total.params)} parameters, {units.count(total.macs)} MACs"
            print(f"- **`{entry.name}`** ({entry.year}; {counts}). {entry.summary} Choices: {choices}.")
        print()


def zoo_references() -> None:
    """Which entries are checked against a module of torchvision."""
    print("| network | equals torchvision's |\n| :-- | :-- |")
    for entry in zoo.ENTRIES.values():
        reference = entry.reference({})
        if reference:
            print(f"| `{entry.name}` ({citation(entry.paper)}) | `torchvision.models.{reference.model}` |")
