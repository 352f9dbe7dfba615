"""The hierarchical encoder against a hand loop over sentences, its empty sentences and rows, and that it learns."""

import pytest
import torch

from regard import trees
from regard.attention import record
from regard.models.encoder_only import PoolDecoderPart
from regard.models.hierarchical import HierarchicalEncoder, HierarchicalEncoderPart, split_sentences
from regard.models.parts import Widths
from regard.models.recurrent_encoder import RecurrentEncoderPart
from regard.padded import Padded, pad
from small_models import VOCABULARY, answers, learn, model_of, whole, with_garbage

PART = HierarchicalEncoderPart(sentences=RecurrentEncoderPart(cell="lstm"))
WIDTHS = Widths(8, 8, 8, 8)
SENTENCES = [[[4, 5, 6], [7], [8, 9, 10, 11]], [[5, 4]], [[6], [], [7, 8, 9]]]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def documents(sentences: list[list[list[int]]]) -> Padded:
    """Rows of sentences as rows of words and the sentence of each."""
    words = pad([[word for sentence in row for word in sentence] for row in sentences])
    numbers = [[number for number, sentence in enumerate(row) for _ in sentence] for row in sentences]
    return Padded(words.values, words.lengths, pad(numbers).values)


def embedded(words: Padded) -> Padded:
    table = torch.randn(VOCABULARY, WIDTHS.embedded, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return Padded(table[words.values], words.lengths, words.segments)


@pytest.fixture
def encoder() -> HierarchicalEncoder:
    return PART.build(WIDTHS, 0.0).double().eval()


def by_hand(encoder: HierarchicalEncoder, row: list[list[int]]) -> torch.Tensor:
    """Equations 1 to 10 of Yang et al. 2016, sentence by sentence."""
    pool, vectors = encoder.word_attention, torch.zeros(len(row), WIDTHS.model, dtype=torch.float64)
    for number, sentence in enumerate(row):
        if sentence:
            [states] = encoder.words(embedded(pad([sentence]))).values
            scores = torch.tanh(states @ pool.bend[0].weight.T + pool.bend[0].bias) @ pool.queries[0]
            vectors[number] = torch.softmax(scores, 0) @ states
    return encoder.sentences(whole(vectors[None])).values[0]


def test_segments_travel_with_their_rows():
    words = documents(SENTENCES)
    for one in (words, words.to("cpu")):
        chosen = trees.select(trees.repeat(one, 2), torch.tensor([4, 1]))
        assert chosen.segments.tolist() == [[0, 2, 2, 2, 0, 0, 0, 0], [0, 0, 0, 1, 2, 2, 2, 2]]
    plain = trees.map(torch.clone, pad([[4, 5], [6]]).to("cpu"))
    assert plain.segments is None
    assert list(trees.leaves(plain)) == ["values", "lengths"]
    assert trees.rows_of((None, plain)) == 2


@torch.no_grad()
def test_it_is_a_loop_over_sentences(encoder):
    found = encoder(embedded(documents(SENTENCES)))
    assert found.lengths.tolist() == [3, 1, 3]
    assert found.segments is None
    for row, states in zip(SENTENCES, found.values, strict=True):
        torch.testing.assert_close(states[: len(row)], by_hand(encoder, row))


@torch.no_grad()
def test_without_segments_a_row_is_one_sentence(encoder):
    words = documents(SENTENCES)
    found = encoder(embedded(Padded(words.values, words.lengths)))
    assert found.lengths.tolist() == [1, 1, 1]
    for row, states in zip(SENTENCES, found.values, strict=True):
        torch.testing.assert_close(states, by_hand(encoder, [[word for sentence in row for word in sentence]]))


@torch.no_grad()
def test_padding_and_other_rows_change_nothing(encoder):
    words = documents(SENTENCES)
    expected, found = encoder(embedded(words)), encoder(embedded(with_garbage(words)))
    assert found.lengths.equal(expected.lengths)
    for row, length in enumerate(expected.lengths):
        [alone] = encoder(embedded(documents(SENTENCES[row : row + 1]))).values
        torch.testing.assert_close(found.values[row, :length], expected.values[row, :length])
        torch.testing.assert_close(alone, expected.values[row, :length])


def test_a_sentence_without_words_is_zeros_in_its_place():
    sentences, counts = split_sentences(documents([[[4, 5], [], [6]], [[7]], []]))
    assert counts.tolist() == [3, 1, 0]
    assert sentences.lengths.tolist() == [2, 0, 1, 1, 0, 0, 0, 0, 0]
    assert [row[:length].tolist() for row, length in zip(*sentences[:2], strict=True) if length] == [[4, 5], [6], [7]]


@pytest.mark.parametrize("rows", [[[[4, 5], [], [6]], []], [[]]], ids=["some", "all"])
def test_rows_and_sentences_without_words_are_finite(encoder, rows):
    words = with_garbage(documents(rows))
    inputs = embedded(words).values.requires_grad_()
    found = encoder(Padded(inputs, words.lengths, words.segments))
    assert found.lengths.tolist() == [len(row) for row in rows]
    assert found.values.isfinite().all()
    for gradient in torch.autograd.grad(found.values.sum(), [inputs, *encoder.parameters()]):
        assert gradient.isfinite().all()


def test_gradients_reach_every_weight(encoder):
    total = encoder(embedded(documents(SENTENCES))).values.square().sum()
    for gradient in torch.autograd.grad(total, list(encoder.parameters())):
        assert gradient.abs().max() > 1e-9


def test_its_settings():
    assert PART.describe() == "hierarchical (1-layer bidirectional GRU, 1-layer bidirectional LSTM)"
    assert HierarchicalEncoderPart.model_validate(PART.model_dump()) == PART
    with pytest.raises(ValueError, match="must be even"):
        PART.check(7)


def test_it_finds_the_sentence_and_the_word():
    """Which of four key words, or none (8, a word like others), stands in 6 sentences of 5 words."""

    def example(rows: int) -> tuple[Padded, Padded, torch.Tensor]:
        place, key = torch.randint(30, (rows, 1)), torch.randint(4, 9, (rows, 1))
        words = torch.randint(8, VOCABULARY, (rows, 30)).scatter(1, place, key)
        return whole(words, torch.arange(30).expand(rows, -1) // 5), whole(key - 4), place[:, 0]

    model = model_of(HierarchicalEncoderPart(), PoolDecoderPart(hidden=24), widths=Widths(24, 24, 24, 24))
    learn(model, lambda: example(32)[:2], steps=150)
    source, target, place = example(200)
    with record(model) as maps:
        right = answers(model, source, target) == target.values
    assert right.double().mean() > 0.95
    there, sentence = target.values[:, 0] < 4, place // 5
    of_sentences = maps["decoder/pool"][:, 0, 0]
    of_words = maps["encoder/word"][:, 0, 0].unflatten(0, (200, 6))[torch.arange(200), sentence]
    for weights, at in ((of_sentences, sentence), (of_words, place % 5)):
        assert (weights.argmax(-1) == at)[there].double().mean() > 0.9
