"""Heads: the mixture of writing and copying, its loss and coverage, by hand; a bias; and that copying is learnt."""

import math

import pytest
import torch
from torch.nn import functional as F

from regard import trees
from regard.attention import attend, record
from regard.attention.settings import SteppingPart
from regard.errors import SettingsError
from regard.layers import losses
from regard.layers.embeddings import TokenEmbedding
from regard.models.copy_head import CopyHead
from regard.models.heads import TokenHead
from regard.models.parts import Decoded, Encoded, Widths
from regard.models.recurrent import RecurrentDecoderPart
from regard.models.recurrent_encoder import RecurrentEncoderPart
from regard.padded import Padded, pad
from regard.settings import override, parse
from regard.tasks.generate import GenerateSettings
from small_models import answers, learn, model_of, whole

VOCABULARY, WIDTHS = 9, Widths(4, 6, 5, 6)
SOURCE = pad([[4, 5, 4, 6, 3], [7, 3], [8, 8, 8, 3]])
TARGETS = pad([[4, 7, 3], [7, 7, 8, 3], [3]])  # in the source and out of it


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def copy_head(smoothing: float = 0.0, coverage: float = 0.0) -> CopyHead:
    return CopyHead(TokenEmbedding(VOCABULARY, WIDTHS.output), WIDTHS, smoothing, coverage).double()


def encoded(states: torch.Tensor, source: Padded = SOURCE) -> Encoded:
    return Encoded(source, Padded(random(*source.values.shape, 4), source.lengths), Padded(states, source.lengths))


def features(targets: Padded = TARGETS) -> Decoded:
    return Decoded(random(*targets.values.shape, WIDTHS.output))


