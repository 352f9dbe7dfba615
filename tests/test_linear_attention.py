"""Linear attention against loops over single steps of the papers' formulas, and against itself done another way."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from regard import trees
from regard.attention.approximate import Linformer, NonCausal, Nystrom, pseudo_inverse, segment_means
from regard.attention.forgetting import DeltaRule, GatedDeltaRule, GatedLinear, Retention
from regard.attention.linear import delta_rule, linear_attention
from regard.attention.mixers import LinearAttention, Performer, orthogonal_gaussian
from regard.attention.positions import rotation
from regard.attention.rotary import rotate
from regard.errors import InputError, SettingsError
from regard.models.mixing import DecoderMixingPart, EncoderMixingPart
from regard.settings import Settings, parse

LENGTHS = [1, 2, 7, 64, 65, 130]
ROWS, HEADS, FEATURES, VALUES = 2, 2, 3, 4
WIDTH = 8


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


def worst(ones, others) -> float:
    return max(float((one - other).detach().abs().max()) for one, other in zip(ones, others, strict=True))


DECAYS = {
    "none": lambda time: torch.zeros(1, 1, time, 1, dtype=torch.float64),
    "head": lambda time: F.logsigmoid(random(ROWS, HEADS, time, 1)),
    "feature": lambda time: F.logsigmoid(random(ROWS, HEADS, time, FEATURES)),
}


def linear_by_hand(queries, keys, values, log_decay, state):
    """S <- diag(decay) S + k v^T, o = S^T q, one step after another."""
    out, log_decay = [], log_decay.expand_as(keys)
    for step in range(queries.shape[2]):
        state = log_decay[:, :, step, :, None].exp() * state
        state = state + torch.einsum("rhf,rhv->rhfv", keys[:, :, step], values[:, :, step])
        out.append(torch.einsum("rhf,rhfv->rhv", queries[:, :, step], state))
    return torch.stack(out, 2), state


def delta_by_hand(queries, keys, values, strength, log_decay, state):
    """S <- decay (1 - b k k^T) S + b k v^T, o = S^T q, one step after another."""
    out, log_decay = [], log_decay.expand_as(strength)
    identity = torch.eye(keys.shape[-1], dtype=keys.dtype)
    for step in range(queries.shape[2]):
        key, share = keys[:, :, step, :, None], strength[:, :, step, :, None]
        erased = identity - share * key @ key.mT
        state = log_decay[:, :, step, :, None].exp() * erased @ state + share * key @ values[:, :, step, None]
        out.append((queries[:, :, step, None] @ state)[:, :, 0])
    return torch.stack(out, 2), state


def linear_inputs(time: int, decay: str) -> list[torch.Tensor]:
    shapes = [(ROWS, HEADS, time, FEATURES)] * 2 + [(ROWS, HEADS, time, VALUES)]
    return [*(random(*shape) for shape in shapes), DECAYS[decay](time), random(ROWS, HEADS, FEATURES, VALUES)]


def delta_inputs(time: int, decay: str) -> list[torch.Tensor]:
    queries, keys, values, log_decay, state = linear_inputs(time, decay)
    return [
        queries,
        F.normalize(keys, dim=-1),
        values,
        2 * torch.sigmoid(random(ROWS, HEADS, time, 1)),
        log_decay,
        state,
    ]


CASES = [
    *((linear_attention, linear_by_hand, linear_inputs, decay) for decay in DECAYS),
    *((delta_rule, delta_by_hand, delta_inputs, decay) for decay in ("none", "head")),
]
recurrences = pytest.mark.parametrize(
    ("recurrence", "by_hand", "inputs_of", "decay"), CASES, ids=lambda case: getattr(case, "__name__", case)
)


@recurrences
@pytest.mark.parametrize("time", LENGTHS)
def test_recurrences_are_their_formulas(recurrence, by_hand, inputs_of, decay, time):
    inputs = [part.requires_grad_() for part in inputs_of(time, decay)]
    expected = by_hand(*inputs)
    shares = [torch.randn_like(part) for part in expected]
    gradients = torch.autograd.grad(expected, inputs, shares)
    for chunk in (1, 4, 64):
        found = recurrence(*inputs, chunk=chunk)
        assert worst(found, expected) < 1e-11
        assert worst(torch.autograd.grad(found, inputs, shares), gradients) < 1e-9


@recurrences
def test_the_form_for_one_step_is_the_form_for_chunks(recurrence, by_hand, inputs_of, decay):
    *steps, state = inputs_of(9, decay)
    expected, last = recurrence(*steps, state)
    out = []
    for step in range(9):
        found, state = recurrence(*(part[:, :, step : step + 1] for part in steps), state)
        out.append(found)
    assert worst([torch.cat(out, 2), state], [expected, last]) < 1e-12


@pytest.mark.parametrize("decay", ["head", "feature"])
@pytest.mark.parametrize("strongest", [1e-3, 1.0, 30.0, 1e4])
def test_long_inputs_stay_exact_in_single_precision_however_strong_the_decay(decay, strongest):
    """Now and then a step that forgets everything, among steps that forget next to nothing."""
    time = 1000
    *steps, log_decay, state = linear_inputs(time, decay)
    log_decay = torch.where(torch.rand_like(log_decay) < 0.1, -strongest, log_decay * 1e-2)
    inputs = [part.float().requires_grad_() for part in (*steps, log_decay, state)]
    out, last = linear_attention(*inputs)
    expected, expected_last = linear_by_hand(*(part.detach().double() for part in inputs))
    assert worst([out, last], [expected, expected_last]) < 1e-5 * float(expected.abs().max())
    assert all(part.isfinite().all() for part in torch.autograd.grad(out.sum(), inputs))


def test_equal_keys_in_a_row_keep_the_delta_rule_finite():
    queries, keys, values, strength, log_decay, state = (part.float() for part in delta_inputs(2000, "none"))
    keys = keys[:, :, :1].expand_as(keys)
    out, last = delta_rule(queries, keys, values, torch.ones_like(strength), log_decay, state)
    assert worst([keys[:, :, :1] @ last], [values[:, :, -1:]]) < 1e-5  # what was written last is what a key finds
    assert out.abs().max() < 100


def test_under_autocast_the_state_keeps_its_precision():
    inputs = [part.float() for part in linear_inputs(100, "head")]
    with torch.autocast("cpu", torch.bfloat16):
        found = linear_attention(*inputs)
    assert worst(found, linear_attention(*inputs)) == 0


class Chosen(Settings):
    mixer: EncoderMixingPart | DecoderMixingPart


MIXERS = ["linear", "performer", "retention", "gated_linear", "delta_rule", "gated_delta_rule"]
ENCODERS = ["linformer", "nystrom", "non_causal"]


def built(kind: str) -> nn.Module:
    return parse(Chosen, {"mixer": {"kind": kind}}, "here").mixer.build(WIDTH, 2).double()


mixers = pytest.mark.parametrize("kind", MIXERS)
encoders = pytest.mark.parametrize("kind", ENCODERS)


@mixers
@pytest.mark.parametrize("cuts", [[70], [1] * 5 + [65], [64, 6], [3, 0, 67], [33, 1, 2, 34]])
def test_any_split_into_chunks_is_the_whole(kind, cuts):
    mixer, inputs, lengths = built(kind), random(3, 70, WIDTH), torch.tensor([70, 34, 0])
    expected, last = mixer(inputs, lengths)
    state, out, begin = None, [], 0
    for cut in cuts:
        if cut:
            chunk = inputs[:, begin : begin + cut]
            found, state = mixer(chunk, (lengths - begin).clamp(0, cut), state)
            out.append(found)
        begin += cut
    real = torch.arange(70) < lengths[:, None]
    assert worst([torch.cat(out, 1)[real]], [expected[real]]) < 1e-11
    assert worst(trees.leaves(state).values(), trees.leaves(last).values()) < 1e-11


@mixers
def test_padding_never_enters_a_state(kind):
    mixer, inputs, lengths = built(kind), random(3, 20, WIDTH), torch.tensor([20, 7, 0])
    garbage = inputs.masked_fill((torch.arange(20) >= lengths[:, None])[:, :, None], torch.nan)
    outs, states = zip(*(mixer(given, lengths) for given in (inputs, garbage)), strict=True)
    assert outs[1].isfinite().all()
    assert torch.equal(*outs)
    for row, length in enumerate(lengths):
        alone = mixer(inputs[row : row + 1, :length], lengths[row : row + 1])[1] if length else mixer.start(1)
        for one, other in zip(trees.leaves(states[1]).values(), trees.leaves(alone).values(), strict=True):
            assert worst([one[row : row + 1]], [other]) < 1e-12


@mixers
def test_padding_leaves_no_trace_in_gradients(kind):
    mixer, inputs, lengths = built(kind), random(3, 9, WIDTH), torch.tensor([9, 4, 0])
    inputs[1, 4:] = torch.nan
    out, _ = mixer(inputs.requires_grad_(), lengths)
    out.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in mixer.parameters())
    assert (inputs.grad[1, 4:] == 0).all()


@mixers
def test_no_step_sees_a_later_one(kind):
    mixer, inputs = built(kind), random(1, 100, WIDTH)
    changed = inputs.clone()
    changed[:, 80] += 1
    out, other = (mixer(given, torch.tensor([100]))[0] for given in (inputs, changed))
    assert worst([out[:, :80]], [other[:, :80]]) == 0
    assert ((out - other)[:, 80:].abs().amax(-1) > 0).all()


def kernel_attention(queries, keys, values) -> torch.Tensor:
    """sum_j phi(q_i) phi(k_j) v_j / sum_j phi(q_i) phi(k_j) over j <= i, from vectors phi was applied to."""
    weights = (queries @ keys.mT).tril()
    return weights / weights.sum(-1, keepdim=True) @ values


def projected(mixer: nn.Module, inputs: torch.Tensor) -> list[torch.Tensor]:
    """Queries, keys and values of each head by the rows of the weight that make them."""
    parts = [inputs @ rows.mT for rows in mixer.projection.weight.split(WIDTH)]
    return [torch.stack(part.split(WIDTH // 2, -1), 1) for part in parts]


def joined(mixer: nn.Module, found: torch.Tensor) -> torch.Tensor:
    return torch.cat(found.unbind(1), -1) @ mixer.output.weight.mT


def linear_kind(mixer: LinearAttention, inputs):
    queries, keys, values = projected(mixer, inputs)
    return kernel_attention(F.elu(queries) + 1, F.elu(keys) + 1, values)


def performer_kind(mixer: Performer, inputs):
    def features(vectors):
        vectors = vectors / (WIDTH // 2) ** 0.25
        return torch.exp(vectors @ mixer.directions.mT - vectors.square().sum(-1, keepdim=True) / 2)

    queries, keys, values = projected(mixer, inputs)
    return kernel_attention(features(queries), features(keys), values)


def gate(mixer, inputs) -> torch.Tensor:
    return torch.stack(F.silu(inputs @ mixer.gate.weight.mT).split(WIDTH // 2, -1), 1)


def whitened(found: torch.Tensor) -> torch.Tensor:
    found = found - found.mean(-1, keepdim=True)
    return found / (found.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def empty(rows: int = 2) -> torch.Tensor:
    return torch.zeros(rows, 2, WIDTH // 2, WIDTH // 2, dtype=torch.float64)


def retention_kind(mixer: Retention, inputs):
    """The parallel form of the paper, equation 5: (Q K^T * D) V with D = gamma^(n - m)."""
    queries, keys, values = projected(mixer, inputs)
    at = torch.arange(inputs.shape[1])
    turn = rotation(at[None], WIDTH // 2)
    gammas = torch.tensor([1 - 2.0**-5, 1 - 2.0**-6], dtype=torch.float64)[:, None, None]
    decays = (gammas ** (at[:, None] - at).clamp(min=0)).tril()
    return whitened((rotate(queries, turn) @ rotate(keys, turn).mT * decays) @ values) * gate(mixer, inputs)


def gated_linear_kind(mixer: GatedLinear, inputs):
    first, second = mixer.decay
    decay = torch.sigmoid(inputs @ first.weight.mT @ second.weight.mT + second.bias) ** (1 / 16)
    decay = torch.stack(decay.split(WIDTH // 2, -1), 1)
    return whitened(linear_by_hand(*projected(mixer, inputs), decay.log(), empty())[0]) * gate(mixer, inputs)


def written_by_delta(mixer: DeltaRule, inputs, log_decay) -> torch.Tensor:
    queries, keys, values = projected(mixer, inputs)
    queries, keys = (F.silu(part) / F.silu(part).norm(dim=-1, keepdim=True) for part in (queries, keys))
    strength = torch.sigmoid(inputs @ mixer.strength.weight.mT).mT[..., None]
    found, _ = delta_by_hand(queries, keys, values, strength, log_decay, empty())
    return found / (found.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def delta_kind(mixer: DeltaRule, inputs):
    return written_by_delta(mixer, inputs, torch.zeros(1, 1, inputs.shape[1], 1, dtype=torch.float64))


def gated_delta_kind(mixer: GatedDeltaRule, inputs):
    softplus = torch.log(1 + torch.exp(inputs @ mixer.forget.weight.mT + mixer.forget.bias))
    log_decay = -(softplus * mixer.rate.flatten().exp()).mT[..., None]
    return written_by_delta(mixer, inputs, log_decay) * gate(mixer, inputs)


BY_HAND = [linear_kind, performer_kind, retention_kind, gated_linear_kind, delta_kind, gated_delta_kind]


@pytest.mark.parametrize(("kind", "by_hand"), [*zip(MIXERS, BY_HAND, strict=True)])
def test_kinds_are_their_papers(kind, by_hand):
    mixer, inputs = built(kind), 2 * random(2, 70, WIDTH)
    expected = joined(mixer, by_hand(mixer, inputs))
    assert worst([mixer(inputs, torch.tensor([70, 70]))[0]], [expected]) < 1e-10


@mixers
def test_mixers_learn_in_every_part(kind):
    mixer = built(kind)
    mixer(random(2, 6, WIDTH), torch.tensor([6, 5]))[0].square().sum().backward()
    assert all(weight.grad.abs().max() > 0 for weight in mixer.parameters())


@encoders
def test_padding_does_not_matter_to_encoders(kind):
    mixer, inputs, lengths = built(kind), random(3, 90, WIDTH), torch.tensor([90, 70, 7])
    garbage = inputs.masked_fill((torch.arange(90) >= lengths[:, None])[:, :, None], torch.nan)
    out = mixer(garbage, lengths)
    for row, length in enumerate(lengths):
        alone = mixer(inputs[row : row + 1, :length], lengths[row : row + 1])
        assert worst([out[row : row + 1, :length]], [alone]) < 1e-12


@encoders
def test_encoders_take_a_row_of_nothing(kind):
    mixer, inputs = built(kind), random(2, 5, WIDTH)
    inputs[1] = torch.nan
    mixer(inputs, torch.tensor([5, 0])).sum().backward()
    assert all(weight.grad.isfinite().all() for weight in mixer.parameters())


def test_non_causal_sums_are_over_all_steps():
    mixer, inputs = built("non_causal"), random(2, 9, WIDTH)
    queries, keys, values = projected(mixer.mixer, inputs)
    weights = (F.elu(queries) + 1) @ (F.elu(keys) + 1).mT
    expected = joined(mixer.mixer, weights / weights.sum(-1, keepdim=True) @ values)
    assert worst([mixer(inputs, torch.tensor([9, 9]))], [expected]) < 1e-12


@torch.no_grad()
def test_performers_come_near_softmax_attention_as_features_grow():
    inputs, errors = 0.3 * random(2, 40, WIDTH), []
    for features in (16, 256, 4096):
        found = []
        for seed in range(5):
            torch.manual_seed(2)
            performer = NonCausal(Performer(WIDTH, 2, features, seed).double())
            found.append(performer(inputs, torch.tensor([40, 40])))
        expected = joined(performer.mixer, F.scaled_dot_product_attention(*projected(performer.mixer, inputs)))
        errors.append(float(torch.stack([one - expected for one in found]).square().mean().sqrt()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.01 * float(expected.square().mean().sqrt())


def test_directions_are_orthogonal_and_as_long_as_gaussian_ones():
    directions = orthogonal_gaussian(4096, 8, seed=1).unflatten(0, (-1, 8))
    products = directions @ directions.mT
    squares = products.diagonal(dim1=-2, dim2=-1)
    assert (products - torch.diag_embed(squares)).abs().max() < 1e-4
    assert abs(float(squares.mean()) - 8) < 0.3 and abs(float(squares.var()) - 16) < 2  # chi-squared of 8
    assert directions.mean((0, 1)).abs().max() < 0.05
    assert torch.equal(orthogonal_gaussian(5, 8, seed=3), orthogonal_gaussian(5, 8, seed=3))
    assert not torch.equal(orthogonal_gaussian(5, 8, seed=3), orthogonal_gaussian(5, 8, seed=4))


def test_linformer_is_softmax_over_projected_keys():
    linformer, inputs = Linformer(WIDTH, 2, longest=9, rank=4).double(), random(2, 7, WIDTH)
    lengths = torch.tensor([7, 5])
    real = (torch.arange(7) < lengths[:, None]).double()[:, :, None]
    queries, keys, values = projected(linformer, inputs * real)
    keys = torch.einsum("rt,bhtf->bhrf", linformer.key_rows[:, :7], keys)
    values = torch.einsum("rt,bhtf->bhrf", linformer.value_rows[:, :7], values)
    expected = joined(linformer, F.softmax(queries @ keys.mT / math.sqrt(WIDTH // 2), -1) @ values)
    assert worst([linformer(inputs, lengths)], [expected]) < 1e-12
    with pytest.raises(InputError, match="10 steps"):
        linformer(random(1, 10, WIDTH), torch.tensor([10]))


def test_nystrom_is_the_one_of_transformers():
    modelling = pytest.importorskip("transformers.models.nystromformer.modeling_nystromformer")
    config = modelling.NystromformerConfig(
        hidden_size=WIDTH, num_attention_heads=2, num_landmarks=6, segment_means_seq_len=30, conv_kernel_size=5
    )
    theirs = modelling.NystromformerSelfAttention(config).double().eval()
    theirs.init_option = "exact"  # each matrix scaled by its own norm, not by the largest of the batch
    ours = Nystrom(WIDTH, 2, landmarks=6, reach=2).double()
    with torch.no_grad():
        for linear, rows in zip(
            (theirs.query, theirs.key, theirs.value), ours.projection.weight.split(WIDTH), strict=True
        ):
            linear.weight.copy_(rows)
            linear.bias.zero_()
        theirs.conv.weight.copy_(ours.nearby.weight[..., None])
        ours.output.weight.copy_(torch.eye(WIDTH))
    inputs = 3 * random(3, 30, WIDTH)
    assert worst([ours(inputs, torch.tensor([30, 30, 30]))], [theirs(inputs)[0]]) < 1e-12


def test_nystrom_with_a_landmark_for_each_step_is_softmax_attention():
    nystrom, inputs = Nystrom(WIDTH, 2, landmarks=20, iterations=40, reach=0).double(), 3 * random(2, 12, WIDTH)
    nn.init.zeros_(nystrom.nearby.weight)
    expected = joined(nystrom, F.scaled_dot_product_attention(*projected(nystrom, inputs)))
    assert worst([nystrom(inputs, torch.tensor([12, 12]))], [expected]) < 1e-9


def test_segments_share_a_row_s_own_steps():
    means = segment_means(torch.tensor([7, 2, 0]), 8, 3, torch.float64)[:, 0]
    third, half = 1 / 3, 1 / 2
    first = [[third, third, third, 0, 0, 0, 0, 0], [0, 0, 0, half, half, 0, 0, 0], [0, 0, 0, 0, 0, half, half, 0]]
    assert worst([means[0]], [torch.tensor(first, dtype=torch.float64)]) == 0
    assert means[1].nonzero().tolist() == [[0, 0], [1, 1]]
    assert not means[2].any()


def test_pseudo_inverse_is_torch_s():
    matrix = F.softmax(3 * random(2, 2, 5, 5), -1)
    matrix[0, 0, 3:], matrix[0, 0, :, 3:] = 0, 0
    assert worst([pseudo_inverse(matrix, 40)], [torch.linalg.pinv(matrix)]) < 1e-8


def test_heads_must_divide_the_width():
    with pytest.raises(SettingsError, match="does not split"):
        LinearAttention(10, 4)


@pytest.mark.parametrize("kind", MIXERS + ENCODERS)
@torch.no_grad()
def test_autocast_changes_little(kind):
    mixer, inputs, lengths = built(kind).float(), random(2, 40, WIDTH).float(), torch.tensor([40, 30])
    first = lambda result: result if isinstance(result, torch.Tensor) else result[0]  # noqa: E731
    expected = first(mixer(inputs, lengths))
    with torch.autocast("cpu", torch.bfloat16):
        found = first(mixer(inputs, lengths))
    assert worst([found[0]], [expected[0]]) < 0.1 * float(expected.abs().max())
