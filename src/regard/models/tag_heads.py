"""Heads that give every token of the source a tag, read where its first piece stands."""

from typing import Annotated, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import SettingsError
from regard.layers.crf import Chain
from regard.layers.embeddings import TokenEmbedding
from regard.models.heads import Head, TokenHead
from regard.models.parts import Decoded, Encoded, Loss, Widths
from regard.padded import Padded
from regard.settings import Settings

Begins = Bool[Tensor, "vocabulary"]
"""Which pieces of a vocabulary stand at the beginning of a token."""


@runtime_checkable
class TagHead(Head, Protocol):
    """A head that can name the best tags of all tokens."""

    def best(self, decoded: Decoded, memory: Padded) -> tuple[Padded, Float[Tensor, "batch"]]:
        """The likeliest tags of all tokens of each row, (batch, tokens), and their log-probability together."""


class SeparateTagsPart(Settings):
    """`SeparateTagHead`, as settings."""

    kind: Literal["tags"] = "tags"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    def build(self, tags: int, widths: Widths, begins: Begins) -> "SeparateTagHead":
        return SeparateTagHead(tags, widths.output, begins, self.label_smoothing)


class ChainedTagsPart(Settings):
    """`ChainedTagHead`, as settings."""

    kind: Literal["crf"] = "crf"

    def build(self, tags: int, widths: Widths, begins: Begins) -> "ChainedTagHead":
        return ChainedTagHead(tags, widths.output, begins)


TagHeadPart = Annotated[SeparateTagsPart | ChainedTagsPart, Field(discriminator="kind")]


class FirstPieces(nn.Module):
    """Of a source in pieces, the place of the first piece of each token (Devlin et al. 2019, arXiv 1810.04805, 5.3)."""

    def __init__(self, begins: Begins):
        super().__init__()
        self.register_buffer("begins", begins, persistent=False)

    def forward(self, encoded: Encoded) -> Padded:
        """Places, (batch, tokens); at least one in each row, so that there is something to read.

        Raises:
            SettingsError: the encoder gives no state for each piece.
        """
        if not encoded.stepwise:
            unfit = "tags need an encoder state for each piece of the source, and this encoder gives others"
            raise SettingsError(unfit, where="model.encoder.kind", hint="choose another encoder, such as rnn")
        begins = self.get_buffer("begins")[encoded.tokens.values] & encoded.tokens.mask
        lengths = begins.sum(1)
        places = begins.byte().argsort(dim=1, descending=True, stable=True)
        return Padded(places[:, : max(int(lengths.max()), 1)], lengths)


def _at(decoded: Decoded, places: Padded) -> Decoded:
    """The features of each token."""
    rows = torch.arange(len(places.values), device=places.values.device)
    return Decoded(decoded.features[rows[:, None], places.values])


class SeparateTagHead(nn.Module):
    """Each tag by itself, whatever its neighbours are."""

    def __init__(self, tags: int, width: int, begins: Begins, smoothing: float = 0.0):
        super().__init__()
        self.remember = FirstPieces(begins)
        self.scores = TokenHead(TokenEmbedding(tags, width), smoothing, bias=True)

    def loss(self, decoded: Decoded, targets: Padded, memory: Padded) -> Loss:
        return self.scores.loss(_at(decoded, memory), targets, ())

    def best(self, decoded: Decoded, memory: Padded) -> tuple[Padded, Float[Tensor, "batch"]]:
        scores, tags = self.scores.log_probs(_at(decoded, memory), ()).max(-1)
        return Padded(tags, memory.lengths), scores.masked_fill(~memory.mask, 0).sum(1)


class ChainedTagHead(nn.Module):
    """All tags of a row together: a conditional random field over features (Lample et al. 2016, arXiv 1603.01360)."""

    def __init__(self, tags: int, width: int, begins: Begins):
        super().__init__()
        self.remember = FirstPieces(begins)
        self.weight = TokenEmbedding(tags, width).weight
        self.chain = Chain(tags)

    def _emissions(self, decoded: Decoded, memory: Padded) -> Padded:
        """How well each tag fits each token, in fp32 at least: in bf16 sums over long rows lose the small ones."""
        scores = F.linear(_at(decoded, memory).features, self.weight)
        wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return Padded(wide, memory.lengths.clamp(min=1))

    def loss(self, decoded: Decoded, targets: Padded, memory: Padded) -> Loss:
        """Of whole rows, divided by tokens."""
        likelihoods = self.chain.log_likelihood(self._emissions(decoded, memory), targets.values)
        total = -likelihoods[memory.lengths > 0].sum()
        return Loss(total, int(targets.lengths.sum()), {"nll": total.detach()})

    def best(self, decoded: Decoded, memory: Padded) -> tuple[Padded, Float[Tensor, "batch"]]:
        emissions = self._emissions(decoded, memory)
        tags, scores = self.chain.best(emissions)
        likelihoods = scores - self.chain.log_partition(emissions)
        return Padded(tags, memory.lengths), likelihoods.masked_fill(memory.lengths == 0, 0)