def copying(head: CopyHead, query: torch.Tensor, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of one step: the attention over real states, and the probability of writing from the vocabulary."""
    weights = torch.softmax(states @ head.copy_attention.query(query) / math.sqrt(WIDTHS.memory), 0)
    return weights, torch.sigmoid(head.gate(torch.cat([query, weights @ states])))[0]


def by_hand(head: CopyHead, query: torch.Tensor, states: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """Equation 9 of See et al. 2017, token by token."""
    weights, generate = copying(head, query, states)
    probs = generate * torch.softmax(head.weight @ query, 0)
    for weight, token in zip(weights, tokens, strict=True):
        probs = probs + (1 - generate) * weight * F.one_hot(torch.tensor(token), VOCABULARY)
    return probs


@torch.no_grad()
def test_copying_is_the_mixture_by_hand():
    head, states, decoded = copy_head(), random(3, 5, WIDTHS.memory), features()
    log_probs = head.log_probs(decoded, head.remember(encoded(states)))
    for row, length in enumerate(SOURCE.lengths):
        tokens = SOURCE.values[row, :length].tolist()
        for step, query in enumerate(decoded.features[row]):
            expected = by_hand(head, query, states[row, :length], tokens)
            torch.testing.assert_close(log_probs[row, step].exp(), expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, 4, dtype=torch.float64))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("tokens_at_a_time", [1, 3, 100])
def test_the_loss_is_that_of_the_probabilities(smoothing, tokens_at_a_time, monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", tokens_at_a_time * VOCABULARY)
    head, states, decoded = copy_head(smoothing), random(3, 5, WIDTHS.memory).requires_grad_(), features()
    decoded.features.requires_grad_()
    memory, real = head.remember(encoded(states)), TARGETS.mask
    loss = head.loss(decoded, TARGETS, memory)
    log_probs = head.log_probs(decoded, memory)[real]
    nll = -log_probs.gather(1, TARGETS.values[real][:, None]).sum()
    expected = (1 - smoothing) * nll - smoothing * log_probs.mean(-1).sum()
    assert loss.count == 8
    assert not any(part.requires_grad for part in loss.parts.values())
    torch.testing.assert_close(loss.parts["nll"], nll.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(loss.total, expected, rtol=1e-12, atol=0)
    inputs = [decoded.features, states, *head.parameters()]
    for one, other in zip(torch.autograd.grad(loss.total, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_gradcheck_of_the_loss():
    head, states, decoded = copy_head(0.1, 0.5), random(3, 5, WIDTHS.memory).requires_grad_(), features()
    inputs = [decoded.features.requires_grad_(), states, *head.parameters()]
    remembered = encoded(states)
    assert torch.autograd.gradcheck(
        lambda *_: head.loss(decoded, TARGETS, head.remember(remembered)).total, inputs, fast_mode=True
    )


@torch.no_grad()
def test_coverage_by_hand():
    plain, covered = copy_head(), copy_head(coverage=0.5)
    covered.load_state_dict(plain.state_dict())
    states, decoded = random(3, 5, WIDTHS.memory), features()
    expected = 0.0
    for row, (length, steps) in enumerate(zip(SOURCE.lengths, TARGETS.lengths, strict=True)):
        before = [0.0] * int(length)
        for query in decoded.features[row, :steps]:
            weights, _ = copying(plain, query, states[row, :length])
            expected += sum(min(float(weight), past) for weight, past in zip(weights, before, strict=True))
            before = [past + float(weight) for weight, past in zip(weights, before, strict=True)]
    memory = plain.remember(encoded(states))
    loss, more = (head.loss(decoded, TARGETS, memory) for head in (plain, covered))
    assert float(more.parts["coverage"]) == pytest.approx(expected, rel=1e-12)
    assert float(more.total - loss.total) == pytest.approx(0.5 * expected, rel=1e-12)


@torch.no_grad()
def test_padding_may_hold_anything():
    head, states, decoded = copy_head(0.1, 0.5), random(3, 5, WIDTHS.memory), features()
    expected = head.loss(decoded, TARGETS, head.remember(encoded(states)))
    source = Padded(torch.where(SOURCE.mask, SOURCE.values, 7), SOURCE.lengths)
    targets = Padded(torch.where(TARGETS.mask, TARGETS.values, 8), TARGETS.lengths)
    other = Decoded(torch.where(TARGETS.mask[..., None], decoded.features, 100.0))
    memory = head.remember(encoded(torch.where(SOURCE.mask[..., None], states, -100.0), source))
    loss = head.loss(other, targets, memory)
    torch.testing.assert_close((loss.total, loss.parts), (expected.total, expected.parts))


@torch.no_grad()
def test_beams_copy_from_the_source_of_their_row():
    head, memory_states, decoded = copy_head(), random(3, 5, WIDTHS.memory), Decoded(random(6, 2, WIDTHS.output))
    memory = head.remember(encoded(memory_states))
    repeated = head.log_probs(decoded, trees.repeat(memory, 2))
    torch.testing.assert_close(head.log_probs(decoded, memory), repeated)
    assert {len(leaf) for leaf in trees.leaves(memory).values()} == {3}


@pytest.mark.parametrize("gate", [-1e4, 1e4])
def test_a_gate_that_is_sure_has_finite_losses_and_gradients(gate):
    head, states = copy_head(0.1, 1.0).float(), 100 * random(3, 5, WIDTHS.memory).float().requires_grad_()
    decoded = Decoded(features().features.float())
    with torch.no_grad():
        head.gate.bias.fill_(gate)
    memory = head.remember(encoded(states))
    log_probs, loss = head.log_probs(decoded, memory), head.loss(decoded, TARGETS, memory)
    for value in (log_probs.sum(), loss.total):
        found = torch.autograd.grad(value, [states, *head.parameters()], retain_graph=True, allow_unused=True)
        assert value.isfinite()
        assert all(one.isfinite().all() for one in found if one is not None)


@pytest.mark.parametrize("tokens_at_a_time", [1, 3, 100])
def test_divergence_is_kullback_leibler_both_ways(tokens_at_a_time, monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", tokens_at_a_time * VOCABULARY)
    head, one, other = copy_head(), features(), features()
    states = random(2, 3, 5, WIDTHS.memory).requires_grad_()
    memories = head.remember(encoded(states[0])), head.remember(encoded(states[1]))
    sides = [head.log_probs(*side)[TARGETS.mask] for side in zip((one, other), memories, strict=True)]
    expected = sum(F.kl_div(*pair, reduction="sum", log_target=True) for pair in (sides, sides[::-1]))
    found = head.divergence(one, other, TARGETS, memories)
    torch.testing.assert_close(found, expected)
    inputs = [states, *head.parameters()]
    torch.testing.assert_close(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs))


def test_copying_in_low_precision_is_close():
    head, states, decoded = copy_head(0.1).float(), random(3, 5, WIDTHS.memory).float(), features().features.float()
    exact = head.loss(Decoded(decoded), TARGETS, head.remember(encoded(states))).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = head.loss(Decoded(decoded.bfloat16()), TARGETS, head.remember(encoded(states))).total
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, exact, rtol=0.02, atol=0)


def test_copying_needs_a_state_for_each_token():
    with pytest.raises(SettingsError, match="there is no encoder"):
        CopyHead(TokenEmbedding(VOCABULARY, 5), Widths(5, 5, 5, 0))
    sentences = encoded(random(3, 5, WIDTHS.memory))
    sentences = sentences._replace(states=Padded(random(3, 2, 6), torch.tensor([2, 1, 1])))
    with pytest.raises(SettingsError, match="an encoder state for each source token"):
        copy_head().remember(sentences)


@torch.no_grad()
def test_coverage_in_the_score_is_equation_11():
    """e_i = v . tanh(W_h h_i + W_s s + w_c c_i + b), where c_i sums the weights of all steps before."""
    part = SteppingPart.model_validate({"score": {"kind": "location_sensitive", "kernel": 1, "cumulative": True}})
    attention, states, queries = part.build(6).double(), random(2, 5, 6), random(2, 4, 6)
    score, asked, keys = attention.score, attention.query(queries), attention.key(states)
    found = attend(asked[:, None], keys[:, None], states[:, None], score=score).out[:, 0]
    of_coverage = score.location.weight @ score.filters.weight[:, 0, 0]
    coverage = torch.zeros(2, 5, dtype=torch.float64)
    for step in range(4):
        inner = keys + asked[:, step, None] + of_coverage * coverage[..., None]
        weights = torch.softmax(torch.tanh(inner) @ score.additive.direction, -1)
        torch.testing.assert_close(found[:, step], (weights[:, None] @ states)[:, 0])
        coverage = coverage + weights


def test_a_bias_is_added_to_the_scores(monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", 3 * VOCABULARY)
    head = TokenHead(TokenEmbedding(VOCABULARY, 5), smoothing=0.1, bias=True).double()
    with torch.no_grad():
        head.bias.copy_(random(VOCABULARY))
    decoded, other, real = features(), features(), TARGETS.mask
    loss = head.loss(decoded, TARGETS, ())
    logits = [side.features[real] @ head.weight.T + head.bias for side in (decoded, other)]
    plain = F.cross_entropy(logits[0], TARGETS.values[real], reduction="sum", label_smoothing=0.1)
    one, two = (F.log_softmax(side, -1) for side in logits)
    torch.testing.assert_close(head.log_probs(decoded, ())[real], one)
    apart = sum(F.kl_div(*pair, reduction="sum", log_target=True) for pair in ((one, two), (two, one)))
    divergence = head.divergence(decoded, other, TARGETS, ((), ()))
    for found, expected in ((loss.total, plain), (divergence, apart)):
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(
            *(
                torch.autograd.grad(3 * value, [head.weight, head.bias], retain_graph=True)
                for value in (found, expected)
            )
        )


def test_a_head_is_chosen_by_its_kind():
    settings = GenerateSettings()
    output = TokenEmbedding(VOCABULARY, 5)
    tokens = settings.head.build(output, WIDTHS, 0.2)
    assert (type(tokens), tokens.smoothing, tokens.bias) == (TokenHead, 0.2, None)
    settings = override(settings, ["head.kind=copy", "head.coverage=0.5"])
    copy = settings.head.build(output, WIDTHS, 0.2)
    assert (type(copy), copy.smoothing, copy.coverage) == (CopyHead, 0.2, 0.5)
    assert copy.weight is output.weight
    with pytest.raises(SettingsError, match=r"no setting 'head\.coverage'"):
        parse(GenerateSettings, {"head": {"kind": "tokens", "coverage": 1}}, "here")


KNOWN, NEW = range(4, 304), range(304, 404)


def after_the_mark(tokens: range, rows: int) -> tuple[Padded, Padded]:
    """Six tokens, one of the first four a mark (2), and the two tokens after it."""
    source = torch.randint(tokens.start, tokens.stop, (rows, 6))
    mark = torch.randint(4, (rows, 1))
    source.scatter_(1, mark, 2)
    return whole(source), whole(source.gather(1, mark + torch.tensor([1, 2])))


@pytest.mark.parametrize("kind", ["copy", "tokens"])
def test_tokens_never_written_before_are_copied(kind):
    """And only by the head that can."""
    part = parse(GenerateSettings, {"head": {"kind": kind}}, "here").head
    model = model_of(
        RecurrentEncoderPart(),
        RecurrentDecoderPart(),
        lambda output, widths: part.build(output, widths, 0.0),
        Widths(32, 32, 32, 32),
        NEW.stop,
    )
    learn(model, lambda: after_the_mark(KNOWN, 32), steps=130)
    source, target = after_the_mark(NEW, 200)
    with record(model) as maps:
        right = float((answers(model, source, target) == target.values).double().mean())
    assert right > 0.9 if kind == "copy" else right < 0.1
    assert ("head/copy" in maps) == (kind == "copy")
