"""Drawing tokens: what is left to draw from, how often each is drawn, and that a row's draws are its own."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from regard.decoding.interface import Tokens
from regard.decoding.sampling import Draws, Sampling, likeliest, nucleus
from regard.decoding.search import Search, search
from regard.errors import SettingsError
from regard.padded import Padded, pad
from regard.settings import parse

ENDS = Tokens(2, 3)
PROBS = [0.05, 0.4, 0.1, 0.3, 0.15]


def kept(logits: Tensor) -> list[int]:
    return (logits[0] > -math.inf).nonzero()[:, 0].tolist()


class Chances:
    """Everywhere the same distribution over six tokens, and the first is the greatest where there is a memory."""

    def start(self, memory: object, rows: int, room: int = 0) -> Tensor:
        return torch.zeros(rows)

    def advance(self, tokens: Padded, memory: object, state: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tensor([0.1, 0.2, 0.0, 0.2, 0.3, 0.2]).log().expand(len(state), 1, 6), state

    def log_probs(self, decoded: Tensor, memory: object) -> Tensor:
        return decoded


def sources(*rows: list[int]) -> Padded:
    return pad(rows)


def drawn(rows: list[list[int]], **options: object) -> list[list[int]]:
    source = sources(*rows)
    settings = Search(max_length=12, sampling=Sampling(**options))
    found = search(Chances(), None, source.lengths, settings, ENDS, (0,), source=source)
    return [one.tokens for [one] in found]


def test_only_the_likeliest_are_left() -> None:
    logits = torch.tensor([PROBS]).log()
    assert kept(likeliest(logits, 2)) == [1, 3] and kept(likeliest(logits, 9)) == [0, 1, 2, 3, 4]
    assert kept(likeliest(torch.zeros(1, 4), 1)) == [0, 1, 2, 3]


@pytest.mark.parametrize("share", [0.01, 0.3, 0.4, 0.41, 0.69, 0.71, 0.9, 0.96, 1.0])
def test_the_nucleus_is_the_fewest_that_make_up_the_probability(share: float) -> None:
    wanted: list[int] = []
    total = 0.0
    for token in np.argsort(PROBS)[::-1].tolist():
        if total >= share - 1e-6:
            break
        wanted.append(token)
        total += PROBS[token]
    assert kept(nucleus(torch.tensor([PROBS]).log(), share - 1e-6)) == sorted(wanted)


def test_temperature_then_top_k_then_top_p() -> None:
    settings = Sampling(temperature=0.5, top_k=3, top_p=0.8)
    chances = settings.narrowed(torch.tensor([PROBS]).log()).softmax(-1)[0]
    squares = torch.tensor([0, 0.4**2, 0, 0.3**2, 0])  # the third of the three has 0.15^2, beyond 0.8 of them all
    assert torch.allclose(chances, squares / squares.sum())


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    rows = [[number] for number in range(4000)]
    draws = Draws(Sampling(), sources(*rows))
    chosen = draws(torch.tensor([PROBS]).log().expand(len(rows), -1))
    counts = torch.bincount(chosen, minlength=5) / len(rows)
    assert torch.allclose(counts, torch.tensor(PROBS), atol=0.03)
    again = draws(torch.tensor([PROBS]).log().expand(len(rows), -1))
    assert not torch.equal(chosen, again)


def test_what_cannot_be_is_never_drawn() -> None:
    rows = [[number] for number in range(500)]
    log_probs = torch.tensor([-math.inf, 0.0, -math.inf, 0.0, -math.inf]).log_softmax(0).expand(500, -1)
    assert set(Draws(Sampling(), sources(*rows))(log_probs).tolist()) == {1, 3}


def test_a_row_draws_the_same_in_any_batch() -> None:
    rows = [[number] * (number % 5 + 1) for number in range(20)]
    together = drawn(rows)
    assert together[::-1] == drawn(rows[::-1])
    assert [drawn([row])[0] for row in rows] == together
    assert together != drawn(rows, seed=2) and together == drawn(rows, seed=1)
    assert all(0 not in row and len(row) < 12 for row in together)
    assert len({tuple(row) for row in together}) > 10


def test_one_token_left_is_greedy() -> None:
    assert drawn([[1]], top_k=1) == [[4] * 11] == drawn([[2]], top_p=0.01) == drawn([[3]], temperature=1e-3)


def test_options_say_whether_to_draw() -> None:
    searching, drawing = Search(beam=5, n_best=2), Search(sampling=Sampling(temperature=0.7))
    assert parse(Search, searching.options(top_k=3), "search").sampling == Sampling(top_k=3)
    assert parse(Search, searching.options(sample=True), "search").beam == 1
    assert parse(Search, searching.options(sample=False, beam=3), "search") == Search(beam=3)
    assert parse(Search, drawing.options(), "search") == drawing
    assert parse(Search, drawing.options(seed=4), "search").sampling == Sampling(temperature=0.7, seed=4)
    assert parse(Search, drawing.options(beam=1), "search") == Search()
    with pytest.raises(SettingsError, match="drawn or searched for, not both"):
        parse(Search, drawing.options(beam=4, top_p=0.5), "search")
    with pytest.raises(SettingsError, match="top_p"):
        parse(Search, drawing.options(top_p=1.5), "search")
