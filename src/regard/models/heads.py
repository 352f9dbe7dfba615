"""Heads: from features to what a task asks for; a head owns its loss."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from regard.layers.embeddings import TokenEmbedding
from regard.layers.losses import log_softmax, smoothed_cross_entropy, two_way_divergence
from regard.models.parts import Decoded, Loss, Memory
from regard.padded import Padded


@runtime_checkable
class Head(Protocol):
    """What a model ends in."""

    def log_probs(self, decoded: Decoded, memory: Memory) -> Float[Tensor, "rows time vocabulary"]:
        """Log-probabilities of what comes next; search asks for one step only."""

    def loss(self, decoded: Decoded, targets: Padded, memory: Memory) -> Loss:
        """The loss over all real steps; logits of padding are never computed."""

    def divergence(self, first: Decoded, second: Decoded, targets: Padded) -> Float[Tensor, ""]:
        """How far two predictions of the same targets lie apart: Kullback-Leibler both ways, summed over real steps."""


class TokenHead(nn.Module):
    """One score per token of the vocabulary, the weight shared with the embedding (Press and Wolf 2017, 1608.05859)."""

    def __init__(self, embedding: TokenEmbedding, smoothing: float = 0.0):
        super().__init__()
        self.weight = embedding.weight
        self.smoothing = smoothing

    def log_probs(self, decoded: Decoded, memory: Memory) -> Float[Tensor, "rows time vocabulary"]:
        return log_softmax(F.linear(decoded.features, self.weight))

    def loss(self, decoded: Decoded, targets: Padded, memory: Memory) -> Loss:
        real = targets.mask
        features, answers = decoded.features[real], targets.values[real]
        total, likelihood = smoothed_cross_entropy(features, self.weight, answers, self.smoothing)
        return Loss(total, len(answers), {"nll": likelihood})

    def divergence(self, first: Decoded, second: Decoded, targets: Padded) -> Float[Tensor, ""]:
        real = targets.mask
        return two_way_divergence(first.features[real], second.features[real], self.weight)
