"""Hierarchical attention over words and sentences (Yang et al. 2016, NAACL, "Hierarchical Attention Networks")."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from regard.attention import Pool
from regard.models.parts import Part, Widths
from regard.models.recurrent_encoder import RecurrentEncoderPart
from regard.padded import Padded

WORDS, TO_SENTENCES = "encoder/word", ("/pool", "/cross")
"""The map of the attention to the words of each sentence, and how those end that are to sentences."""


class HierarchicalEncoderPart(Part):
    """Words to sentences to a document, each level read in both directions; a classifier knows where sentences end."""

    kind: Literal["hierarchical"] = "hierarchical"
    words: RecurrentEncoderPart = RecurrentEncoderPart()
    sentences: RecurrentEncoderPart = RecurrentEncoderPart()

    def build(self, widths: Widths, dropout: float) -> "HierarchicalEncoder":
        return HierarchicalEncoder(self, widths, dropout)

    def check(self, width: int) -> None:
        self.words.check(width)
        self.sentences.check(width)

    def describe(self) -> str:
        return f"hierarchical ({self.words.describe()}, {self.sentences.describe()})"


class HierarchicalEncoder(nn.Module):
    """The words of each sentence in both directions, pooled by attention to the sentence; then the sentences.

    ``segments`` numbers the sentence of each word, in order from 0; without them a row is one sentence. Out come states
    of sentences: (batch, sentences, width). A number without words is a sentence of zeros. Pooled in turn by a `pool`
    decoder with a hidden width, it is the classifier of the paper. In a record, row ``b * sentences + s`` of the word
    attention is sentence s of row b.
    """

    def __init__(self, part: HierarchicalEncoderPart, widths: Widths, dropout: float):
        super().__init__()
        self.words = part.words.build(widths, dropout)
        self.word_attention = Pool(widths.model, hidden=widths.model)
        self.sentences = part.sentences.build(widths._replace(embedded=widths.model), dropout)

    def forward(self, embedded: Padded) -> Padded:
        words, counts = split_sentences(embedded)
        pooled = self.word_attention(self.words(words))[:, 0]
        return self.sentences(Padded(pooled.unflatten(0, (len(counts), -1)), counts))


def split_sentences(words: Padded) -> tuple[Padded, Int[Tensor, "batch"]]:
    """Each sentence as a row, those of a document side by side, and how many each document has.

    All documents get as many rows as the one with the most sentences, at least one; some may be empty, not all.
    """
    real = words.mask
    segments = real.long() - 1 if words.segments is None else words.segments.masked_fill(~real, -1)
    counts = segments.amax(1) + 1
    most = max(int(counts.max()), 1)
    documents = torch.arange(len(counts), device=counts.device)[:, None]
    lengths = (documents * most + segments)[real].bincount(minlength=len(counts) * most)
    shape = len(lengths), max(int(lengths.max()), 1), *words.values.shape[2:]
    sentences = Padded(words.values.new_zeros(shape), lengths)
    sentences.values[sentences.mask] = words.values[real]  # both have the words in the order of the document
    return sentences, counts


def over_words(maps: Mapping[str, Tensor], numbers: Int[Tensor, "source"]) -> dict[str, Tensor]:
    """Of one document's maps those to sentences as maps to its words, each of a sentence with a number.

    A word gets its share of what its sentence got; nothing where no such encoder was seen.
    """
    if WORDS not in maps:
        return {}
    places = torch.cat([torch.arange(count) for count in numbers.bincount().tolist()])
    shares = maps[WORDS][numbers, 0, places]
    return {name: seen[..., numbers] * shares for name, seen in maps.items() if name.endswith(TO_SENTENCES)}
