"""Search against enumeration of every answer, over a table instead of a network, and over real tiny models."""

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch

from regard import trees
from regard.decoding.beam import beam_search
from regard.decoding.greedy import greedy_search
from regard.decoding.interface import Hypothesis, Tokens
from regard.decoding.rules import maximum_length, no_repeat_ngram
from regard.decoding.search import Search, search
from regard.models.heads import TokenHead
from regard.models.model import Model, ModelSettings, build_model
from regard.padded import Padded, pad

ENDS = Tokens(start=4, end=1)
WIDE = 81  # as many open answers as there can be: three words, four places before the end

Words = tuple[int, ...]


class Table:
    """A Decodable without a network: what comes next depends on the memory's row and on the last two tokens."""

    def __init__(self):
        self.memories: list[torch.Tensor] = []

    def start(self, memory, rows, room=0):
        return torch.full((rows,), ENDS.start)

    def advance(self, tokens, memory, state):
        self.memories.append(memory)
        last = tokens.values[:, -1]
        rows = torch.arange(len(last)) // (len(last) // len(memory))
        return memory[rows, state, last][:, None], last

    def log_probs(self, decoded, memory):
        return decoded


@pytest.fixture
def table() -> torch.Tensor:
    """Log-probabilities by row, last token but one, last token and next token: 0, 2, 3 or the end."""
    generator = torch.Generator().manual_seed(1)
    return (1.5 * torch.randn(3, 5, 5, 4, dtype=torch.float64, generator=generator)).log_softmax(-1)


def sum_of(row: torch.Tensor, tokens: Words, free: int = 0) -> float:
    """The sum of the log-probabilities of an answer and its end, without those of the first ``free`` tokens."""
    whole = (ENDS.start, ENDS.start, *tokens, ENDS.end)
    return sum(float(row[whole[at], whole[at + 1], whole[at + 2]]) for at in range(free, len(tokens) + 1))


def every_answer(
    row: torch.Tensor,
    longest: int,
    alpha: float,
    allowed: Callable[[Words], bool] = lambda tokens: True,
    prefix: Words = (),
) -> list[Hypothesis]:
    """All answers of at most ``longest`` tokens, the end included, best first."""
    answers = (tokens for length in range(longest) for tokens in product((0, 2, 3), repeat=length))
    scored = [
        Hypothesis(list(tokens), sum_of(row, tokens, len(prefix)) / ((5 + len(tokens) + 1) / 6) ** alpha)
        for tokens in answers
        if tokens[: len(prefix)] == prefix and allowed(tokens)
    ]
    return sorted(scored, key=lambda one: -one.score)


def assert_same(found: Sequence[Hypothesis], expected: Sequence[Hypothesis]) -> None:
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-12)


def look(
    table: torch.Tensor, prefix: Padded | None = None, forbidden: Words = (), **settings
) -> list[list[Hypothesis]]:
    found = search(
        Table(), table, torch.ones(len(table), dtype=torch.long), Search(**settings), ENDS, forbidden, prefix
    )
    assert len(found) == len(table)
    return found


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("n_best", [5, WIDE])
def test_a_wide_beam_finds_what_enumeration_finds(table, alpha, n_best):
    found = look(table, beam=WIDE, n_best=n_best, max_length=5, length_penalty=alpha)
    for row, answers in zip(table, found, strict=True):
        assert_same(answers, every_answer(row, 5, alpha)[:n_best])


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_greedy_takes_the_likeliest_every_time(table, alpha):
    for row, [found] in zip(table, look(table, max_length=6, length_penalty=alpha), strict=True):
        tokens: Words = ()
        last = ENDS.start, ENDS.start
        while len(tokens) < 5 and (best := int(row[last].argmax())) != ENDS.end:
            tokens, last = (*tokens, best), (last[1], best)
        assert_same([found], [Hypothesis(list(tokens), sum_of(row, tokens) / ((5 + len(tokens) + 1) / 6) ** alpha)])


