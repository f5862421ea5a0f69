"""The worked solutions: their answers by arithmetic and by papers, every page whole, no answer typed into the prose."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "solutions"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "README.md")
GENERATED = re.compile(r"<!-- \[\[\[cog .*?\]\]\] -->\n(.*?)<!-- \[\[\[end\]\]\] -->\n", re.DOTALL)
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+(?:,\d{3})*")
RESULT = re.compile(r"\d,\d{3}|\d\.\d|\d{4,}|\d ?%")

FC = (256 * 6 * 6 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
VGG = 3 * 64 + 64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 3 * 256 * 256 + 256 * 512 + 7 * 512 * 512

ANSWERS = {
    "alexnet-parameters": (
        # two towers: an output of conv2, conv4 and conv5 sees half of the maps
        (3 * 121 + 1) * 96 + (48 * 25 + 1) * 256 + (256 * 9 + 1) * 384 + (192 * 9 + 1) * 384 + (192 * 9 + 1) * 256 + FC,
        62_378_344,  # one tower: learnopencv, 2018
    ),
    "vgg19-table": (9 * VGG + 25088 * 4096 + 4096 * 4096 + 4096 * 1000, 224 * 224 * 64, 25_088),
    "inception-modules": (
        32 * 32 * 256 * (128 + 192 * 9 + 96 * 25),
        32 * 32 * (256 * 128 + 256 * 128 + 192 * 9 * 128 + 256 * 32 + 96 * 25 * 32 + 256 * 64),
    ),
    "resnet-figure-3": (
        143_667_240,  # torchvision's num_params
        21_797_672,  # likewise
        # 7×7, then 6, 8, 12 and 6 convolutions of 3×3, of which the first of each width comes from half of it
        (3 * 49 + 1) * 64
        + 6 * (64 * 9 + 1) * 64
        + (64 * 9 + 1) * 128
        + 7 * (128 * 9 + 1) * 128
        + (128 * 9 + 1) * 256
        + 11 * (256 * 9 + 1) * 256
        + (256 * 9 + 1) * 512
        + 5 * (512 * 9 + 1) * 512
        + (512 + 1) * 1000,
    ),
    "small-kernels": (49 * 64 * 64, 27 * 64 * 64, 25 * 64 * 64, 18 * 64 * 64),
    "depthwise-separable": (56 * 56 * 256 * 256 * 9, 56 * 56 * 256 * 9, 56 * 56 * 256 * 256),
    "squeezenet": (1_248_424, 384 * 64 + 64 * 256 + 9 * 64 * 256),  # Iandola et al. 2016, table 1; fire8
    "strided-batch": (
        64 * 126 * 126 * 96,
        96 * (5 * 5 * 3 + 1),
        64 * 126 * 126 * 96 * 5 * 5 * 3,
        64 * 128**2 * 96 * 75,
    ),
    "batch-norm": (
        # channels: stem, then 6, 8, 12 and 6 layers, and a projection for each change of width
        2 * (64 + 6 * 64 + 9 * 128 + 13 * 256 + 7 * 512),
        25_636_712,  # ResNet-50 in Keras' documents
    ),
    "backpropagation": (
        # torchvision's MACs twice, but for conv1, of which nothing asks for the gradient of the image
        2 * 32 * 3_663_761_408 - 32 * 112 * 112 * 64 * 147,
        # kept by bn1: what conv1 wrote, and a mean and a deviation for each channel
        4 * (32 * 64 * 112 * 112 + 2 * 64),
        # by max-pool: its output's indices of 8 bytes, which its input, kept by ReLU, comes before
        8 * 32 * 64 * 56 * 56,
    ),
    "receptive-field": (),
}


def generated(page: Path) -> str:
    return "".join(GENERATED.findall(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name: str) -> None:
    shown = set(NUMBER.findall(generated(FOLDER / f"{name}.md")))
    assert {f"{answer:,}" for answer in ANSWERS[name]} <= shown


def test_three_filters_of_5x5_see_13() -> None:
    text = generated(FOLDER / "receptive-field.md")
    for line in ("F*N - N + 1", "3·5 − 3 + 1 = 13", "difference: 0", "rows seen: 13 columns seen: 13 pixels: 169"):
        assert line in text


def test_27_against_49() -> None:
    assert "49*C**2; 3 of 3×3: 3 · 9*C**2 = 27*C**2; ratio 27/49" in generated(FOLDER / "small-kernels.md")


def test_every_page_has_answers() -> None:
    assert {page.stem for page in PAGES} == set(ANSWERS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_has_its_parts(page: Path) -> None:
    headings = re.findall(r"^## (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["Question", "Formula"]
    assert headings[-1] == "Check"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_result_is_typed(page: Path) -> None:
    """Prose after the question quotes nothing that is computed: no thousands, no decimals, no percentages."""
    text = GENERATED.sub("", page.read_text(encoding="utf-8")).partition("## Formula")[2]
    prose = re.sub(r'"[^"\n]*"', "", CODE.sub("", text))
    assert not RESULT.findall(re.sub(r"et al\. \d{4}|\d{4}, (section|table|figure|algorithm)|\(\d{4}", "", prose))


COMPARED = ("alexnet-parameters", "backpropagation", "inception-modules", "resnet-figure-3", "squeezenet")


@pytest.mark.parametrize("name", [*COMPARED, "strided-batch", "vgg19-table"])
def test_pytorch_and_archcalc_print_the_same(name: str) -> None:
    both = re.findall(r"(?:PyTorch|torchvision):? (.*?)\n?archcalc:? (.*)", generated(FOLDER / f"{name}.md"))
    pairs = [[NUMBER.findall(side) for side in pair] for pair in both]
    assert pairs
    assert all(ours and theirs[: len(ours)] == ours for theirs, ours in pairs)
