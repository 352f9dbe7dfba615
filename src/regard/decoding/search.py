"""Search: what to look for, and the search that finds it."""

from typing import Any

import torch
from jaxtyping import Int
from pydantic import Field, model_validator
from torch import Tensor

from regard.decoding.beam import beam_search
from regard.decoding.greedy import greedy_search, most_likely
from regard.decoding.interface import Decodable, Hypothesis, Tokens
from regard.decoding.rules import Rule, forbid, forced_prefix, maximum_length, minimum_length, no_repeat_ngram
from regard.decoding.sampling import Draws, Sampling
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
    sampling: Sampling | None = Field(default=None, description="draw the answer instead of looking for the likeliest")

    @model_validator(mode="after")
    def _consistent(self) -> "Search":
        if self.n_best > self.beam:
            raise ValueError(f"n_best {self.n_best} needs a beam at least as wide, not {self.beam}")
        if self.max_length is not None and self.max_length < self.min_length:
            raise ValueError(f"max_length {self.max_length} is below min_length {self.min_length}")
        if self.sampling and self.beam > 1:
            raise ValueError(f"an answer is drawn or searched for, not both: leave out sampling, or beam {self.beam}")
        return self

    def options(self, **given: Any) -> dict[str, Any]:
        """All of it as plain data, with some options changed; those of `Sampling` too, and ``sample``: whether to draw.

        Whoever asks for a beam wants no draws, and the other way round.
        """
        drawn = {name: given.pop(name) for name in Sampling.model_fields if name in given}
        if given.pop("sample", False) or drawn:
            settled = {"beam": 1, "n_best": 1, "sampling": (self.sampling or Sampling()).model_dump() | drawn}
        else:
            settled = {"n_best": 1, "sampling": None} if "beam" in given else {}
        return self.model_dump() | settled | given

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
    source: Padded | None = None,
) -> list[list[Hypothesis]]:
    """The ``n_best`` best answers for every row of a memory, best first.

    ``forbidden`` tokens are never chosen; each row's answer begins with its row of ``prefix``. What is drawn at random
    follows from the row's ``source``, where there is none from its length.
    """
    limits = settings.limits(source_lengths)
    rules = _rules(settings, repeat(limits, settings.beam), ends, forbidden, prefix and repeat(prefix, settings.beam))
    if settings.beam == 1:
        read = source or Padded(source_lengths[:, None], torch.ones_like(source_lengths))
        choose = Draws(settings.sampling, read) if settings.sampling else most_likely
        return greedy_search(model, memory, limits, ends, rules, settings.length_penalty, choose)
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