def beam_by_hand(row: torch.Tensor, longest: int, alpha: float, beam: int) -> list[Hypothesis]:
    """Beam search of one row that goes on to the last step, whether or not anything can still win."""
    open_, ended = [(0.0, (ENDS.start, ENDS.start))], []
    for length in range(1, longest + 1):
        choices = range(4) if length < longest else [ENDS.end]
        extended = [(score + float(row[*whole[-2:], one]), (*whole, one)) for score, whole in open_ for one in choices]
        extended = sorted(extended, reverse=True)[: 2 * beam]
        penalty = ((5 + length) / 6) ** alpha
        ended += [Hypothesis(list(whole[2:-1]), score / penalty) for score, whole in extended if whole[-1] == ENDS.end]
        open_ = [one for one in extended if one[1][-1] != ENDS.end][:beam]
    return sorted(ended, key=lambda one: -one.score)[:beam]


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("beam", [2, 3, 8])
def test_beam_search_is_its_plain_loop(table, beam, alpha):
    for row, answers in zip(
        table, look(table, beam=beam, n_best=beam, max_length=9, length_penalty=alpha), strict=True
    ):
        assert_same(answers, beam_by_hand(row, 9, alpha, beam))
        assert len({tuple(one.tokens) for one in answers}) == beam


def test_beam_search_stops_when_nothing_open_can_win(table):
    model = Table()
    search(model, table, torch.ones(3, dtype=torch.long), Search(beam=3, max_length=500, length_penalty=0), ENDS)
    assert 3 < len(model.memories) < 100


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_a_row_does_not_depend_on_its_batch(table, beam):
    limits = torch.tensor([2, 6, 4])

    def find(rows: slice) -> list[list[Hypothesis]]:
        rules = [maximum_length(trees.repeat(limits[rows], beam), ENDS.end)]
        if beam == 1:
            return greedy_search(Table(), table[rows], limits[rows], ENDS, rules, 1.0)
        return beam_search(Table(), table[rows], limits[rows], ENDS, rules, 1.0, beam)

    together = find(slice(None))
    for row, answers in enumerate(together):
        assert_same(answers, find(slice(row, row + 1))[0])
        assert all(len(one.tokens) < limits[row] for one in answers)


@pytest.mark.parametrize("beam", [1, 3])
def test_the_memory_is_neither_copied_nor_reordered(table, beam):
    model, before = Table(), table.clone()
    search(model, table, torch.ones(3, dtype=torch.long), Search(beam=beam, max_length=5), ENDS)
    assert len(model.memories) > 1
    assert all(memory is table for memory in model.memories)
    assert table.equal(before)


def never_twice(tokens: Words, size: int) -> bool:
    grams = [tokens[at : at + size] for at in range(len(tokens) - size + 1)]
    return len(grams) == len(set(grams))


RULES = {
    "shortest": ({"min_length": 4}, lambda tokens: len(tokens) + 1 >= 4),
    "exactly": ({"min_length": 5}, lambda tokens: len(tokens) + 1 == 5),
    "no word twice": ({"no_repeat_ngram": 1}, lambda tokens: never_twice(tokens, 1)),
    "no pair twice": ({"no_repeat_ngram": 2}, lambda tokens: never_twice(tokens, 2)),
    "forbidden": ({"forbidden": (0, 3)}, lambda tokens: set(tokens) <= {2}),
    "all": (
        {"min_length": 3, "no_repeat_ngram": 2, "forbidden": (0,)},
        lambda tokens: len(tokens) + 1 >= 3 and never_twice(tokens, 2) and 0 not in tokens,
    ),
}


@pytest.mark.parametrize("rules", RULES)
def test_rules_leave_the_best_of_what_is_allowed(table, rules):
    settings, allowed = RULES[rules]
    found = look(table, beam=WIDE, n_best=WIDE, max_length=5, **settings)
    for row, answers in zip(table, found, strict=True):
        assert_same(answers, every_answer(row, 5, 1.0, allowed)[:WIDE])
    for [answer] in look(table, max_length=5, **settings):
        assert allowed(tuple(answer.tokens))


PREFIXES: list[Words] = [(3,), (), (2, 2)]


def test_a_prefix_is_kept_and_best_continued(table):
    found = look(table, pad(PREFIXES), beam=WIDE, n_best=WIDE, max_length=5)
    for row, prefix, answers in zip(table, PREFIXES, found, strict=True):
        assert_same(answers, every_answer(row, 5, 1.0, prefix=prefix)[:WIDE])


