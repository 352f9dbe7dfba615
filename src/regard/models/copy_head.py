"""A head that writes tokens or copies them from the source."""

from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Int, Shaped
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from regard import trees
from regard.attention import Lengths, attend, observe
from regard.errors import SettingsError
from regard.layers.embeddings import TokenEmbedding
from regard.layers.losses import at_once, log_partition, log_softmax
from regard.layers.precision import as_autocast
from regard.models.parts import Decoded, Encoded, Loss, Widths
from regard.padded import Padded
from regard.settings import Settings


class CopyHeadPart(Settings):
    """`CopyHead`, as settings."""

    kind: Literal["copy"] = "copy"
    coverage: float = Field(default=0.0, ge=0, description="weight of the loss for looking twice at the same token")

    def build(self, output: TokenEmbedding, widths: Widths, smoothing: float) -> "CopyHead":
        return CopyHead(output, widths, smoothing, self.coverage)


class CopyMemory(NamedTuple):
    """What can be copied: the source's ids, where each of them stands first in its row, and the encoder states."""

    tokens: Padded
    first: Int[Tensor, "batch source"]
    states: Float[Tensor, "batch source width"]


class CopyMixture(NamedTuple):
    """What the distributions of some steps are mixed from; the leading axes are (rows, time), or real steps only."""

    features: Float[Tensor, "*steps width"]
    gate: Float[Tensor, "*steps"]  # log-odds of writing from the vocabulary
    copied: Float[Tensor, "*steps source"]  # how likely a token is copied, where it stands first; elsewhere 0
    tokens: Int[Tensor, "*steps source"]


class CopyAttention(nn.Module):
    """Where to copy from: one head, the general score of Luong et al. 2015 (arXiv 1508.04025) to the encoder states.

    Here with a bias, and divided by the root of the width.
    """

    def __init__(self, width: int, memory_width: int):
        super().__init__()
        self.query = nn.Linear(width, memory_width)

    def forward(
        self, features: Float[Tensor, "rows time width"], memory: CopyMemory
    ) -> tuple[Float[Tensor, "rows time memory_width"], Float[Tensor, "rows time source"]]:
        """What each step found, and its weights."""
        states = memory.states[:, None]
        attended = attend(self.query(features)[:, None], states, states, where=Lengths(memory.tokens.lengths))
        observe(self, attended.weights)
        return attended.out[:, 0], attended.weights.dense()[:, 0]


