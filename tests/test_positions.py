"""Positions against formulas written out by hand, and against the transformers package."""

import cmath
import math

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn
from transformers import BloomConfig, LlamaConfig, T5Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention

from regard.attention.positions import (
    Alibi,
    Learned,
    LearnedPart,
    NoPosition,
    PositionPart,
    Rotary,
    Sinusoidal,
    Sum,
    T5Bias,
    rotation,
    sinusoidal,
)
from regard.attention.rotary import Interpolated, Ntk, Plain, Yarn, rotate
from regard.errors import InputError, SettingsError

CPU = torch.device("cpu")
SINGLE = {"atol": 1e-5, "rtol": 1e-6}
"""How near numbers of single precision come, for the few tens of radians here."""


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


@pytest.fixture
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def indices(heads: int, queries: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Row, head and the two positions, to broadcast to (1, heads, queries, keys)."""
    return torch.zeros(1, 1, 1, 1).long(), torch.arange(heads)[:, None, None], queries[:, None], keys[None, :]


def turned_by_hand(vector: list[float], angles: list[float], pairing: str) -> list[float]:
    """Pairs as complex numbers, each multiplied by e^(i angle)."""
    half = len(angles)
    pairs = [(n, n + half) if pairing == "halves" else (2 * n, 2 * n + 1) for n in range(half)]
    turned = list(vector)
    for (real, imaginary), angle in zip(pairs, angles, strict=True):
        product = complex(vector[real], vector[imaginary]) * cmath.exp(1j * angle)
        turned[real], turned[imaginary] = product.real, product.imag
    return turned


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("width", [2, 6, 7])
def test_sinusoids_are_the_formula(width):
    at = torch.tensor([[0, 1, 5], [1000, 3, 2]])
    found = sinusoidal(at, width)
    for (row, step), position in zip([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)], at.flatten(), strict=True):
        for feature in range(width):
            angle = int(position) / 10000 ** (2 * (feature // 2) / width)
            expected = math.cos(angle) if feature % 2 else math.sin(angle)
            assert found[row, step, feature].item() == pytest.approx(expected, abs=1e-12)


def test_what_is_added_to_the_input():
    inputs, at = torch.randn(2, 3, 8), torch.tensor([[4, 0, 4]])
    assert torch.equal(Sinusoidal().on_input(inputs, at), inputs + sinusoidal(at, 8))
    learned = Learned(5, 8)
    assert torch.equal(learned.on_input(inputs, at), inputs + torch.stack([learned.table[n] for n in (4, 0, 4)]))
    assert Sinusoidal().on_input(inputs.bfloat16(), at).dtype == torch.bfloat16


def test_no_position_acts_nowhere():
    inputs, at = torch.randn(2, 3, 8), torch.arange(3)[None]
    assert NoPosition().on_input(inputs, at) is inputs
    assert NoPosition().on_qk(at, 8) is None and NoPosition().on_score(2) is None


def test_a_position_that_was_not_learned_is_named():
    with pytest.raises(InputError, match=r"position 7 was never learned: there are 5") as caught:
        Learned(5, 4).on_input(torch.zeros(1, 2, 4), torch.tensor([[0, 7]]))
    assert "raise the length above 7" in str(caught.value)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("pairing", ["neighbours", "halves"])
@pytest.mark.parametrize(("share", "base"), [(1.0, 10000.0), (0.5, 500.0)])
def test_rotation_is_multiplication_of_complex_numbers(pairing, share, base):
    vectors, at = torch.randn(2, 3, 4, 8), torch.tensor([[0, 3, 9, 100], [7, 7, 2, 1]])
    rotary = Rotary(pairing=pairing, share=share, base=base)
    found, turning = rotate(vectors, rotary.on_qk(at, 8)), int(8 * share)
    for row in range(2):
        for head in range(3):
            for step in range(4):
                angles = [int(at[row, step]) * base ** (-2 * n / turning) for n in range(turning // 2)]
                first, rest = vectors[row, head, step].split([turning, 8 - turning])
                expected = [*turned_by_hand(first.tolist(), angles, pairing), *rest.tolist()]
                assert found[row, head, step].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("rotary", [Rotary(), Rotary(pairing="halves"), Rotary(share=0.5, schedule=Yarn(length=20))])
def test_products_depend_on_distance_only(rotary):
    query, key = torch.randn(2, 1, 1, 1, 8)

    def product(query_at: int, key_at: int) -> float:
        turned = [
            rotate(vector, rotary.on_qk(torch.tensor([[at]]), 8)) for vector, at in ((query, query_at), (key, key_at))
        ]
        return (turned[0] * turned[1]).sum().item()

    assert product(9, 4) == pytest.approx(product(105, 100), abs=1e-12)
    assert product(9, 4) != pytest.approx(product(9, 3), abs=1e-3)


def test_what_is_not_turned_is_returned_as_it_is():
    vectors = torch.randn(1, 1, 2, 4)
    assert rotate(vectors, None) is vectors
    assert rotate(vectors.bfloat16(), rotation(torch.arange(2)[None], 4)).dtype == torch.bfloat16


@pytest.mark.parametrize(("share", "width"), [(1.0, 5), (0.3, 10), (0.1, 4)])
def test_features_that_cannot_be_paired_are_refused(share, width):
    with pytest.raises(SettingsError, match="cannot be paired"):
        Rotary(share=share).on_qk(torch.arange(2)[None], width)


@pytest.mark.usefixtures("_double")
def test_interpolation_divides_positions():
    stretched = Rotary(schedule=Interpolated(factor=4.0)).on_qk(torch.tensor([[12, 40]]), 8)
    plain = Rotary().on_qk(torch.tensor([[3, 10]]), 8)
    torch.testing.assert_close(stretched[:2], plain[:2], atol=1e-13, rtol=0)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("width", [2, 4, 64])
def test_ntk_changes_the_base(width):
    found = Ntk(factor=8.0).frequencies(width, 10000.0, CPU)
    base = 10000.0 * 8.0 ** (width / (width - 2)) if width > 2 else 1.0
    expected = torch.tensor([base ** (-2 * n / width) for n in range(width // 2)])
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-13)
    if width > 2:  # the slowest frequency as if interpolated, the fastest untouched
        assert found[-1].item() == pytest.approx(Interpolated(factor=8.0).frequencies(width, 1e4, CPU)[-1].item())
    assert found[0] == 1


def llama(width: int, **rope: object) -> LlamaConfig:
    parameters = {"rope_type": "default", "rope_theta": 10000.0, **rope}
    return LlamaConfig(hidden_size=2 * width, num_attention_heads=2, head_dim=width, rope_parameters=parameters)


SCHEDULES = [
    (Plain(), {}),
    (Interpolated(factor=4.0), {"rope_type": "linear", "factor": 4.0}),
    (Yarn(factor=4.0, length=64), {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}),
    (Yarn(factor=16.0, length=4096), {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096}),
    (
        Yarn(factor=3.0, length=2048, fast=8.0, slow=2.0),
        {
            "rope_type": "yarn",
            "factor": 3.0,
            "original_max_position_embeddings": 2048,
            "beta_fast": 8,
            "beta_slow": 2,
        },
    ),
]


@pytest.mark.parametrize(("schedule", "rope"), SCHEDULES[1:])
@pytest.mark.parametrize(("width", "base"), [(16, 10000.0), (128, 500000.0)])
def test_schedules_are_those_of_transformers(schedule, rope, width, base):
    config = llama(width, **rope, rope_theta=base)
    frequencies, magnitude = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, CPU)
    torch.testing.assert_close(schedule.frequencies(width, base, CPU), frequencies, atol=0, rtol=3e-6)
    assert schedule.magnitude == pytest.approx(magnitude, rel=1e-12)


@pytest.mark.parametrize(("schedule", "rope"), SCHEDULES)
def test_halves_turn_as_in_llama(schedule, rope):
    queries, keys, at = torch.randn(2, 4, 5, 16), torch.randn(2, 2, 5, 16), torch.tensor([[3, 4, 5, 6, 30]] * 2)
    expected = apply_rotary_pos_emb(queries, keys, *LlamaRotaryEmbedding(llama(16, **rope))(queries, at))
    turn = Rotary(pairing="halves", schedule=schedule).on_qk(at, 16)
    torch.testing.assert_close((rotate(queries, turn), rotate(keys, turn)), expected, **SINGLE)


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 7, 8, 12, 16, 20])
def test_alibi_is_blooms_but_for_a_number_for_each_query(heads):
    at = torch.arange(9)
    bloom = build_alibi_tensor(torch.ones(1, 9, dtype=torch.long), BloomConfig(n_head=heads).n_head, torch.float32)
    expected = (bloom.view(heads, 1, 9) - bloom.view(heads, 9, 1)).tril()
    found = Alibi().on_score(heads)(*indices(heads, at, at)).view(heads, 9, 9)
    torch.testing.assert_close(found.tril(), expected, **SINGLE)
    assert torch.equal(found, found.mT)


@pytest.mark.usefixtures("_double")
def test_alibi_is_the_papers_formula():
    at, keys_at = torch.tensor([7, 3]), torch.tensor([2, 3, 9])
    found = Alibi().on_score(8)(*indices(8, at, keys_at)).expand(8, 2, 3)
    for head in range(8):
        for query in range(2):
            for key in range(3):
                distance = abs(int(at[query]) - int(keys_at[key]))
                assert found[head, query, key].item() == pytest.approx(-(2 ** -(head + 1)) * distance, abs=1e-13)


def t5(buckets: int, reach: int, bidirectional: bool) -> T5Attention:
    config = T5Config(relative_attention_num_buckets=buckets, relative_attention_max_distance=reach, num_heads=4)
    config.is_decoder = not bidirectional
    return T5Attention(config, has_relative_attention_bias=True, layer_idx=0)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "reach"), [(32, 128), (8, 20), (6, 50), (64, 1000)])
def test_t5_bias_is_that_of_transformers(buckets, reach, bidirectional):
    theirs, ours = t5(buckets, reach, bidirectional), T5Bias(4, buckets, reach, bidirectional)
    ours.table = theirs.relative_attention_bias.weight
    offsets = torch.arange(-2000, 2001)
    expected = T5Attention._relative_position_bucket(offsets, bidirectional, buckets, reach)
    assert torch.equal(ours.bucket(offsets), expected)
    found = ours.on_score(4)(*indices(4, torch.arange(30, 40), torch.arange(40)))
    assert torch.equal(found.expand(1, 4, 10, 40), theirs.compute_bias(10, 40, past_seen_tokens=30))


def test_the_gradient_of_t5_bias_counts_pairs():
    bias, at = T5Bias(2, buckets=4, reach=3), torch.arange(5)
    bias(*indices(2, at, at)).sum().backward()
    pairs = bias.bucket(at[None, :] - at[:, None]).flatten().bincount(minlength=4)
    assert bias.table.grad.tolist() == [[count, count] for count in pairs.tolist()]


def test_buckets_that_hold_no_range_are_refused():
    with pytest.raises(SettingsError, match="the reach, 8, must be more"):
        T5Bias(2, buckets=32, reach=8)
    with pytest.raises(SettingsError, match="2 buckets hold 0 single offsets"):
        T5Bias(2, buckets=2)


def biases() -> list:
    learned = T5Bias(3)
    nn.init.normal_(learned.table)
    return [Alibi().on_score(3), learned.on_score(3), (Alibi() + learned).on_score(3)]


@pytest.mark.parametrize("number", range(3))
def test_biases_are_functions_of_scalars_too(number):
    bias, at = biases()[number], torch.arange(6)
    over = bias
    for axis in range(3, -1, -1):
        over = torch.vmap(over, in_dims=tuple(0 if other == axis else None for other in range(4)))
    found = over(torch.zeros(2).long(), torch.arange(3), at, at)
    assert torch.equal(found, bias(*indices(3, at, at)).expand(2, 3, 6, 6))


def test_a_sum_acts_in_every_slot_of_its_parts():
    inputs, at, learned, bias = torch.randn(2, 3, 8), torch.arange(3)[None], Learned(4, 8), T5Bias(2)
    nn.init.normal_(bias.table)
    positions = Sinusoidal() + learned + Rotary() + Alibi() + bias
    added = learned.on_input(Sinusoidal().on_input(inputs, at), at)
    assert torch.equal(positions.on_input(inputs, at), added)
    assert all(map(torch.equal, positions.on_qk(at, 4)[:2], rotation(at, 4)[:2]))
    places = indices(2, at[0], at[0])
    assert torch.equal(positions.on_score(2)(*places), Alibi().on_score(2)(*places) + bias(*places))
    assert {id(one) for one in positions.parameters()} == {id(learned.table), id(bias.table)}


def test_what_a_sum_adds_to_scores_shows_what_is_learned_in_it():
    bias = T5Bias(2)
    added = (Learned(4, 8) + Alibi() + bias).on_score(2)
    assert [id(one) for one in added.parameters()] == [id(bias.table)]
    assert (Rotary() + bias).on_score(2) is bias
    assert (Rotary() + Sinusoidal()).on_score(2) is None
    assert (Sinusoidal() + Alibi()).on_qk(torch.arange(2)[None], 4) is None


def test_two_rotations_do_not_add_up():
    with pytest.raises(SettingsError, match="only one may be rotary"):
        (Rotary() + Alibi() + Rotary(base=100.0)).on_qk(torch.arange(2)[None], 4)


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "none"},
        {"kind": "sinusoidal"},
        {"kind": "learned", "length": 7},
        {"kind": "rotary", "pairing": "halves", "schedule": {"kind": "yarn", "length": 512, "factor": 4.0}},
        {"kind": "rotary", "share": 0.5, "schedule": {"kind": "ntk", "factor": 3.0}},
        {"kind": "alibi"},
        {"kind": "t5_bias", "buckets": 8, "reach": 16, "bidirectional": False},
        {"kind": "sum", "of": [{"kind": "learned"}, {"kind": "sum", "of": [{"kind": "rotary"}, {"kind": "alibi"}]}]},
    ],
)
def test_settings_go_there_and_back_and_build(given):
    adapter = TypeAdapter(PositionPart)
    part = adapter.validate_python(given)
    assert adapter.validate_python(adapter.dump_python(part, mode="json")) == part
    inputs = torch.randn(1, 3, 8)
    assert part.build(width=8, heads=2).on_input(inputs, torch.arange(3)[None]).shape == inputs.shape


def test_parts_build_what_they_name():
    assert LearnedPart(length=7).build(8, 2).table.shape == (7, 8)
    assert TypeAdapter(PositionPart).validate_python({"kind": "t5_bias"}).build(8, 2).table.shape == (32, 2)
    summed = TypeAdapter(PositionPart).validate_python({"kind": "sum", "of": [{"kind": "rotary"}, {"kind": "alibi"}]})
    assert isinstance(summed.build(8, 2), Sum) and Rotary().build(8, 2) == Rotary()
