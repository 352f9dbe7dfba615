"""Every pattern and bias with its formula written once more, and ways for queries and keys to stand: for tests."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from attention_members import HEADS, SPAN, Member, Places
from regard.attention.positions import Alibi, T5Bias
from regard.attention.tables import Documents, Graph, Lengths, Table
from regard.attention.where import Blocked, Causal, Dilated, Full, Global, Prefix, Random, Strided, Window

BATCH, QUERIES, KEYS, VALUES = 2, 5, 9, 3

IDS = torch.tensor([[-1] * 5 + [4] * 3 + [0] * 10 + [-1] * 6, [2, 3] * 4 + [5] * 16])
LENGTHS = torch.tensor([0, 7])
MASK = torch.rand(BATCH, HEADS, SPAN, SPAN, generator=torch.Generator().manual_seed(1)) < 0.4
EDGES = torch.tensor([[4, 4, 5, 6, 6, 6, 8, 12, 13, 17], [0, 4, 8, 1, 2, 6, 8, 10, 2, 3]])
BLOCKS = Random(count=2, size=3, length=SPAN)

# formula(row, head, position of the query, position of the key) of plain numbers
PATTERNS = [
    Member("full", Full, lambda b, h, i, j: True),
    Member("causal", Causal, lambda b, h, i, j: j <= i),
    Member("window", lambda: Window(back=2), lambda b, h, i, j: i - 2 <= j <= i),
    Member("both_sides", lambda: Window(back=3, ahead=1), lambda b, h, i, j: i - 3 <= j <= i + 1),
    Member("prefix", lambda: Prefix(length=3), lambda b, h, i, j: j < 3 or j <= i),
    Member("dilated", lambda: Dilated(gap=2, steps=2), lambda b, h, i, j: abs(i - j) in (0, 2, 4)),
    Member("strided", lambda: Strided(stride=3), lambda b, h, i, j: i % 3 == j % 3),
    Member("blocked", lambda: Blocked(size=3), lambda b, h, i, j: i // 3 == j // 3),
    Member("random", lambda: BLOCKS, lambda b, h, i, j: j // 3 in BLOCKS.chosen[i // 3]),
    Member("lengths", lambda: Lengths(LENGTHS), lambda b, h, i, j: j < int(LENGTHS[b])),
    Member("documents", lambda: Documents(IDS), lambda b, h, i, j: int(IDS[b, i]) == int(IDS[b, j]) != -1),
    Member("table", lambda: Table(MASK), lambda b, h, i, j: bool(MASK[b, h, i, j])),
    Member("graph", lambda: Graph(EDGES, SPAN), lambda b, h, i, j: [i, j] in EDGES.mT.tolist()),
    Member(
        "longformer",
        lambda: (Window(back=1, ahead=1) | Global(count=2)) & Lengths(LENGTHS),
        lambda b, h, i, j: (i - 1 <= j <= i + 1 or i < 2 or j < 2) and j < int(LENGTHS[b]),
    ),
    Member("future", lambda: ~Causal(), lambda b, h, i, j: j > i),
]


def seen(pattern: Member, places: tuple[Tensor, Tensor]) -> Tensor:
    """What may be seen, (rows, heads, queries, keys), one pair after another."""
    at, keys_at = (one.tolist() for one in places)
    beams = len(at) // BATCH
    return torch.tensor(
        [
            [
                [[bool(pattern.formula(row // beams, h, i, j)) for j in keys_at[row]] for i in at[row]]
                for h in range(HEADS)
            ]
            for row in range(len(at))
        ]
    )


# --- biases: build(rows), formula(bias, places)


def constant(rows: int) -> Tensor:
    return torch.randn(rows, HEADS, QUERIES, KEYS)


def learned(rows: int) -> Tensor:
    return torch.randn(1, HEADS, QUERIES, KEYS, requires_grad=True)


def by_slope(bias: object, places: Places) -> Tensor:
    return -places.ahead.abs() * torch.tensor([2**-4, 2**-8]).view(HEADS, 1, 1)


def bucket(offset: int) -> int:
    """The bucket of 8 that holds an offset j - i: by half on either side, single ones below 2, the last from 12 on."""
    distance = abs(offset)
    shared = 2 + int(math.log(max(distance, 1) / 2) / math.log(12 / 2) * 2)
    return (distance if distance < 2 else min(shared, 3)) + 4 * (offset > 0)


def by_bucket(bias: T5Bias, places: Places) -> Tensor:
    buckets = torch.tensor([bucket(offset) for offset in range(-SPAN, SPAN + 1)])
    return bias.table[buckets[places.ahead[:, 0] + SPAN]].movedim(-1, 1)


BIASES = [
    Member("unbiased", lambda rows: None, lambda bias, places: 0.0),
    Member("constant", constant, lambda bias, places: bias),
    Member("of_keys", lambda rows: torch.randn(rows, 1, 1, KEYS), lambda bias, places: bias),
    Member("learned", learned, lambda bias, places: bias),
    Member("alibi", lambda rows: Alibi().on_score(HEADS), by_slope),
    Member("t5", lambda rows: T5Bias(HEADS, buckets=8, reach=12), by_bucket),
]


# --- positions: of queries and keys as `attend` takes them, None for its own, given how many rows there are


class Standing(NamedTuple):
    """Where queries and keys stand, and whether both are turned by it."""

    name: str
    places: Callable[[int], tuple[Tensor | None, Tensor | None]]
    turned: bool = False

    def __str__(self) -> str:
        return self.name


def of_rows(rows: int) -> Tensor:
    return torch.arange(rows)[:, None] % 5 + torch.arange(QUERIES)


GAP = torch.tensor([0, 1, 2, 3, 9, 10, 11, 12, 17])
STANDINGS = [
    Standing("last", lambda rows: (None, None)),
    Standing("rotary", lambda rows: (None, None), turned=True),
    Standing("shifted", lambda rows: (torch.arange(2, 2 + QUERIES), None)),
    Standing("own", lambda rows: (of_rows(rows), None), turned=True),
    Standing("gap", lambda rows: (torch.tensor([[3, 9, 10, 12, 17]]), GAP), turned=True),
    Standing("ring", lambda rows: (of_rows(rows) + 8, (torch.arange(KEYS) + 5) % KEYS + 4)),
    Standing("own_gaps", lambda rows: (of_rows(rows) + 6, torch.stack([GAP, torch.arange(3, 3 + KEYS)]))),
]
UNORDERED = {"ring", "own_gaps"}
