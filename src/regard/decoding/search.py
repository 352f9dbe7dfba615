"""Search: what to look for, and the search that finds it."""

import torch
from jaxtyping import Int
from pydantic import Field, model_validator
from torch import Tensor

from regard.decoding.beam import beam_search
from regard.decoding.greedy import greedy_search
from regard.decoding.interface import Decodable, Hypothesis, Tokens
from regard.decoding.rules import Rule, forbid, forced_prefix, maximum_length, minimum_length, no_repeat_ngram
from regard.padded import Padded
from regard.settings import Settings
from regard.trees import Nest, repeat

LONGEST = 100_000
"""Tokens of an answer, at most."""


class Search(Settings):
    """What to look for. Lengths count the tokens of the answer and its end."""

    beam: int = Field(default=1, ge=1, le=1000)
    length_penalty: float = Field(default=1.0, ge=0, description="alpha of Wu et al. 2016; 0 prefers short answers")
    n_best: int = Field(default=1, ge=1)
    min_length: int = Field(default=1, ge=1, le=LONGEST)
    max_length: int | None = Field(
        default=None, ge=1, le=LONGEST, description="by default 20 + 3 x the source's length"
    )
    no_repeat_ngram: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> "Search":
        if self.n_best > self.beam:
            raise ValueError(f"n_best {self.n_best} needs a beam at least as wide, not {self.beam}")
        if self.max_length is not None and self.max_length < self.min_length:
            raise ValueError(f"max_length {self.max_length} is below min_length {self.min_length}")
        return self

    def limits(self, source_lengths: Int[Tensor, "batch"]) -> Int[Tensor, "batch"]:
        """The greatest length of each row's answer: a function of that row alone."""
        if self.max_length is not None:
            return source_lengths.new_full(source_lengths.shape, self.max_length)
        return 20 + 3 * source_lengths


@torch.no_grad()
def search(
    model: Decodable,
    memory: Nest,
    source_lengths: Int[Tensor, "batch"],
    settings: Search,
    ends: Tokens,
    forbidden: tuple[int, ...] = (),
    prefix: Padded | None = None,
) -> list[list[Hypothesis]]:
    """The ``n_best`` best answers for every row of a memory, best first.

    ``forbidden`` tokens are never chosen; each row's answer begins with its row of ``prefix``.
    """
    limits = settings.limits(source_lengths)
    rules = _rules(settings, repeat(limits, settings.beam), ends, forbidden, prefix and repeat(prefix, settings.beam))
    if settings.beam == 1:
        return greedy_search(model, memory, limits, ends, rules, settings.length_penalty)
    found = beam_search(model, memory, limits, ends, rules, settings.length_penalty, settings.beam)
    return [row[: settings.n_best] for row in found]


def _rules(
    settings: Search, limits: Tensor, ends: Tokens, forbidden: tuple[int, ...], prefix: Padded | None
) -> list[Rule]:
    """Later rules overrule earlier ones: a prefix is kept as it is, and the longest length always ends."""
    rules = [forbid(*forbidden)] if forbidden else []
    if settings.no_repeat_ngram:
        rules.append(no_repeat_ngram(settings.no_repeat_ngram))
    if settings.min_length > 1:
        rules.append(minimum_length(settings.min_length, ends.end))
    if prefix is not None:
        rules.append(forced_prefix(prefix))
    return [*rules, maximum_length(limits, ends.end)]
