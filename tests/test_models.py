"""Contracts that every model keeps, whatever its encoder and decoder, of every kind in the unions."""

from typing import Any, get_args

import pytest
import torch

from model_cases import CASES, parts_of
from regard import trees
from regard.attention import Pool, SteppingAttention, record
from regard.attention.module import Layout
from regard.attention.parts import NormPart, ScorePart, SteppingNormPart, SteppingScorePart, WherePart
from regard.attention.positions import PositionPart
from regard.attention.settings import LayoutPart
from regard.models.convolutional_blocks import MultiStepAttention
from regard.models.encoder_only import AlignedDecoder, PoolDecoder
from regard.models.families import Family
from regard.models.heads import TokenHead
from regard.models.mixing import DecoderMixingPart, EncoderMixingPart
from regard.models.model import Model, ModelSettings, build_model
from regard.padded import Padded, pad

VOCABULARY = 13
ATTENTIONS = Layout, SteppingAttention, MultiStepAttention, Pool
SEGMENTS = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 0, 0, 0], [0, 1, 1, 2, 0]])
SOURCE = pad([[4, 5, 6, 7, 3], [8, 3], [9, 10, 11, 3]])._replace(segments=SEGMENTS)
TARGET = pad([[2, 4, 5, 6], [2, 7, 8, 9, 10, 11], [2]])


def build(parts: dict[str, Any], seed: int = 1) -> Model:
    torch.manual_seed(seed)
    settings = ModelSettings.model_validate(parts)
    return build_model(settings, VOCABULARY, lambda output, widths: TokenHead(output, smoothing=0.1)).double().eval()


@pytest.fixture(scope="module", params=CASES)
def parts(request) -> dict[str, Any]:
    return request.param


@pytest.fixture(scope="module")
def model(parts) -> Model:
    return build(parts)