def test_a_prefix_overrules_other_rules(table):
    def allowed(tokens: Words, prefix: Words) -> bool:
        return all(token != 3 and token not in tokens[:at] for at, token in enumerate(tokens) if at >= len(prefix))

    found = look(table, pad(PREFIXES), (3,), beam=WIDE, n_best=WIDE, max_length=5, no_repeat_ngram=1)
    for row, prefix, answers in zip(table, PREFIXES, found, strict=True):
        expected = every_answer(row, 5, 1.0, lambda tokens, prefix=prefix: allowed(tokens, prefix), prefix)
        assert_same(answers, expected)


def test_a_narrow_beam_keeps_a_prefix_too(table):
    for beam in (1, 2):
        for prefix, [answer] in zip(PREFIXES, look(table, pad(PREFIXES), beam=beam, max_length=6), strict=True):
            assert tuple(answer.tokens[: len(prefix)]) == prefix


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize(
    ("wishes", "length"),
    [
        ({"min_length": 40}, 22),  # by default the limit is 20 + 3 x the source's length
        ({"prefix": pad([[2] * 9] * 3), "max_length": 4}, 3),
        ({"forbidden": (0, 2, 3), "min_length": 3}, 0),
        ({"no_repeat_ngram": 1, "min_length": 9}, 3),
    ],
)
def test_wishes_that_contradict_each_other_still_get_an_answer(table, beam, wishes, length):
    for [answer] in look(table, beam=beam, **wishes):
        assert len(answer.tokens) == length
        assert answer.score > float("-inf")


@pytest.mark.parametrize("length", ["max_length", "min_length"])
def test_no_answer_is_longer_than_memory(length):
    with pytest.raises(ValueError, match="less than or equal to 100000"):
        Search(**{length: 10**12})


def test_no_repeat_of_three():
    chosen = torch.tensor([[5, 6, 7, 5, 6], [5, 6, 5, 6, 5], [1, 2, 3, 4, 5]])
    log_probs = no_repeat_ngram(3)(torch.zeros(3, 8), chosen)
    assert [row.nonzero().flatten().tolist() for row in log_probs.isinf()] == [[7], [6], []]


SOURCE = pad([[4, 5, 6, 7, 1], [3, 1], [7, 7, 3, 1]])


@pytest.fixture(scope="module", params=["transformer", "rnn"])
def model(request) -> Model:
    torch.manual_seed(4)
    settings = ModelSettings.model_validate({"kind": request.param, "width": 8})
    model = build_model(settings, 9, lambda output, widths: TokenHead(output))
    return model.double().eval()


def log_probs_of(model: Model, source: Padded, tokens: Words) -> torch.Tensor:
    """After the start and after every token, all at once."""
    memory = model.encode(source)
    decoded, _ = model.advance(pad([[ENDS.start, *tokens]]), memory, model.start(memory, 1))
    return model.log_probs(decoded, memory)[0]


def only(row: int) -> Padded:
    return Padded(SOURCE.values[row : row + 1, : SOURCE.lengths[row]], SOURCE.lengths[row : row + 1])


@pytest.mark.parametrize("beam", [1, 4])
def test_scores_of_a_model_are_those_of_the_whole_answer(model, beam):
    found = search(model, model.encode(SOURCE), SOURCE.lengths, Search(beam=beam, n_best=beam, max_length=7), ENDS)
    for row, answers in enumerate(found):
        for answer in answers:
            whole = torch.tensor([*answer.tokens, ENDS.end])
            total = log_probs_of(model, only(row), answer.tokens).gather(1, whole[:, None]).sum()
            assert answer.score == pytest.approx(float(total.detach()) / ((5 + len(whole)) / 6), abs=1e-9)
        alone = search(
            model,
            model.encode(only(row)),
            SOURCE.lengths[row : row + 1],
            Search(beam=beam, n_best=beam, max_length=7),
            ENDS,
        )
        assert_same(answers, alone[0])


def test_greedy_search_of_a_model(model):
    for row, [answer] in enumerate(search(model, model.encode(SOURCE), SOURCE.lengths, Search(max_length=7), ENDS)):
        best = log_probs_of(model, only(row), answer.tokens).argmax(-1).tolist()
        assert best[:-1] == answer.tokens
        assert best[-1] == ENDS.end or len(best) == 7
