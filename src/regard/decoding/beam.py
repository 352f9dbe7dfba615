"""Batched beam search: the best few answers of every row, the memory never copied, no bookkeeping outside tensors."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard import trees
from regard.decoding.interface import NEVER, Decodable, Hypothesis, Tokens, advance_by_one, length_penalty
from regard.decoding.rules import Rule, apply
from regard.trees import Nest


class Candidates(NamedTuple):
    """Scores, and the tokens they belong to, of a few answers per row."""

    scores: Float[Tensor, "batch few"]
    tokens: Int[Tensor, "batch few length"]

    def best(self, count: int) -> tuple["Candidates", Int[Tensor, "batch count"]]:
        """The best few of each row, and which they were."""
        scores, chosen = self.scores.topk(count, dim=1)
        return Candidates(scores, self.tokens.gather(1, chosen[..., None].expand(-1, -1, self.tokens.shape[2]))), chosen


def beam_search(
    model: Decodable,
    memory: Nest,
    limits: Int[Tensor, "batch"],
    ends: Tokens,
    rules: Sequence[Rule],
    alpha: float,
    beam: int,
) -> list[list[Hypothesis]]:
    """The ``beam`` best answers of each row, best first; ``rules`` see batch * beam rows.

    Every step extends the best ``beam`` open answers by every token and keeps the best 2 * beam, of which at most
    ``beam`` can have ended. A row is finished when no open answer can still beat its worst kept one: dividing by the
    penalty of the longest length bounds what an open answer can reach, so a wide enough beam is exhaustive.
    """
    batch, longest = len(limits), int(limits.max())
    state = model.start(memory, batch * beam, room=longest)
    open_ = _opening(batch, beam, ends.start, limits)
    ended = Candidates(open_.scores.new_full((batch, beam), NEVER), open_.tokens)
    bound = length_penalty(limits, alpha)[:, None]
    while bool((open_.scores > NEVER).any()):
        log_probs, state = advance_by_one(model, open_.tokens[..., -1].flatten(), memory, state)
        log_probs = apply(rules, log_probs, open_.tokens[..., 1:].flatten(0, 1), ends.end)
        extended, parents = _extend(open_, log_probs.unflatten(0, (batch, beam)))
        is_end = extended.tokens[..., -1] == ends.end
        penalty = length_penalty(extended.tokens.shape[2] - 1, alpha)
        ended = _keep(ended, extended, is_end, penalty)
        open_, chosen = extended._replace(scores=extended.scores.masked_fill(is_end, NEVER)).best(beam)
        hopeless = open_.scores / bound <= ended.scores[:, -1:]
        open_ = open_._replace(scores=open_.scores.masked_fill(hopeless, NEVER))
        rows = parents.gather(1, chosen) + beam * torch.arange(batch, device=limits.device)[:, None]
        state = trees.select(state, rows.flatten())
    return [
        _hypotheses(*row, ends.end) for row in zip(ended.scores.tolist(), ended.tokens[..., 1:].tolist(), strict=True)
    ]


def _opening(batch: int, beam: int, start: int, limits: Tensor) -> Candidates:
    """One open answer per row: the other beams are impossible until it has branched."""
    scores = torch.full((batch, beam), NEVER, device=limits.device)
    scores[:, 0] = 0
    return Candidates(scores, limits.new_full((batch, beam, 1), start))


def _extend(open_: Candidates, log_probs: Float[Tensor, "batch beam vocabulary"]) -> tuple[Candidates, Tensor]:
    """The best 2 * beam answers that are one token longer, and which beam each came from."""
    beam, vocabulary = log_probs.shape[1:]
    totals = (open_.scores[..., None] + log_probs).flatten(1)
    scores, places = totals.topk(min(2 * beam, totals.shape[1]), dim=1)
    parents, tokens = places // vocabulary, places % vocabulary
    prefixes = open_.tokens.gather(1, parents[..., None].expand(-1, -1, open_.tokens.shape[2]))
    return Candidates(scores, torch.cat([prefixes, tokens[..., None]], dim=2)), parents


def _keep(ended: Candidates, extended: Candidates, is_end: Tensor, penalty: float) -> Candidates:
    """The best of those that had ended and those that end now."""
    padded = torch.nn.functional.pad(ended.tokens, (0, extended.tokens.shape[2] - ended.tokens.shape[2]))
    scores = (extended.scores / penalty).masked_fill(~is_end, NEVER)
    both = Candidates(torch.cat([ended.scores, scores], 1), torch.cat([padded, extended.tokens], 1))
    return both.best(ended.scores.shape[1])[0]


def _hypotheses(scores: list[float], tokens: list[list[int]], end: int) -> list[Hypothesis]:
    return [
        Hypothesis(row[: row.index(end)], score) for score, row in zip(scores, tokens, strict=True) if score > NEVER
    ]
