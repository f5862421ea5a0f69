"""Vision transformers, Dosovitskiy et al. 2021."""

from __future__ import annotations

from archcalc.graph import Builder, Network
from archcalc.layers import (
    GELU,
    Add,
    ClassToken,
    Conv2d,
    Dropout,
    ImageToTokens,
    Layer,
    LayerNorm,
    Linear,
    MultiheadAttention,
    PositionalEmbedding,
    TakeToken,
)
from archcalc.zoo.registry import Reference, entry


@entry(
    "vit-b-16",
    family="Vision Transformer",
    year=2020,
    paper="Dosovitskiy et al., An Image Is Worth 16x16 Words, ICLR 2021, arXiv 2010.11929",
    torchvision=lambda c: Reference(
        "vit_b_16",
        c,
        {"num_classes": c["classes"]},
        functional=frozenset({"ImageToTokens", "ClassToken", "PositionalEmbedding", "TakeToken"}),
    ),
)
def vit_b_16(*, classes: int = 1000) -> Network:
    """ViT-B/16: patches of 16×16 as 196 tokens and one for the class, 12 layers of 12 heads, width 768."""
    return _vision_transformer("vit-b-16", patch=16, width=768, layers=12, heads=12, classes=classes)


def _vision_transformer(name: str, *, patch: int, width: int, layers: int, heads: int, classes: int) -> Network:
    size = 224
    net = Builder(name, (1, 3, size, size))

    def residual(name: str, norm: str, *layers: tuple[str, Layer]) -> None:
        start = net.last
        net.add(LayerNorm(width, eps=1e-6), norm)
        for part, layer in layers:
            net.add(layer, part)
        net.add(Add(), name, after=(net.last, start))

    net.add(Conv2d(width, patch, stride=patch), "patches")
    net.add(ImageToTokens(), "tokens")
    net.add(ClassToken(), "class_token")
    net.add(PositionalEmbedding((size // patch) ** 2 + 1), "position")
    net.add(Dropout(0.0), "dropout")
    for index in range(layers):
        with net.block(f"layer{index}"):
            attention = MultiheadAttention(heads, batch_first=True)
            residual("add1", "norm1", ("attention", attention), ("dropout", Dropout(0.0)))
            mlp = (("fc1", Linear(4 * width)), ("gelu", GELU()), ("drop1", Dropout(0.0)))
            residual("add2", "norm2", *mlp, ("fc2", Linear(width)), ("drop2", Dropout(0.0)))
    net.add(LayerNorm(width, eps=1e-6), "norm")
    net.add(TakeToken(), "take")
    net.add(Linear(classes), "head")
    return net.network()
