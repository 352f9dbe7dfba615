"""One token after the other: the most likely one, or one that is chosen in another way."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard.decoding.interface import Decodable, Hypothesis, Tokens, advance_by_one, length_penalty
from regard.decoding.rules import Rule, apply
from regard.trees import Nest

Choice = Callable[[Float[Tensor, "rows vocabulary"]], Int[Tensor, "rows"]]


def most_likely(log_probs: Float[Tensor, "rows vocabulary"]) -> Int[Tensor, "rows"]:
    return log_probs.argmax(dim=-1)


def greedy_search(
    model: Decodable,
    memory: Nest,
    limits: Int[Tensor, "batch"],
    ends: Tokens,
    rules: Sequence[Rule],
    alpha: float,
    choose: Choice = most_likely,
) -> list[list[Hypothesis]]:
    """One answer per row, of at most ``limits[row]`` tokens; ``rules`` decide what is allowed and when a row ends."""
    state = model.start(memory, len(limits), room=int(limits.max()))
    tokens = limits.new_full((len(limits), 1), ends.start)
    total = torch.zeros(len(limits), device=limits.device)
    done = torch.zeros_like(limits, dtype=torch.bool)
    while not bool(done.all()):
        log_probs, state = advance_by_one(model, tokens[:, -1], memory, state)
        log_probs = apply(rules, log_probs, tokens[:, 1:], ends.end)
        chosen = choose(log_probs)
        total = total + log_probs.gather(1, chosen[:, None])[:, 0].masked_fill(done, 0)
        tokens = torch.cat([tokens, chosen.masked_fill(done, ends.end)[:, None]], dim=1)
        done = done | (chosen == ends.end)
    rows = zip(tokens[:, 1:].tolist(), total.tolist(), strict=True)
    return [[_hypothesis(row, score, ends.end, alpha)] for row, score in rows]


def _hypothesis(tokens: list[int], total: float, end: int, alpha: float) -> Hypothesis:
    length = tokens.index(end)
    return Hypothesis(tokens[:length], total / length_penalty(length + 1, alpha))
