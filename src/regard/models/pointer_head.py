"""The pointer head: answers that are spans of what was read."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from regard.data.tokenisers import END
from regard.errors import SettingsError
from regard.layers.losses import log_softmax
from regard.layers.segments import segments_of
from regard.models.parts import Decoded, Encoded, Loss, Widths
from regard.padded import Padded

STEPS = 2
"""Where an answer starts, and where it ends."""


class PointerMemory(NamedTuple):
    """The keys of every source step for both steps of an answer, and which steps are of the passage."""

    keys: Float[Tensor, "batch source steps width"]
    allowed: Bool[Tensor, "batch source"]


class PointerHead(nn.Module):
    """Two steps that point at the passage, the second segment of the source: where the answer starts, where it ends.

    P(i) = softmax over i of v . tanh(W e_i + U d), of the encoder's states e and the decoder's step d (Vinyals et al.
    2015, arXiv 1506.03134, equation 3), with weights of its own for each step. Given the source both steps are
    independent, so that the best pair can be found exactly.

    Raises:
        SettingsError: there is no encoder, or it does not give one state for each token.
    """

    def __init__(self, widths: Widths):
        super().__init__()
        if not widths.memory:
            raise SettingsError("pointing looks at encoder states, and there is no encoder", hint="choose an encoder")
        self.width = widths.memory
        self.keys = nn.Linear(widths.memory, STEPS * self.width)
        self.queries = nn.Linear(widths.output, STEPS * self.width, bias=False)
        self.values = nn.Parameter(nn.init.xavier_uniform_(torch.empty(STEPS, self.width)))

    def remember(self, encoded: Encoded) -> PointerMemory:
        if not encoded.stepwise:
            unfit = "pointing needs an encoder state for each source token, and this encoder gives others"
            raise SettingsError(unfit, hint="choose another model.encoder.kind")
        ids = encoded.tokens.values
        allowed = (segments_of(ids, END) == 1) & (ids != END) & encoded.tokens.mask
        return PointerMemory(self.keys(encoded.states.values).unflatten(-1, (STEPS, self.width)), allowed)

    def scores(self, decoded: Decoded, memory: PointerMemory) -> Float[Tensor, "rows steps source"]:
        """Of every source step, to start and to end with; not normalised, the lowest there are outside of passages."""
        queries = self.queries(decoded.features).unflatten(-1, (STEPS, self.width)).diagonal(dim1=1, dim2=2).mT
        bent = torch.tanh(memory.keys + queries[:, None])
        scores = torch.einsum("bsiw,iw->bis", bent, self.values)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return scores.masked_fill(~memory.allowed[:, None], torch.finfo(scores.dtype).min / STEPS)

    def loss(self, decoded: Decoded, targets: Padded, memory: PointerMemory) -> Loss:
        """-log of the probability of all right spans together; a target holds the start and the end of each in turn.

        Where it is not known which one is meant, the sum decides (Kadlec et al. 2016, arXiv 1603.01547).
        """
        log_probs = log_softmax(self.scores(decoded, memory))
        starts, ends = targets.values[:, 0::STEPS], targets.values[:, 1::STEPS]
        likelihood = log_probs[:, 0].gather(1, starts) + log_probs[:, 1].gather(1, ends)
        total = -likelihood.masked_fill(~targets.mask[:, 0::STEPS], -torch.inf).logsumexp(1).sum()
        return Loss(total, len(starts), {"nll": total.detach()})


def best_spans(
    scores: Float[Tensor, "rows steps source"], longest: int, most: int
) -> tuple[Float[Tensor, "rows spans"], Int[Tensor, "rows spans"], Int[Tensor, "rows spans"]]:
    """The highest sums of a start and an end that is not before it nor ``longest`` steps after it, and both places."""
    lowest = torch.finfo(scores.dtype).min / STEPS
    ends = F.pad(scores[:, 1], (0, longest - 1), value=lowest).unfold(1, longest, 1)
    pairs = (scores[:, 0, :, None] + ends).flatten(1)
    best = pairs.topk(min(most, pairs.shape[1]))
    starts = best.indices // longest
    return best.values, starts, starts + best.indices % longest