class CopyHead(nn.Module):
    """Tokens are written from the vocabulary or copied from the source, whatever the decoder: the pointer-generator.

    P(w) = p P_vocabulary(w) + (1 - p) sum of a_i over the source steps i that hold w (See et al. 2017, arXiv
    1704.04368, equation 9; Gu et al. 2016, 1603.06393). Both sides have one vocabulary, and END, which ends every
    source, is copied like any other token. ``coverage`` weighs the coverage loss, sum_i min(a_i, sum of a_i before)
    (equations 12 and 13).

    See et al. have one attention for all of this, the decoder's; here a is one of the head's own, so that every decoder
    can copy. It keeps no state, so that it learns from that loss, but is not told its coverage (equation 11): the
    attention of a recurrent decoder is, by the score ``{kind: location_sensitive, kernel: 1, cumulative: true}``. And
    p = sigmoid of a linear layer over the features and what a found, without the decoder's input (equation 8).

    Raises:
        SettingsError: there is no encoder, or it does not give one state for each token.
    """

    def __init__(self, embedding: TokenEmbedding, widths: Widths, smoothing: float = 0.0, coverage: float = 0.0):
        super().__init__()
        if not widths.memory:
            raise SettingsError(
                "copying looks at encoder states, and there is no encoder", hint="set task.head.kind to tokens"
            )
        self.weight = embedding.weight
        self.copy_attention = CopyAttention(widths.output, widths.memory)
        self.gate = nn.Linear(widths.output + widths.memory, 1)
        self.smoothing, self.coverage = smoothing, coverage

    def remember(self, encoded: Encoded) -> CopyMemory:
        tokens, states = encoded.tokens, encoded.states
        if not encoded.stepwise:
            unfit = "copying needs an encoder state for each source token, and this encoder gives others"
            raise SettingsError(unfit, hint="set task.head.kind to tokens, or choose another model.encoder.kind")
        return CopyMemory(tokens, _first_places(tokens.values), as_autocast(states.values))

    def log_probs(self, decoded: Decoded, memory: CopyMemory) -> Float[Tensor, "rows time vocabulary"]:
        mixture, _ = self._mixture(decoded.features, memory)
        return self._mixed(mixture)

    def loss(self, decoded: Decoded, targets: Padded, memory: CopyMemory) -> Loss:
        real = targets.mask
        mixture, weights = self._mixture(decoded.features, memory)
        of_source = decoded.features @ F.embedding(memory.tokens.values, self.weight).mT
        nll, smooth = self._losses(_some(mixture, real), of_source[real], targets.values[real])
        twice = (torch.minimum(weights, weights.cumsum(1) - weights) * real[..., None]).sum()
        total = (1 - self.smoothing) * nll + self.smoothing * smooth + self.coverage * twice
        return Loss(total, int(real.sum()), {"nll": nll.detach(), "coverage": twice.detach()})

    def divergence(
        self, first: Decoded, second: Decoded, targets: Padded, memories: tuple[CopyMemory, CopyMemory]
    ) -> Float[Tensor, ""]:
        real = targets.mask
        sides = [
            _some(self._mixture(decoded.features, memory)[0], real)
            for decoded, memory in zip((first, second), memories, strict=True)
        ]
        size = at_once(self.weight)
        total = self.weight.new_zeros(())
        for start in range(0, len(sides[0].gate), size):
            chunk = (_some(side, slice(start, start + size)) for side in sides)
            total = total + cast(Tensor, checkpoint(self._apart, *chunk, use_reentrant=False))
        return total

    def _mixture(
        self, features: Float[Tensor, "rows time width"], memory: CopyMemory
    ) -> tuple[CopyMixture, Float[Tensor, "rows time source"]]:
        """What is mixed, and the copy attention's weights."""
        context, weights = self.copy_attention(features, memory)
        gate = self.gate(torch.cat([features, context.to(features.dtype)], -1))[..., 0]
        weights, gate = (one.to(torch.promote_types(one.dtype, torch.float32)) for one in (weights, gate))
        beams = len(features) // len(memory.states)
        first, tokens = (
            trees.repeat(one, beams)[:, None].expand(weights.shape) for one in (memory.first, memory.tokens.values)
        )
        copied = torch.zeros_like(weights).scatter_add(-1, first, weights)
        return CopyMixture(features, gate, copied, tokens), weights

    def _mixed(self, mixture: CopyMixture) -> Float[Tensor, "*steps vocabulary"]:
        """All log-probabilities."""
        written = log_softmax(F.linear(mixture.features, self.weight))
        gains = _gains(mixture, written.gather(-1, mixture.tokens))
        return (written + F.logsigmoid(mixture.gate)[..., None]).scatter_add(-1, mixture.tokens, gains)

    def _losses(
        self, mixture: CopyMixture, of_source: Float[Tensor, "tokens source"], answers: Int[Tensor, "tokens"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Negative log-likelihood of the answers and of all tokens alike, from the logits of source tokens.

        Of the vocabulary only the sum is needed: what is not in the source is written, and its mean logit is that of
        the mean weight.
        """
        features, gate, _, tokens = mixture
        log_sum = log_partition(features, self.weight)
        floor = F.logsigmoid(gate) - log_sum
        gains = _gains(mixture, of_source - log_sum[:, None])
        answer = (features * F.embedding(answers, self.weight)).sum(-1) + (gains * (tokens == answers[:, None])).sum(-1)
        mean = features @ self.weight.mean(0) + gains.sum(-1) / len(self.weight)
        return -(floor + answer).sum(), -(floor + mean).sum()

    def _apart(self, first: CopyMixture, second: CopyMixture) -> Float[Tensor, ""]:
        one, other = self._mixed(first), self._mixed(second)
        return ((one.exp() - other.exp()) * (one - other)).sum()


def _first_places(tokens: Int[Tensor, "batch source"]) -> Int[Tensor, "batch source"]:
    """For each step of a row, the first that holds the same token: no padding, unless it is padding itself."""
    return (tokens[:, :, None] == tokens[:, None]).byte().argmax(-1)


def _some(mixture: CopyMixture, steps: Shaped[Tensor, "..."] | slice) -> CopyMixture:
    return CopyMixture(*(one[steps] for one in mixture))


def _gains(mixture: CopyMixture, written: Float[Tensor, "*steps source"]) -> Float[Tensor, "*steps source"]:
    """By how much copying raises the log-probability of each source token, where it stands first; elsewhere 0.

    log(p P + (1 - p) a) = log(p P) + log(1 + exp(log a - log P - log(p / (1 - p)))), with ``written`` for log P.
    """
    there = mixture.copied >= torch.finfo(mixture.copied.dtype).tiny  # below, the gradient of the logarithm overflows
    odds = torch.where(there, mixture.copied, 1.0).log() - written - mixture.gate[..., None]
    return torch.where(there, torch.logaddexp(odds, torch.zeros_like(odds)), 0.0)
