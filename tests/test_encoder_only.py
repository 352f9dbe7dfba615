"""Decoders that read their answer off the encoder: pooled for a class, aligned for tags."""

import pytest
import torch
from torch.nn import functional as F

from regard import trees
from regard.attention import Window, record
from regard.attention.settings import AttentionPart
from regard.errors import SettingsError
from regard.models.encoder_only import AlignedDecoderPart, PoolDecoder, PoolDecoderPart
from regard.models.model import SIZES, Model, NoEncoder
from regard.models.parts import Encoded, Widths
from regard.models.recurrent_encoder import RecurrentEncoderPart
from regard.padded import Padded, pad
from small_models import VOCABULARY, WIDTHS, answers, learn, model_of, whole, with_garbage

SOURCE = pad([[4, 5, 6, 7, 3], [8, 3], [9, 10, 11, 3]])
READ = pad([[2, 4, 5, 6], [2, 7, 8, 9, 10, 11], [2]])
PARTS = {
    "pool": PoolDecoderPart(),
    "self-attentive": PoolDecoderPart(queries=3, hidden=7),
    "aligned": AlignedDecoderPart(),
    "aligned with attention": AlignedDecoderPart(attention=AttentionPart(where=Window(back=2)), heads=2),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


@pytest.fixture(params=PARTS)
def model(request) -> Model:
    return model_of(RecurrentEncoderPart(), PARTS[request.param], dropout=0.1).double().eval()


def states_of(model: Model, source: Padded) -> torch.Tensor:
    return model.encoder(model.embedding(source)).values


def steps(model: Model, source: Padded, read: Padded) -> torch.Tensor:
    memory = model.encode(source)
    decoded, _ = model.advance(read, memory, model.start(memory, len(read.lengths)))
    return decoded.features


def of_row(padded: Padded, row: int) -> Padded:
    return Padded(padded.values[row : row + 1, : padded.lengths[row]], padded.lengths[row : row + 1])


@torch.no_grad()
@pytest.mark.parametrize("name", ["pool", "self-attentive"])
def test_pooled_features_are_weighted_means_projected(name):
    model = model_of(RecurrentEncoderPart(), PARTS[name]).double().eval()
    pool, readout, found = model.decoder.pool, model.decoder.readout.projection, steps(model, SOURCE, READ)
    for row, length in enumerate(SOURCE.lengths):
        states = states_of(model, SOURCE)[row, :length]
        keys = torch.tanh(states @ pool.bend[0].weight.T + pool.bend[0].bias) if len(pool.queries) == 3 else states
        pooled = [torch.softmax(keys @ query, 0) @ states for query in pool.queries]
        expected = readout.weight @ torch.cat(pooled) + readout.bias
        torch.testing.assert_close(found[row], expected.expand(6, -1))


@torch.no_grad()
def test_aligned_features_are_those_of_the_source_step():
    model = model_of(RecurrentEncoderPart(), AlignedDecoderPart()).double().eval()
    readout, found = model.decoder.readout.projection, steps(model, SOURCE, READ)
    for row, length in enumerate(SOURCE.lengths.tolist()):
        for step in range(6):
            state = states_of(model, SOURCE)[row, min(step, length - 1)]
            torch.testing.assert_close(found[row, step], readout.weight @ state + readout.bias)


@torch.no_grad()
def test_aligned_features_with_attention_add_what_each_step_finds_in_the_whole_source():
    model = model_of(RecurrentEncoderPart(), AlignedDecoderPart(attention=AttentionPart(), heads=2)).double().eval()
    attention, readout, found = (
        model.decoder.cross_attention,
        model.decoder.readout.projection,
        steps(model, SOURCE, READ),
    )
    for row, length in enumerate(SOURCE.lengths.tolist()):
        states = states_of(model, SOURCE)[row, :length]
        queries, keys, values = attention.projection(states).view(length, 3, 2, 6).permute(1, 2, 0, 3)
        heads = [torch.softmax(q @ k.T / 6**0.5, -1) @ v for q, k, v in zip(queries, keys, values, strict=True)]
        expected = readout(states + attention.output(torch.cat(heads, -1)))
        torch.testing.assert_close(found[row, :length], expected)


@torch.no_grad()
def test_a_row_does_not_depend_on_batch_padding_or_tokens_before(model):
    expected = steps(model, SOURCE, READ)
    garbage = with_garbage(SOURCE)
    torch.testing.assert_close(steps(model, garbage, READ), expected)
    torch.testing.assert_close(steps(model, SOURCE, Padded(READ.values.flip(1), READ.lengths)), expected)
    for row in range(3):
        torch.testing.assert_close(
            steps(model, of_row(SOURCE, row), of_row(READ, row))[0], expected[row, : READ.lengths[row]]
        )


@torch.no_grad()
def test_uneven_chunks_and_beams_are_each_row_alone(model):
    memory = model.encode(SOURCE)
    state = model.start(memory, 6, 10)
    chunk, rest = pad([[2, 4], [2], [], [2, 4, 5], [2], [2]]), pad([[5], [], [2], [6], [4, 5], []])
    _, state = model.advance(chunk, memory, state)
    decoded, state = model.advance(rest, memory, trees.select(state, torch.tensor([1, 0, 2, 3, 4, 5])))
    assert {len(leaf) for leaf in trees.leaves((memory, memory)).values()} == {3}
    assert state.tolist() == [2, 2, 1, 4, 3, 1]
    for row, (start, count) in enumerate(zip([1, 2, 0, 3, 1, 1], rest.lengths.tolist(), strict=True)):
        alone = steps(model, of_row(SOURCE, row // 2), whole(torch.full((1, start + 2), 4)))[0]
        torch.testing.assert_close(decoded.features[row, :count], alone[start : start + count])


@torch.no_grad()
def test_a_row_without_steps_depends_on_nothing(model):
    def features(padding: float) -> torch.Tensor:
        states = Padded(torch.full((2, 3, WIDTHS.memory), padding, dtype=torch.float64), torch.tensor([0, 2]))
        memory = model.decoder.remember(Encoded(SOURCE, states, states))
        steps = whole(torch.zeros(2, 2, WIDTHS.embedded))
        return model.decoder.advance(steps, memory, model.decoder.start(memory, 2, 0))[0].features[0]

    assert features(5.0).isfinite().all()
    assert features(5.0).equal(features(-7.0))


def test_gradients_reach_every_weight(model):
    memory = model.encode(SOURCE)
    decoded, _ = model.advance(READ, memory, model.start(memory, 3))
    total = model.head.loss(decoded, READ, memory.head).total
    for gradient in torch.autograd.grad(total, list(model.parameters())):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 1e-9


def test_looking_changes_nothing(model):
    unseen = steps(model, SOURCE, READ)
    with record(model) as maps:
        assert steps(model, SOURCE, READ).equal(unseen)
    shapes = {name: tuple(weights.shape) for name, weights in maps.items()}
    if isinstance(model.decoder, PoolDecoder):
        assert shapes == {"decoder/pool": (3, 1, len(model.decoder.pool.queries), 5)}
    else:
        assert shapes == ({"decoder/cross": (3, 2, 5, 5)} if model.decoder.cross_attention else {})


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_reading_encoder_states_needs_an_encoder(part):
    with pytest.raises(SettingsError, match="there is no encoder"):
        model_of(NoEncoder(), part, widths=Widths(12, 12, 12, 0))


def test_their_names():
    described = {name: part.describe() for name, part in PARTS.items()}
    aligned = {"aligned": "aligned", "aligned with attention": "aligned with attention"}
    assert described == {"pool": "attention pooling", "self-attentive": "attention pooling"} | aligned
    for part in PARTS.values():
        assert part.sized(SIZES[0]) is part


def key_word_in_noise(rows: int, length: int = 40) -> tuple[Padded, Padded, torch.Tensor]:
    """Which of four key words, or none (8, a word like others), stands among words without meaning, and where."""
    source, place = torch.randint(8, VOCABULARY, (rows, length)), torch.randint(length, (rows, 1))
    key = torch.randint(4, 9, (rows, 1))
    return whole(source.scatter(1, place, key)), whole(key - 4), place[:, 0]


def test_an_lstm_with_attention_pooling_finds_the_key_word():
    model = model_of(RecurrentEncoderPart(cell="lstm"), PoolDecoderPart(), widths=Widths(24, 24, 24, 24))
    learn(model, lambda: key_word_in_noise(32)[:2], steps=150)
    source, target, place = key_word_in_noise(200)
    with record(model) as maps:
        right = answers(model, source, target) == target.values
    assert right.double().mean() > 0.95
    near = (maps["decoder/pool"][:, 0, 0].argmax(-1) - place).abs() <= 1  # a neighbour's state knows the word too
    assert near[target.values[:, 0] < 4].double().mean() > 0.9


def test_tags_are_read_off_the_steps_beside_them():
    """The tag of a word is whether the word after it is the same, which only its encoder state knows."""
    model = model_of(RecurrentEncoderPart(), AlignedDecoderPart(), widths=Widths(24, 24, 24, 24))

    def tagged(rows: int) -> tuple[Padded, Padded]:
        words = torch.randint(4, 7, (rows, 9))
        return whole(words), whole(F.pad((words[:, :-1] == words[:, 1:]).long(), (0, 1)))

    learn(model, lambda: tagged(32), steps=200)
    source, target = tagged(200)
    assert (answers(model, source, target) == target.values).double().mean() > 0.95
