"""The modules of a vision transformer that torch.nn has not got, and its attention with one input."""

import torch
from torch import Tensor, nn


class MultiheadAttention(nn.MultiheadAttention):
    """Self-attention: queries, keys and values are made of one input."""

    @property
    def bias(self) -> bool:
        """Whether its linear maps have biases."""
        return self.in_proj_bias is not None

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(N, L, C) to (N, L, C)."""
        output: Tensor = super().forward(x, x, x, need_weights=False)[0]
        return output


class ImageToTokens(nn.Module):
    """The pixels of an image as a sequence."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, H·W, C)."""
        return x.flatten(2).transpose(1, 2)


class ClassToken(nn.Module):
    """A trained vector before the tokens."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) to (N, L + 1, C)."""
        return torch.cat([self.token.expand(len(x), 1, -1), x], dim=1)


class PositionalEmbedding(nn.Module):
    """A trained vector for each place is added."""

    def __init__(self, embed_dim: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.position = nn.Parameter(torch.randn(length, embed_dim) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) to (N, L, C)."""
        return x + self.position


class TakeToken(nn.Module):
    """One token of a sequence."""

    def __init__(self, index: int = 0) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) to (N, C)."""
        return x[:, self.index]
