"""What importing and using archcalc loads: no torch, no SymPy, no NumPy, no rich."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import archcalc

PACKAGE = Path(archcalc.__file__).parent
HEAVY = ("torch", "torchvision", "fvcore", "torchinfo", "sympy", "numpy", "rich", "matplotlib")

ANALYZE = """
import archcalc
from archcalc.explain import explain
from archcalc.layers import *
net = archcalc.Builder("net", (1, 3, 32, 32))
net.add(Conv2d(8, 3, padding="same"))
before = net.last
net.add(BatchNorm2d())
net.add(ReLU())
net.add(LocalResponseNorm(5))
net.add(Add(), after=(net.last, before))
net.add(MaxPool2d(3, 2, ceil_mode=True))
net.add(AvgPool2d(2))
net.add(AdaptiveAvgPool2d(2))
net.add(Concat(), after=(net.last, net.last))
net.add(Flatten())
net.add(Dropout())
net.add(Linear(10))
net.add(Softmax())
report = archcalc.analyze(net.network())
assert report.total.macs > 0
for row in report:
    for equation in explain(report, row.name).values():
        equation.text(), equation.latex(), equation.letters()
"""

ZOO = """
import archcalc
for build in (archcalc.zoo.vgg19, archcalc.zoo.resnet34):
    assert archcalc.analyze(build()).total.macs > 10**9
"""


def loaded(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after running the code."""
    probe = f"{code}\nimport sys\nprint(*sorted({set(HEAVY)!r} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@pytest.mark.parametrize("code", ["import archcalc", ANALYZE, ZOO], ids=["import", "analyze", "zoo"])
def test_counting_loads_nothing_heavy(code: str) -> None:
    assert loaded(code) == set()


@pytest.mark.parametrize(
    ("code", "package"),
    [
        ("import torch", "torch"),
        ("import archcalc\narchcalc.analyze(archcalc.zoo.vgg19(), ('N', 3, 'H', 'W'))", "sympy"),
        ("import archcalc, numpy\narchcalc.analyze(archcalc.zoo.vgg19(), (numpy.array([1]), 3, 224, 224))", "numpy"),
        (f"{ANALYZE}\nreport.table().to_terminal(width=80)", "rich"),
    ],
)
def test_the_probe_reports_what_is_loaded(code: str, package: str) -> None:
    assert package in loaded(code)


def test_the_package_lists_its_public_names_and_nothing_else() -> None:
    assert dir(archcalc) == sorted([*archcalc.__all__, "__version__"])
    for name in archcalc.__all__:
        assert getattr(archcalc, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = archcalc.nothing  # type: ignore[attr-defined]


def test_listing_and_importing_the_public_names_loads_nothing_heavy() -> None:
    code = "import archcalc\nfor name in dir(archcalc): getattr(archcalc, name)\nfrom archcalc import *"
    assert loaded(f"{code}\nassert load and plot and layers") == set()


def test_functions_imported_late_are_those_of_their_modules() -> None:
    import archcalc.footprint
    import archcalc.specfile

    assert archcalc.memory is archcalc.footprint.memory
    assert (archcalc.load, archcalc.save) == (archcalc.specfile.load, archcalc.specfile.save)


def imported(path: Path) -> Iterator[str]:
    """Packages that a file imports anywhere in it, by name or through import_module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            names = (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))
            yield from (name.partition(".")[0] for name in names)


def importers(package: str, root: Path = PACKAGE) -> set[str]:
    """Files under the package that import this one, relative to it."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*.py") if package in imported(path)}


@pytest.mark.parametrize("package", ["torch", "torchvision", "fvcore", "torchinfo"])
def test_only_the_pytorch_folder_imports_torch(package: str) -> None:
    assert {path for path in importers(package) if not path.startswith("pytorch/")} == set()


@pytest.mark.parametrize(
    ("package", "files"),
    [
        ("rich", {"table.py"}),
        ("sympy", {"symbols.py", "units.py"}),
        ("numpy", {"sweeps.py"}),
        ("matplotlib", {"plots/canvas.py"}),
    ],
)
def test_other_heavy_packages_have_one_importer(package: str, files: set[str]) -> None:
    assert {path for path in importers(package) if not path.startswith("pytorch/")} <= files


def test_nest_imports_only_extents_of_ours() -> None:
    tree = ast.parse((PACKAGE / "nest.py").read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert {module for module in modules if module.startswith("archcalc")} == {"archcalc.extents"}


@pytest.mark.parametrize(
    "line",
    [
        "import torch",
        "import torch.nn as nn",
        "from torch.nn import Conv2d",
        "def late():\n    import torch",
        "import_module('torch')",
        "importlib.import_module('torch.nn')",
        "__import__('torch')",
    ],
)
def test_an_import_of_torch_is_found_wherever_it_is(line: str, tmp_path: Path) -> None:
    (tmp_path / "innocent.py").write_text("import math\nname = 'torch'\n")
    (tmp_path / "guilty.py").write_text(line)
    assert importers("torch", tmp_path) == {"guilty.py"}
