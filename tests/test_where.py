"""Patterns against literal predicates over every pair of positions, and as masks of PyTorch's FlexAttention."""

from collections.abc import Callable
from dataclasses import dataclass

import hypothesis
import pytest
import torch
from hypothesis import strategies
from pydantic import TypeAdapter
from torch.nn.attention.flex_attention import create_mask

from regard.attention.parts import WherePart
from regard.attention.tables import Documents, Graph, Lengths, Table
from regard.attention.where import Blocked, Causal, Dilated, Full, Global, Prefix, Random, Strided, Where, Window

BATCH, HEADS, POSITIONS = 3, 2, 14

Predicate = Callable[[int, int, int, int], bool]


@dataclass(frozen=True)
class Case:
    """A pattern, and whether row b and head h let position i look at j, said once more."""

    name: str
    where: Where
    sees: Predicate

    def __repr__(self) -> str:
        return self.name


IDS = torch.tensor(
    [
        [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, -1, -1],
        [4, 4, 9, 9, 9, 9, 4, 4, 4, 4, 4, 4, 4, 9],  # the same ids in two runs each
        [3] * POSITIONS,
    ]
)
LENGTHS = torch.tensor([14, 0, 5])
EDGES = torch.tensor([[0, 1, 5, 5, 13, 2], [0, 4, 1, 13, 0, 2]])


