"""Heads: from features to what a task asks for; a head owns its loss."""

from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from regard.layers.embeddings import TokenEmbedding
from regard.layers.losses import log_softmax, smoothed_cross_entropy, two_way_divergence
from regard.models.parts import Decoded, Encoded, Loss, Widths
from regard.padded import Padded
from regard.settings import Settings
from regard.trees import Nest


@runtime_checkable
class Head(Protocol):
    """What a model ends in."""

    def remember(self, encoded: Encoded) -> Nest:
        """What it needs of the source, computed once; leaves (batch, ...)."""

    def loss(self, decoded: Decoded, targets: Padded, memory: Nest) -> Loss:
        """The loss over all real steps; logits of padding are never computed."""


@runtime_checkable
class TextHead(Head, Protocol):
    """What a model ends in whose answers are tokens, labels or places: one of many at each step."""

    def log_probs(self, decoded: Decoded, memory: Nest) -> Float[Tensor, "rows time vocabulary"]:
        """Log-probabilities of what comes next; search asks for one step only."""

    def divergence(
        self, first: Decoded, second: Decoded, targets: Padded, memories: tuple[Nest, Nest]
    ) -> Float[Tensor, ""]:
        """How far two predictions of the same targets lie apart: Kullback-Leibler both ways, summed over real steps."""


class TokenHeadPart(Settings):
    """`TokenHead`, as settings."""

    kind: Literal["tokens"] = "tokens"
    bias: bool = Field(default=False, description="added to the scores; checkpoints of other packages have one")

    def build(self, output: TokenEmbedding, widths: Widths, smoothing: float) -> "TokenHead":
        return TokenHead(output, smoothing, self.bias)


class TokenHead(nn.Module):
    """One score per token of the vocabulary, the weight shared with the embedding (Press and Wolf 2017, 1608.05859)."""

    def __init__(self, embedding: TokenEmbedding, smoothing: float = 0.0, bias: bool = False):
        super().__init__()
        self.weight = embedding.weight
        self.bias = nn.Parameter(torch.zeros(len(self.weight))) if bias else None
        self.smoothing = smoothing

    def remember(self, encoded: Encoded) -> Nest:
        return ()

    def log_probs(self, decoded: Decoded, memory: Nest) -> Float[Tensor, "rows time vocabulary"]:
        return log_softmax(F.linear(decoded.features, self.weight, self.bias))

    def loss(self, decoded: Decoded, targets: Padded, memory: Nest) -> Loss:
        real = targets.mask
        features, answers = decoded.features[real], targets.values[real]
        total, likelihood = smoothed_cross_entropy(features, self.weight, answers, self.smoothing, self.bias)
        return Loss(total, len(answers), {"nll": likelihood})

    def divergence(
        self, first: Decoded, second: Decoded, targets: Padded, memories: tuple[Nest, Nest]
    ) -> Float[Tensor, ""]:
        real = targets.mask
        return two_way_divergence(first.features[real], second.features[real], self.weight, self.bias)
