"""Contracts that every model keeps, whatever its encoder and decoder; a new kind is picked up from the unions."""

from collections.abc import Iterator
from itertools import product
from typing import Any, Literal, get_args, get_origin

import pytest
import torch

from regard import trees
from regard.attention import record
from regard.layers.embeddings import TokenEmbedding
from regard.models.heads import TokenHead
from regard.models.model import Model, ModelSettings, build_model
from regard.padded import Padded, pad

VOCABULARY = 13
TINY = {"layers": 2, "heads": 2, "feedforward": 12}  # a new number in a part's settings is told its size here

SOURCE = pad([[4, 5, 6, 7, 3], [8, 3], [9, 10, 11, 3]])
TARGET = pad([[2, 4, 5, 6], [2, 7, 8, 9, 10, 11], [2]])


def variants(side: str) -> Iterator[dict]:
    """Settings of every member of a side's union, in every combination of its named choices."""
    for part in get_args(ModelSettings.model_fields[side].annotation):
        fields = part.model_fields.items()
        sizes = {name: TINY[name] for name, field in fields if field.annotation is int}
        choices = {
            name: get_args(field.annotation) for name, field in fields if get_origin(field.annotation) is Literal
        }
        assert "kind" in choices, f"{part.__name__} has no kind"
        yield from (sizes | dict(zip(choices, chosen, strict=True)) for chosen in product(*choices.values()))


def name(part: dict) -> str:
    return "-".join(value for value in part.values() if isinstance(value, str))


def of(kind: str, **more: Any) -> dict:
    return {"kind": kind, **more}


WINDOW, BLOCKS = of("window", back=2), of("any", of=[of("blocked", size=3), of("global", count=1)])
LOOKING = [  # settings of a Transformer's encoder and decoder, by the field they are in
    {
        "positions": of("rotary"),
        "attention": {"where": WINDOW, "norm": of("entmax"), "layout": of("grouped", kv_heads=1)},
    },
    {"positions": of("none"), "attention": {"score": of("transformer_xl"), "norm": of("sink"), "where": BLOCKS}},
    {"positions": of("none"), "attention": {"score": of("transformer_xl"), "where": WINDOW}},
    {"positions": of("t5_bias"), "attention": {"score": of("cosine"), "norm": of("talking_heads")}},
    {"positions": of("sum", of=[of("rotary"), of("alibi")]), "attention": {"layout": of("latent", rank=5, turned=2)}},
    {"positions": of("learned"), "attention": {"layout": of("differential"), "where": of("dilated", steps=2)}},
    {
        "positions": of("alibi"),
        "attention": {"score": of("shaw"), "norm": of("scalable"), "where": of("prefix", length=2)},
    },
    {
        "attention": {
            "score": of("additive"),
            "norm": of("sigmoid"),
            "where": of("all", of=[WINDOW, of("blocked", size=3)]),
        }
    },
]
STEPPING = [
    {"score": of("general"), "norm": of("sparsemax")},
    {"score": of("dot"), "norm": of("hard"), "where": WINDOW},
    {"score": of("location_sensitive", kernel=3), "norm": of("softmax")},
    {"score": of("location_sensitive", kernel=3, cumulative=True), "norm": of("monotonic", noise=0.0)},
    {"score": of("additive", normalised=True), "norm": of("chunkwise", width=2, noise=0.0)},
    {"score": of("mixture", components=2), "norm": of("exponential")},
    {"score": of("local_predictive", back=2)},
    {"score": of("local_monotonic", back=2)},
    {"score": of("location")},
]


def looking(side: dict) -> dict:
    return next(part for part in variants("encoder") if part["kind"] == "transformer") | side


def stepping(attention: dict) -> dict:
    return {"kind": "rnn", "attention": attention}


def title(attention: dict) -> str:
    return "-".join(part["kind"] for part in attention.values() if "kind" in part) or "-"


COMBINATIONS = [
    *(
        pytest.param((encoder, decoder), id=f"{name(encoder)}:{name(decoder)}")
        for encoder, decoder in product(variants("encoder"), variants("decoder"))
    ),
    *(pytest.param((looking(side), looking(side)), id=title(side | side["attention"])) for side in LOOKING),
    *(
        pytest.param((looking({}), looking({"cross_attention": attention})), id=f"cross-{title(attention)}")
        for attention in (
            {"score": of("concat")},
            {"layout": of("latent", rank=5, turned=2)},
            {"norm": of("top_k", k=2), "where": of("window", back=1, ahead=1)},
        )
    ),
    *(pytest.param((of("rnn"), stepping(attention)), id=title(attention)) for attention in STEPPING),
]


def build(parts: tuple[dict, dict], seed: int = 1, dropout: float = 0.1) -> Model:
    torch.manual_seed(seed)
    settings = ModelSettings.model_validate({"width": 12, "dropout": dropout, "encoder": parts[0], "decoder": parts[1]})
    embedding = TokenEmbedding(VOCABULARY, settings.width)
    return build_model(settings, embedding, TokenHead(embedding, smoothing=0.1)).double().eval()


@pytest.fixture(scope="module", params=COMBINATIONS)
def parts(request) -> tuple[dict, dict]:
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
    return Padded(padded.values[row : row + 1, : padded.lengths[row]], padded.lengths[row : row + 1])


def test_every_kind_is_there():
    kinds = get_args(ModelSettings.model_fields["kind"].annotation)
    for side in ("encoder", "decoder"):
        assert {part["kind"] for part in variants(side)} == set(kinds)
    assert len(COMBINATIONS) == 9 + len(LOOKING) + 3 + len(STEPPING)


def test_probabilities_sum_to_one(model):
    log_probs = at_once(model, SOURCE, TARGET)
    assert log_probs.shape == (11, VOCABULARY)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(11, dtype=torch.float64))
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
        wider = torch.nn.functional.pad(padded.values, (0, 2))
        real = Padded(wider, padded.lengths).mask
        return Padded(torch.where(real, wider, torch.randint_like(wider, VOCABULARY)), padded.lengths)

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
    assert (after - before)[changed].abs().max() > 1e-6  # later ones may have it out of their sight


def test_every_step_sees_the_whole_source(model):
    for changed in range(4):
        values = SOURCE.values.clone()
        values[0, changed] = 12
        difference = at_once(model, only(Padded(values, SOURCE.lengths), 0), only(TARGET, 0)) - at_once(
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
    assert any(path.endswith("cross") for path in maps)
    assert seen.equal(unseen)
    assert training != seen.equal(at_once(model, SOURCE, TARGET))  # dropout is on only while training


def test_gradients_reach_every_weight(model):
    memory = model.encode(SOURCE)
    decoded, _ = model.advance(TARGET, memory, model.start(memory, 3))
    loss = model.head.loss(decoded, TARGET, memory)
    gradients = torch.autograd.grad(loss.total, list(model.parameters()))
    for (path, _), gradient in zip(model.named_parameters(), gradients, strict=True):
        assert gradient.isfinite().all(), path
        assert gradient.abs().max() > 1e-9, path


def test_the_loss_is_a_sum_over_real_steps(model):
    memory = model.encode(SOURCE)
    decoded, _ = model.advance(TARGET, memory, model.start(memory, 3))
    loss = model.head.loss(decoded, TARGET, memory)
    log_probs = at_once(model, SOURCE, TARGET)
    nll = -log_probs.gather(1, TARGET.values[TARGET.mask][:, None]).sum()
    assert loss.count == 11
    torch.testing.assert_close(loss.parts["nll"], nll)
    torch.testing.assert_close(loss.total, 0.9 * nll - 0.1 * log_probs.mean(-1).sum())