def plain_cases() -> list[Case]:
    return [
        Case("full", Full(), lambda b, h, i, j: True),
        Case("causal", Causal(), lambda b, h, i, j: j <= i),
        Case("window back", Window(back=3), lambda b, h, i, j: i - 3 <= j <= i),
        Case("window both", Window(back=2, ahead=4), lambda b, h, i, j: i - 2 <= j <= i + 4),
        Case("window of one", Window(back=0), lambda b, h, i, j: i == j),
        Case("prefix", Prefix(length=5), lambda b, h, i, j: j < 5 or j <= i),
        Case("no prefix", Prefix(length=0), lambda b, h, i, j: j <= i),
        Case("dilated", Dilated(gap=3, steps=2), lambda b, h, i, j: j - i in (-6, -3, 0, 3, 6)),
        Case("strided", Strided(stride=4), lambda b, h, i, j: i % 4 == j % 4),
        Case("blocked", Blocked(size=4), lambda b, h, i, j: i // 4 == j // 4),
        Case("global", Global(count=2), lambda b, h, i, j: i < 2 or j < 2),
        Case("no global", Global(count=0), lambda b, h, i, j: False),
    ]


def random_case() -> Case:
    where = Random(count=2, size=3, length=POSITIONS, seed=5)
    chosen = [list(blocks) for blocks in where.chosen]
    return Case("random", where, lambda b, h, i, j: j // 3 in chosen[min(i // 3, 4)])


def table_case(name: str, rows: int, heads: int) -> Case:
    generator = torch.Generator().manual_seed(7)
    mask = torch.rand(rows, heads, POSITIONS, POSITIONS, generator=generator) < 0.4
    listed = mask.tolist()
    return Case(name, Table(mask), lambda b, h, i, j: listed[b % rows][h % heads][i][j])


def tensor_cases() -> list[Case]:
    ids, lengths, edges = IDS.tolist(), LENGTHS.tolist(), EDGES.mT.tolist()
    return [
        Case("lengths", Lengths(LENGTHS), lambda b, h, i, j: j < lengths[b]),
        Case("documents", Documents(IDS), lambda b, h, i, j: ids[b][i] == ids[b][j] != -1),
        Case("graph", Graph(EDGES, POSITIONS), lambda b, h, i, j: [i, j] in edges),
        table_case("table", BATCH, HEADS),
        table_case("table of rows", BATCH, 1),
        table_case("table of heads", 1, HEADS),
        table_case("table for all", 1, 1),
    ]


CASES = [*plain_cases(), random_case(), *tensor_cases()]
each_case = pytest.mark.parametrize("case", CASES, ids=repr)


def both(one: Case, other: Case) -> Case:
    return Case(f"({one} & {other})", one.where & other.where, lambda *at: one.sees(*at) and other.sees(*at))


def either(one: Case, other: Case) -> Case:
    return Case(f"({one} | {other})", one.where | other.where, lambda *at: one.sees(*at) or other.sees(*at))


def neither(one: Case) -> Case:
    return Case(f"~{one}", ~one.where, lambda *at: not one.sees(*at))


def kept(where: Where, at: torch.Tensor, keys_at: torch.Tensor) -> list:
    """What is kept of all pairs, (batch, heads, queries, keys), from one call."""
    rows, heads = torch.arange(BATCH)[:, None, None, None], torch.arange(HEADS)[:, None, None]
    keep = where.keep(rows, heads, at[:, None, :, None], keys_at[:, None, None, :])
    assert keep.dtype == torch.bool
    return keep.expand(BATCH, HEADS, at.shape[1], keys_at.shape[1]).tolist()


def by_hand(sees: Predicate, at: torch.Tensor, keys_at: torch.Tensor) -> list:
    at, keys_at = (one.expand(BATCH, -1).tolist() for one in (at, keys_at))
    return [
        [[[sees(b, h, i, j) for j in keys_at[b]] for i in at[b]] for h in range(HEADS)] for b in range(BATCH)
    ]  # fmt: skip


def covered(where: Where, at: torch.Tensor, keys_at: torch.Tensor) -> list | None:
    """Which keys lie in one of the spans of each query, (batch, queries, keys)."""
    spans = where.spans(at)
    if spans is None:
        return None
    inside = torch.zeros(BATCH, at.shape[1], keys_at.shape[1], dtype=torch.bool)
    for first, last in spans:
        assert first.shape[0] in (1, BATCH) and first.shape[1] == last.shape[1] == at.shape[1]
        inside |= (keys_at[:, None, :] >= first[:, :, None]) & (keys_at[:, None, :] <= last[:, :, None])
    return inside.tolist()


def positions(*numbers: int) -> torch.Tensor:
    return torch.tensor([numbers])


@each_case
@pytest.mark.parametrize(
    ("at", "keys_at"),
    [
        (torch.arange(POSITIONS)[None], torch.arange(POSITIONS)[None]),
        (positions(13), torch.arange(POSITIONS)[None]),
        (positions(4, 5, 6), torch.arange(2, 9)[None]),
        (positions(3, 3, 8), positions(9, 1, 3, 8, 8)),  # beams at the same place, keys in the order of a ring
        (torch.tensor([[0, 1], [12, 13], [6, 2]]), torch.tensor([[0, 1, 2], [11, 12, 13], [5, 4, 6]])),
    ],
    ids=["whole", "last", "chunk", "unordered", "rows"],
)
def test_keep_is_the_predicate(case, at, keys_at):
    assert kept(case.where, at, keys_at) == by_hand(case.sees, at, keys_at)


@each_case
def test_some_rows_and_heads_are_those_of_the_whole(case):
    everywhere = torch.arange(POSITIONS)[None]
    rows, heads = torch.tensor([2, 0])[:, None, None, None], torch.tensor([1])[:, None, None]
    keep = case.where.keep(rows, heads, everywhere[:, None, :, None], everywhere[:, None, None, :])
    whole = by_hand(case.sees, everywhere, everywhere)
    assert keep.expand(2, 1, POSITIONS, POSITIONS).tolist() == [whole[2][1:], whole[0][1:]]


@pytest.mark.parametrize("case", plain_cases(), ids=repr)
@pytest.mark.parametrize("first", [0, 1000, 1 << 33])
def test_patterns_of_numbers_hold_at_any_position(case, first):
    at, keys_at = torch.arange(first + 3, first + 15)[None], torch.arange(first, first + 17)[None]
    assert kept(case.where, at, keys_at) == by_hand(case.sees, at, keys_at)


def flex_mask(where: Where) -> list:
    def mask_mod(b, h, i, j):  # a function, since create_mask counts arguments and would count a method's self
        return where.keep(b, h, i, j)

    return create_mask(mask_mod, BATCH, HEADS, POSITIONS, POSITIONS, device="cpu").tolist()


@each_case
def test_keep_is_a_mask_of_flex_attention(case):
    everywhere = torch.arange(POSITIONS)[None]
    assert flex_mask(case.where) == by_hand(case.sees, everywhere, everywhere)


def test_compositions_are_masks_of_flex_attention():
    case = both(neither(either(CASES[3], random_case())), either(tensor_cases()[1], table_case("table", BATCH, 1)))
    everywhere = torch.arange(POSITIONS)[None]
    assert flex_mask(case.where) == by_hand(case.sees, everywhere, everywhere)


trees = strategies.recursive(
    strategies.tuples(strategies.sampled_from(CASES)),
    lambda some: strategies.one_of(
        strategies.tuples(strategies.sampled_from([both, either]), some, some),
        strategies.tuples(strategies.just(neither), some),
    ),
    max_leaves=5,
)
"""Compositions to make: a case alone, or how to combine others."""


def made(tree: tuple) -> Case:
    how, *parts = tree
    return how(*map(made, parts)) if parts else how


@strategies.composite
def some_positions(draw: strategies.DrawFn, most: int) -> torch.Tensor:
    rows, count = draw(strategies.sampled_from([1, BATCH])), draw(strategies.integers(1, most))
    row = strategies.lists(strategies.integers(0, POSITIONS - 1), min_size=count, max_size=count)
    return torch.tensor(draw(strategies.lists(row, min_size=rows, max_size=rows)))


@hypothesis.settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=150,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(tree=trees, at=some_positions(4), keys_at=some_positions(8))
def test_compositions_are_predicates_and_spans_cover_what_they_keep(tree, at, keys_at):
    case = made(tree)
    expected = by_hand(case.sees, at, keys_at)
    assert kept(case.where, at, keys_at) == expected
    inside = covered(case.where, at, keys_at)
    if inside is not None:
        for row, by_head in zip(inside, expected, strict=True):
            for head in by_head:
                for covers, keeps in zip(row, head, strict=True):
                    assert all(cover or not keep for cover, keep in zip(covers, keeps, strict=True))


EXACT = ["causal", "window both", "prefix", "blocked", "global", "random", "lengths"]


@pytest.mark.parametrize("case", [case for case in CASES if case.name in EXACT], ids=repr)
def test_spans_of_intervals_hold_nothing_else(case):
    everywhere = torch.arange(POSITIONS)[None]
    expected = [row[0] for row in by_hand(case.sees, everywhere, everywhere)]
    assert covered(case.where, everywhere, everywhere) == expected


def test_spans_of_compositions_hold_nothing_else():
    everywhere = torch.arange(POSITIONS)[None]
    by_name = {case.name: case for case in CASES}
    longformer = either(by_name["window both"], by_name["global"])
    for case in (both(longformer, by_name["lengths"]), both(by_name["causal"], by_name["blocked"])):
        expected = [row[0] for row in by_hand(case.sees, everywhere, everywhere)]
        assert covered(case.where, everywhere, everywhere) == expected


def test_a_span_that_is_unknown():
    at = torch.arange(3)[None]
    assert Full().spans(at) is Strided().spans(at) is (~Causal()).spans(at) is (Causal() | Strided()).spans(at) is None
    [(first, last)] = (Window(back=1) & Strided()).spans(at)
    assert (first.tolist(), last.tolist()) == ([[-1, 0, 1]], [[0, 1, 2]])


REACHES = [
    (Window(back=3, ahead=5), 3),
    (Dilated(gap=3, steps=2), 6),
    (Blocked(size=4), 3),
    (Causal(), None),
    (Prefix(length=2), None),
    (Strided(), None),
    (Causal() & Window(back=4), 4),
    (Window(back=4) & Blocked(size=3), 2),
    (Window(back=4) | Blocked(size=3), 4),
    (Window(back=4) | Global(), None),
    (~Window(back=4), None),
]


@pytest.mark.parametrize(("where", "reach"), REACHES)
def test_how_far_back_a_pattern_looks(where, reach):
    assert where.reach == reach


@hypothesis.settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=50,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(tree=trees)
def test_nothing_is_kept_beyond_the_reach(tree):
    case, everywhere = made(tree), torch.arange(POSITIONS)[None]
    if (reach := case.where.reach) is not None:
        kept_at = torch.tensor(kept(case.where, everywhere, everywhere)).nonzero()
        assert (kept_at[:, 2] - kept_at[:, 3] <= reach).all()


def test_everything_is_neutral_in_conjunctions():
    causal = Causal()
    assert (causal & Full()) is causal and (Full() & causal) is causal


def test_random_blocks_are_drawn_once_for_a_seed():
    settings = {"count": 3, "size": 2, "length": 40}
    where = Random(**settings, seed=1)
    assert where.chosen == Random(**settings, seed=1).chosen != Random(**settings, seed=2).chosen
    assert where == Random(**settings, seed=1)
    assert len(where.chosen) == 20
    assert all(len(set(blocks)) == 3 and set(blocks) <= set(range(20)) for blocks in where.chosen)
    assert len(set(where.chosen)) > 10
    assert [len(set(blocks)) for blocks in Random(count=5, size=2, length=4).chosen] == [2, 2]


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "full"},
        {"kind": "window", "back": 3, "ahead": 2},
        {"kind": "prefix", "length": 3},
        {"kind": "dilated", "gap": 3},
        {"kind": "strided", "stride": 3},
        {"kind": "blocked", "size": 3},
        {"kind": "global", "count": 3},
        {"kind": "random", "count": 1, "size": 2, "length": 14},
        {"kind": "all", "of": [{"kind": "causal"}, {"kind": "any", "of": [{"kind": "window"}, {"kind": "global"}]}]},
    ],
)
def test_settings_go_there_and_back(given):
    adapter = TypeAdapter(WherePart)
    part, everywhere = adapter.validate_python(given), torch.arange(POSITIONS)[None]
    before = kept(part.build(), everywhere, everywhere)
    again = adapter.validate_python(adapter.dump_python(part, mode="json"))
    assert again == part
    assert kept(again.build(), everywhere, everywhere) == before


def test_settings_combine_as_operators_do():
    causal, window, some = {"kind": "causal"}, {"kind": "window", "back": 1, "ahead": 1}, {"kind": "global", "count": 1}
    given = {"kind": "any", "of": [some, {"kind": "all", "of": [causal, window]}]}
    built = TypeAdapter(WherePart).validate_python(given).build()
    everywhere = torch.arange(POSITIONS)[None]
    expected = by_hand(lambda b, h, i, j: i < 1 or j < 1 or i - 1 <= j <= i, everywhere, everywhere)
    assert kept(built, everywhere, everywhere) == expected