@pytest.fixture(autouse=True)
def fresh_memory_is_nan():
    """What nobody has written reads as NaN instead of what happened to be there."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def in_chunks(model: Model, source: Padded, target: Padded, chunks: list[torch.Tensor], room: int = 0) -> torch.Tensor:
    """Log-probabilities at every real step, row after row, of chunks with so many steps of each row."""
    memory = model.encode(source)
    state, starts, rows = model.start(memory, len(target.lengths), room), torch.zeros_like(target.lengths), {}
    for counts in chunks:
        taken = [row[start : start + count] for row, start, count in zip(target.values, starts, counts, strict=True)]
        values = torch.nn.utils.rnn.pad_sequence(taken, batch_first=True, padding_value=12)
        decoded, state = model.advance(Padded(values, counts), memory, state)
        for row, log_probs in enumerate(model.log_probs(decoded, memory)):
            rows.setdefault(row, []).append(log_probs[: counts[row]])
        starts = starts + counts
    assert starts.equal(target.lengths)
    return torch.cat([one for row in sorted(rows) for one in rows[row]])


def at_once(model: Model, source: Padded, target: Padded) -> torch.Tensor:
    return in_chunks(model, source, target, [target.lengths])


def one_by_one(target: Padded) -> list[torch.Tensor]:
    return [(target.lengths > step).long() for step in range(target.values.shape[1])]


def only(padded: Padded, row: int) -> Padded:
    """One row without its padding."""
    here = slice(row, row + 1), slice(padded.lengths[row])
    segments = None if padded.segments is None else padded.segments[here]
    return Padded(padded.values[here], padded.lengths[row : row + 1], segments)


def reads_tokens(model: Model) -> bool:
    """Whether a step depends on the tokens before: not where the answer is read off the encoder."""
    return not isinstance(model.decoder, PoolDecoder | AlignedDecoder)


UNIONS = (
    *(LayoutPart, NormPart, ScorePart, SteppingNormPart, SteppingScorePart, WherePart),
    *(PositionPart, EncoderMixingPart, DecoderMixingPart),
)


def kinds_in(settings: Any) -> set[str]:
    """Of all parts, at every depth."""
    if isinstance(settings, dict):
        named = {settings["kind"]} if "kind" in settings else set()
        return named.union(*map(kinds_in, settings.values()))
    return set().union(*map(kinds_in, settings)) if isinstance(settings, list | tuple) else set()


def test_every_kind_is_there():
    found = set().union(*(kinds_in(ModelSettings.model_validate(case.values[0]).model_dump()) for case in CASES))
    kinds = {part.model_fields["kind"].default for union in UNIONS for part in get_args(get_args(union)[0])}
    assert len(kinds) > 50 and kinds <= found
    assert {*parts_of("encoder"), *parts_of("decoder")} <= found


@pytest.mark.parametrize("family", get_args(Family))
def test_every_family_is_made_of_parts(family):
    settings = ModelSettings.model_validate({"kind": family, "width": 16})
    assert settings.describe()


def test_probabilities_sum_to_one(model):
    log_probs = at_once(model, SOURCE, TARGET)
    assert log_probs.shape == (11, VOCABULARY)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(11, dtype=torch.float64))
    if reads_tokens(model):
        assert log_probs.std(0).min() > 1e-3  # steps differ


@pytest.mark.parametrize("room", [0, 3, 10])
def test_all_at_once_is_one_by_one(model, room):
    expected = at_once(model, SOURCE, TARGET)
    torch.testing.assert_close(in_chunks(model, SOURCE, TARGET, one_by_one(TARGET), room), expected)


CHUNKS = {
    "ragged": [[1, 3, 1], [3, 3, 0]],
    "behind": [[1, 4, 0], [2, 1, 1], [1, 1, 0]],
    "idle": [[0, 0, 1], [4, 0, 0], [0, 6, 0]],
}


@pytest.mark.parametrize("room", [0, 10])
@pytest.mark.parametrize("chunks", CHUNKS)
def test_uneven_chunks_equal_each_row_alone(model, chunks, room):
    found = in_chunks(model, SOURCE, TARGET, [torch.tensor(counts) for counts in CHUNKS[chunks]], room)
    alone = [at_once(model, only(SOURCE, row), only(TARGET, row)) for row in range(3)]
    torch.testing.assert_close(found, torch.cat(alone))


def test_a_row_does_not_depend_on_its_batch(model):
    alone = [at_once(model, only(SOURCE, row), only(TARGET, row)) for row in range(3)]
    torch.testing.assert_close(at_once(model, SOURCE, TARGET), torch.cat(alone))


def test_padding_changes_nothing(model):
    def with_garbage(padded: Padded) -> Padded:
        wider, segments = (
            one if one is None else torch.nn.functional.pad(one, (0, 2)) for one in (padded.values, padded.segments)
        )
        real = Padded(wider, padded.lengths).mask
        return Padded(torch.where(real, wider, torch.randint_like(wider, VOCABULARY)), padded.lengths, segments)

    def decode(source: Padded, target: Padded) -> torch.Tensor:
        memory = model.encode(source)
        decoded, _ = model.advance(target, memory, model.start(memory, 3))
        return model.log_probs(decoded, memory)[target.mask]

    torch.testing.assert_close(decode(with_garbage(SOURCE), with_garbage(TARGET)), decode(SOURCE, TARGET))


@pytest.mark.parametrize("changed", [1, 3, 5])
def test_no_step_sees_a_later_one(model, changed):
    other = TARGET.values.clone()
    other[1, changed] = 12
    before, after = (
        at_once(model, only(SOURCE, 1), only(Padded(values, TARGET.lengths), 1)) for values in (TARGET.values, other)
    )
    torch.testing.assert_close(after[:changed], before[:changed])
    if reads_tokens(model):
        assert (after - before)[changed].abs().max() > 1e-6  # later ones may have it out of their sight


def test_every_step_sees_the_whole_source(model):
    for changed in range(4):
        values = SOURCE.values.clone()
        values[0, changed] = 12
        difference = at_once(model, only(SOURCE._replace(values=values), 0), only(TARGET, 0)) - at_once(
            model, only(SOURCE, 0), only(TARGET, 0)
        )
        assert difference.abs().amax(-1).min() > 1e-6


def test_beams_read_the_memory_of_their_row(model):
    target = pad([[2, 4, 5], [2, 6], [2, 7, 8], [2], [2, 9, 10, 11], [2, 4]])
    expected = at_once(model, trees.repeat(SOURCE, 2), target)
    torch.testing.assert_close(at_once(model, SOURCE, target), expected)
    torch.testing.assert_close(in_chunks(model, SOURCE, target, one_by_one(target), room=4), expected)


def test_memory_and_state_are_nests_of_rows(model):
    memory = model.encode(SOURCE)
    _, state = model.advance(trees.repeat(TARGET, 2), memory, model.start(memory, 6))
    assert {len(leaf) for leaf in trees.leaves(memory).values()} == {3}
    assert {len(leaf) for leaf in trees.leaves(state).values()} == {6}


@torch.no_grad()
@pytest.mark.parametrize("room", [0, 10])
def test_selected_rows_go_on_as_their_prefixes(model, room):
    prefix, then = (
        pad([[2, 4, 5], [2, 6], [2, 7, 8, 9], [2], [2, 9], [2, 4]]),
        pad([[4, 5], [6, 7], [8], [9], [10], []]),
    )
    rows = torch.tensor([1, 0, 3, 3, 5, 4])  # beams of the same source change places
    memory = model.encode(SOURCE)
    _, state = model.advance(prefix, memory, model.start(memory, 6, room))
    decoded, _ = model.advance(then, memory, trees.select(state, rows))
    whole = [torch.cat([only(prefix, rows[row]).values[0], only(then, row).values[0]]).tolist() for row in range(6)]
    memory = model.encode(SOURCE)
    expected, _ = model.advance(pad(whole), memory, model.start(memory, 6))
    for row, length in enumerate(then.lengths.tolist()):
        end = len(whole[row])
        torch.testing.assert_close(decoded.features[row, :length], expected.features[row, end - length : end])


def test_weights_are_all_there_is(parts, model):
    other = build(parts, seed=2)
    assert not at_once(other, SOURCE, TARGET).equal(at_once(model, SOURCE, TARGET))
    saved = dict(model.named_parameters())
    with torch.no_grad():
        for path, weight in other.named_parameters():
            weight.copy_(saved.pop(path))
    assert not saved
    assert at_once(other, SOURCE, TARGET).equal(at_once(model, SOURCE, TARGET))


def test_a_seed_gives_the_same_weights(parts, model):
    for (path, weight), again in zip(model.named_parameters(), build(parts).parameters(), strict=True):
        assert again.equal(weight), path


@pytest.mark.parametrize("training", [False, True])
def test_looking_changes_nothing(model, training):
    def run() -> torch.Tensor:
        torch.manual_seed(3)
        return at_once(model.train(training), SOURCE, TARGET)

    unseen = run()
    with record(model) as maps:
        seen = run()
    model.eval()
    attends = any(
        isinstance(module, Layout | SteppingAttention | MultiStepAttention | Pool) for module in model.modules()
    )
    assert bool(maps) == attends
    assert all(path.startswith(("encoder/", "decoder/")) for path in maps)
    assert seen.equal(unseen)
    assert training != seen.equal(at_once(model, SOURCE, TARGET))  # dropout is on only while training


def test_gradients_reach_every_weight(model):
    memory = model.encode(SOURCE)
    decoded, _ = model.advance(TARGET, memory, model.start(memory, 3))
    loss = model.head.loss(decoded, TARGET, memory.head)
    gradients = torch.autograd.grad(loss.total, list(model.parameters()))
    for (path, _), gradient in zip(model.named_parameters(), gradients, strict=True):
        assert gradient.isfinite().all(), path
        assert gradient.abs().max() > 1e-9, path


def test_the_loss_is_a_sum_over_real_steps(model):
    memory = model.encode(SOURCE)
    decoded, _ = model.advance(TARGET, memory, model.start(memory, 3))
    loss = model.head.loss(decoded, TARGET, memory.head)
    log_probs = at_once(model, SOURCE, TARGET)
    nll = -log_probs.gather(1, TARGET.values[TARGET.mask][:, None]).sum()
    assert loss.count == 11
    torch.testing.assert_close(loss.parts["nll"], nll)
    torch.testing.assert_close(loss.total, 0.9 * nll - 0.1 * log_probs.mean(-1).sum())


def test_learned_positions_need_not_reach_over_padding():
    """Rows of 20 and 4 tokens that go on for 3 and 19 stand at positions below 24."""
    learned = {"kind": "transformer", "layers": 1, "positions": {"kind": "learned", "length": 24}}
    model = build({"width": 8, "encoder": {"kind": "none"}, "decoder": learned})
    source, target = pad([[4] * 20, [5] * 4]), pad([[2, *[6] * 2], [2, *[7] * 18]])
    alone = [at_once(model, only(source, row), only(target, row)) for row in range(2)]
    torch.testing.assert_close(at_once(model, source, target), torch.cat(alone))


def test_answers_see_a_source_that_was_read_by_other_layers():
    """A layer that is left out for the source, and not for the answer, has read it nevertheless."""
    decoder = {"kind": "transformer", "layers": 1, "layer_drop": 0.5, "attention_dropout": 0.0}
    model = build({"width": 8, "dropout": 0.0, "encoder": {"kind": "none"}, "decoder": decoder}).train()

    def features(source: Padded, seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        memory = model.encode(source)
        return model.advance(only(TARGET, 0), memory, model.start(memory, 1))[0].features

    for seed in range(20):
        torch.manual_seed(seed)
        left_out_of_answer = (torch.rand(2) < 0.5).tolist()[1]
        one, other = features(pad([[4, 5, 3]]), seed), features(pad([[7, 5, 3]]), seed)
        assert one.equal(other) == left_out_of_answer
