"""Question and passage in one sequence: which steps are which, and an embedding that tells them apart."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from regard.layers.embeddings import TokenEmbedding
from regard.padded import Padded

KINDS = 4
"""A question's token, a passage's, one that stands in the question too, and one that does so beside its neighbour."""


def segments_of(tokens: Int[Tensor, "batch time"], end: int) -> Int[Tensor, "batch time"]:
    """The number of each step's segment, counted from 0; ``end`` is the last token of every segment."""
    ends = (tokens == end).long()
    return ends.cumsum(1) - ends


def sentences_of(
    tokens: Int[Tensor, "batch time"], closing: Bool[Tensor, "vocabulary"], end: int
) -> Int[Tensor, "batch time"]:
    """The number of each step's sentence, counted from 0: the next begins after the last of some ``closing`` tokens.

    ``end`` belongs to the sentence before it.
    """
    after = tokens.roll(-1, 1)
    closed = (closing[tokens] & ~closing[after] & (after != end)).long()
    return closed.cumsum(1) - closed


class SegmentedEmbedding(nn.Module):
    """Ids of a question and a passage to vectors, with one added for the `KINDS` of steps.

    A vector for the segment (Devlin et al. 2019, arXiv 1810.04805), and others where a token of the passage stands in
    the question (Chen et al. 2017, arXiv 1704.00051, section 3.2): few examples do not teach what it is to be equal.
    """

    def __init__(self, vocabulary: int, width: int, end: int):
        super().__init__()
        self.tokens = TokenEmbedding(vocabulary, width)
        self.kinds = nn.Parameter(torch.randn(KINDS, width))
        self.end = end

    def forward(self, tokens: Padded) -> Padded:
        embedded = self.tokens(tokens).values
        segments = segments_of(tokens.values, self.end)
        kinds = self.kinds.to(embedded.dtype)[self._kinds(tokens.values, segments)]
        return Padded(embedded + kinds, tokens.lengths, segments)

    def _kinds(self, ids: Int[Tensor, "batch time"], segments: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
        asked, there = (segments == 0) & (ids != self.end), segments > 0
        equal = (ids[:, :, None] == ids[:, None]) & asked[:, None]
        kinds = there.long() + (there & equal.any(-1)) + (there & _beside_equal(equal))
        return kinds


def _beside_equal(equal: Bool[Tensor, "batch time time"]) -> Bool[Tensor, "batch time"]:
    """Whether a step and its neighbour on either side equal two neighbours."""
    pairs = (equal[:, 1:, 1:] & equal[:, :-1, :-1]).any(-1)
    none = pairs.new_zeros(len(pairs), 1)
    return torch.cat([pairs, none], 1) | torch.cat([none, pairs], 1)
