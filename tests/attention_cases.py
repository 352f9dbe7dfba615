"""Cases for tests of `attend`: any members at any positions, random inputs, and what they should find by dense code."""

import math
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attention_members import BENDING, HEADS, NORMS, SCORES, WIDTH, WINDOWS, Member, Places, factor
from attention_places import BATCH, BIASES, KEYS, PATTERNS, QUERIES, STANDINGS, VALUES, Standing, seen
from regard.attention import attend


class Layout(NamedTuple):
    """Heads of keys and values, and rows of queries for each memory."""

    kv_heads: int
    beams: int

    def __str__(self) -> str:
        return f"{self.kv_heads}x{self.beams}"


LAYOUTS = [Layout(2, 1), Layout(1, 1), Layout(2, 3), Layout(1, 2)]


class Case(NamedTuple):
    """One of each."""

    score: Member
    norm: Member
    pattern: Member
    bias: Member
    standing: Standing
    layout: Layout

    def __str__(self) -> str:
        return "-".join(map(str, self))


def spread(sizes: list[int], strength: int) -> list[tuple[int, ...]]:
    """Choices of one member of each list in which every combination of any ``strength`` members occurs.

    They are the values of all polynomials of a lower degree than that at as many points as there are lists, over the
    field of a prime number of elements (Bush 1952, "Orthogonal arrays of index unity").
    """
    prime = next(n for n in range(max(sizes), 4 * max(sizes)) if all(n % m for m in range(2, n)))
    polynomials = product(range(prime), repeat=strength)
    values = (
        [sum(c * point**power for power, c in enumerate(some)) % prime for point in range(len(sizes))]
        for some in polynomials
    )
    return sorted({tuple(value % size for value, size in zip(row, sizes, strict=True)) for row in values})


def cases(strength: int) -> list[Case]:
    """Those in which any ``strength`` members, each of another kind, come together at least once."""
    lists: list[list[Any]] = [SCORES, NORMS, PATTERNS, BIASES, STANDINGS, LAYOUTS]
    rows = spread([*map(len, lists)], strength)
    chosen = (Case(*(some[n] for some, n in zip(lists, row, strict=True))) for row in rows)
    return [case for case in chosen if not (case.score.name in WINDOWS and case.norm.name in BENDING)]


@dataclass
class Call:
    """Random inputs for a case. Keys are as they are before the score's own `keys`."""

    case: Case
    queries: Tensor
    keys: Tensor
    values: Tensor
    score: Any
    norm: Any
    bias: Any
    at: Tensor | None
    keys_at: Tensor | None

    @property
    def places(self) -> Places:
        """Of every row, whether said or not."""
        at = torch.arange(KEYS - QUERIES, KEYS) if self.at is None else self.at
        keys_at = torch.arange(KEYS) if self.keys_at is None else self.keys_at
        rows, beams = len(self.queries), self.case.layout.beams
        both = at.expand(rows, -1), keys_at.expand(BATCH, -1).repeat_interleave(beams, 0)
        return Places(*both, seen(self.case.pattern, both))

    def leaves(self) -> list[Tensor]:
        """All that gets a gradient."""
        modules = [one for one in (self.score, self.norm, self.bias) if isinstance(one, nn.Module)]
        biases = [self.bias] if isinstance(self.bias, Tensor) and self.bias.requires_grad else []
        return [self.queries, self.keys, self.values, *biases, *(p for module in modules for p in module.parameters())]

    def turned(self) -> tuple[Tensor, Tensor]:
        """Queries and keys, pairs of features turned by their position as complex numbers."""
        if not self.case.standing.turned:
            return self.queries, self.keys
        places = self.places
        return turned(self.queries, places.at), turned(self.keys, places.keys_at[:: self.case.layout.beams])

    def found(self, kernel: str) -> list[Tensor]:
        """Output, weights and lse where there is one, by `attend`."""
        queries, keys = self.turned()
        attended = attend(
            queries,
            self.score.keys(keys),
            self.values,
            score=self.score,
            where=self.case.pattern.build(),
            norm=self.norm,
            bias=self.bias,
            at=self.at,
            keys_at=self.keys_at,
            kernel=kernel,
        )
        if attended.lse is None:
            return [attended.out, attended.weights.dense()]
        nothing = attended.lse < -1e300  # of scores that are the lowest finite number, outside a window
        return [attended.out, attended.weights.dense(), attended.lse.masked_fill(nothing, -math.inf)]

    def specified(self, lse: bool) -> list[Tensor]:
        """The same by the formulas."""
        case, places = self.case, self.places
        queries, keys = self.turned()
        keys, values = (
            one.repeat_interleave(case.layout.beams, 0).repeat_interleave(HEADS // case.layout.kv_heads, 1)
            for one in (keys, self.values)
        )
        scores = case.score.formula(self.score, queries, keys, places) + case.bias.formula(self.bias, places)
        weights = case.norm.formula(self.norm, scores, places.keep) * factor(self.score, queries, places)
        out = torch.einsum("bhij,bhjx->bhix", weights, values)
        return [out, weights, logarithm_of_sum(scores, places.keep)] if lse else [out, weights]


def made(case: Case) -> Call:
    """A call of random numbers; whatever is learned is random too."""
    rows = BATCH * case.layout.beams
    score, norm, bias = case.score.build(), case.norm.build(), case.bias.build(rows)
    for module in (score, norm, bias):
        if isinstance(module, nn.Module):
            for parameter in module.parameters():
                nn.init.normal_(parameter)
    queries = torch.randn(rows, HEADS, QUERIES, WIDTH, requires_grad=True)
    keys = torch.randn(BATCH, case.layout.kv_heads, KEYS, WIDTH, requires_grad=True)
    values = torch.randn(BATCH, case.layout.kv_heads, KEYS, VALUES, requires_grad=True)
    return Call(case, queries, keys, values, score, norm, bias, *case.standing.places(rows))


def turned(vectors: Tensor, at: Tensor) -> Tensor:
    angles = at[:, None, :, None] / 10000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
    pairs = torch.view_as_complex(vectors.unflatten(-1, (-1, 2))) * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(pairs).flatten(-2)


def logarithm_of_sum(scores: Tensor, keep: Tensor) -> Tensor:
    sums = torch.where(keep, scores, -math.inf).exp().sum(-1)
    return torch.where(sums > 0, torch.where(sums > 0, sums, 1.0).log(), -math.inf)
