"""The pages: their code runs, their commands are run by cog, their links resolve; docstring examples are true."""

import doctest
import importlib
import io
import pkgutil
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import archcalc
from archcalc.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GENERATED = re.compile(r"\]\]\] -->\n(.*?)<!-- \[\[\[end\]\]\]", re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"(?<!\!)\[[^\]]+\]\(([^)\s]+)\)")
MODULES = [
    module.name
    for module in pkgutil.walk_packages(archcalc.__path__, "archcalc.")
    if not module.name.endswith("__main__")
]


def fences(text: str, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(text) if found == language]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_on_the_page_runs(page: Path) -> None:
    namespace: dict[str, object] = {}
    with redirect_stdout(io.StringIO()):
        for source in fences(page.read_text(encoding="utf-8"), "python"):
            exec(compile(source, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_output_is_generated(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    generated = "".join(GENERATED.findall(text))
    for language in ("console", "text", "json"):
        by_hand = [body for body in fences(text, language) if body not in generated]
        assert not by_hand, f"{named(page)}: output that no cog block prints: {by_hand[0]}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_cog_block_prints_something(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(GENERATED.findall(text)) == text.count("[[[cog"), f"{named(page)}: a cog block without its end"
    assert all(body.strip() for body in GENERATED.findall(text))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_without_output_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = "".join(fences(page.read_text(encoding="utf-8"), "sh")).splitlines()
    for line in lines:
        if line.startswith("archcalc "):
            arguments = shlex.split(line, comments=True)[1:]
            brief = ["--seconds", "0.01"] if arguments[0] == "time" else []  # whether it runs, not how fast
            with redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")), pytest.raises(SystemExit) as end:
                main([*arguments, *brief])
            assert not end.value.code, line


def prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names that headings get: small letters, hyphens for spaces, no other signs."""
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(prose(page))}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_resolve(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if not target.startswith(("https://", "http://")):
            path, _, anchor = target.partition("#")
            linked = page.parent / path if path else page
            assert linked.exists(), f"{named(page)}: {target}"
            assert not anchor or anchor in anchors(linked), f"{named(page)}: {target}"


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in target
    }
    assert set(PAGES) - linked <= {ROOT / "README.md"}


def test_the_first_screen_shows_a_command_and_its_output() -> None:
    screen = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:25]
    start = screen.index("```console")
    assert screen[start + 1].startswith("$ archcalc ")
    assert "```" in screen[start + 1 :]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0
