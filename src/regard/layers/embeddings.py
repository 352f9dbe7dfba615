"""Embeddings: from the values of a field to features."""

import torch
from torch import nn

from regard.layers.precision import as_autocast
from regard.padded import Padded


class TokenEmbedding(nn.Module):
    """Ids to vectors, with a weight that an output layer can share.

    The weight is drawn with deviation 1 / sqrt(width) and, if ``scaled``, multiplied by sqrt(width) on the way in, so
    that the same weight gives vectors and logits of unit scale (Press and Wolf 2017, 1608.05859; Vaswani et al. 2017).
    Under autocast the features leave in its precision, and everything that is added to them follows: no copies between
    precisions, half the memory to move.
    """

    def __init__(self, vocabulary: int, width: int, scaled: bool = True):
        super().__init__()
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(vocabulary, width), std=width**-0.5))
        self.scale = width**0.5 if scaled else 1.0

    def forward(self, tokens: Padded) -> Padded:
        vectors = nn.functional.embedding(tokens.values, self.weight) * self.scale
        return tokens._replace(values=as_autocast(vectors))
