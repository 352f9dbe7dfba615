"""Convolutional layers and models against loops over the papers' formulas, and against torch's own convolution."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from regard.attention import record
from regard.errors import SettingsError
from regard.layers.convolution import (
    BLOCK,
    Convolution,
    DynamicPart,
    LightweightPart,
    after,
    banded,
    centred,
    weighted_windows,
)
from regard.models.convolutional import ConvolutionalDecoderPart, ConvolutionalEncoderPart
from regard.models.convolutional_blocks import GatedBlock, Shape, TemporalBlock
from regard.models.heads import TokenHead
from regard.models.model import ModelSettings, build_model
from regard.models.parts import Encoded, Widths
from regard.padded import Padded

HALF = math.sqrt(0.5)
MIXERS = [LightweightPart(kernel=4), DynamicPart(kernel=4)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def lively(module: nn.Module) -> nn.Module:
    """In fp64, and no parameter at a value that hides it."""
    for parameter in module.double().parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return module.eval()


def padded(lengths: list[int], width: int) -> Padded:
    return Padded(random(len(lengths), max(lengths), width), torch.tensor(lengths))


def steps_of(values: torch.Tensor) -> Padded:
    return Padded(values, torch.full((len(values),), values.shape[1]))


def linear(map_: Convolution, step: torch.Tensor) -> torch.Tensor:
    """One step through a map of kernel 1, W = g V / |V|."""
    rows = [length * row[0] / row[0].norm() for length, row in zip(map_.length, map_.direction, strict=True)]
    return torch.stack(rows) @ step + map_.bias


def window_by_hand(convolution: Convolution, steps: torch.Tensor, at: int) -> torch.Tensor:
    """The result of the window whose first step is at ``at``; steps beyond the ends are zero."""
    found = []
    for length, direction, bias in zip(convolution.length, convolution.direction, convolution.bias, strict=True):
        total = bias
        for tap in range(convolution.kernel):
            place = at + tap * convolution.dilation
            if 0 <= place < len(steps):
                total = total + (length * direction[tap] / direction.norm()) @ steps[place]
        found.append(total)
    return torch.stack(found)


def gated(double: torch.Tensor) -> torch.Tensor:
    value, gate = double.chunk(2)
    return value / (1 + torch.exp(-gate))


# --- convolutions


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (3, 2), (5, 3)])
@pytest.mark.parametrize("windows", [1, 6])
def test_convolution_is_that_of_torch(kernel, dilation, windows):
    ours = lively(Convolution(4, 6, kernel, dilation))
    theirs = weight_norm(nn.Conv1d(4, 6, kernel, dilation=dilation).double())
    weight = theirs.parametrizations.weight
    with torch.no_grad():
        weight.original0.copy_(ours.length[:, None, None])
        weight.original1.copy_(ours.direction.mT)
        theirs.bias.copy_(ours.bias)
    inputs = random(2, ours.reach + windows, 4).requires_grad_()
    found, expected = ours(inputs), theirs(inputs.mT).mT
    close(found, expected)
    towards = torch.randn_like(found)
    gradients = torch.autograd.grad(found, [inputs, ours.length, ours.direction, ours.bias], towards)
    others = torch.autograd.grad(expected, [inputs, weight.original0, weight.original1, theirs.bias], towards)
    for one, other in zip(gradients, (others[0], others[1].flatten(), others[2].mT, others[3]), strict=True):
        close(one, other)


def test_a_fresh_convolution_has_the_variance_it_is_told():
    convolution = Convolution(64, 512, 3, variance=4.0)
    assert convolution(torch.randn(4, 128, 64)).var().item() == pytest.approx(4.0, rel=0.05)
    torch.testing.assert_close(convolution.length, convolution.direction.flatten(1).norm(dim=1))


def test_after_keeps_the_last_real_steps_of_each_row():
    past, steps = random(3, 2, 4), random(3, 3, 4)
    steps[1, 1:] = math.nan
    joined, left = after(past, steps, torch.tensor([3, 1, 0]))
    close(joined[0], torch.cat([past[0], steps[0]]))
    for row, expected in enumerate([steps[0, 1:], torch.stack([past[1, 1], steps[1, 0]]), past[2]]):
        close(left[row], expected)


def test_centred_puts_the_odd_zero_in_front():
    assert centred(torch.ones(1, 2, 1), 3).flatten().tolist() == [0, 0, 1, 1, 0]


def test_banded_rows_hold_their_kernels():
    kernels = random(2, 3, 2)
    expected = torch.zeros(2, 3, 4, dtype=torch.float64)
    for row in range(3):
        expected[:, row, row : row + 2] = kernels[:, row]
    close(banded(kernels), expected)


@pytest.mark.parametrize("time", [1, 5, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_windows_are_weighted_step_by_step(time):
    steps, kernels = random(2, time + 2, 3, 4), random(2, time, 3, 3)
    expected = sum(kernels[..., tap, None] * steps[:, tap : tap + time] for tap in range(3))
    close(weighted_windows(steps, kernels), expected)


# --- lightweight and dynamic convolution


def mixed_by_hand(mixer, inputs: torch.Tensor, before: int) -> torch.Tensor:
    """Equations 1 and 2 of Wu et al. 2019 for one row; a window begins ``before`` steps before its own."""
    steps = [gated(mixer.input.weight @ step) for step in inputs]
    width, found = inputs.shape[1], []
    for place, step in enumerate(steps):
        weight = mixer.predict.weight @ step if hasattr(mixer, "predict") else mixer.weight.flatten()
        kernels = weight.view(mixer.heads, mixer.kernel).exp()
        mixed = []
        for feature in range(width):
            kernel = kernels[feature * mixer.heads // width]
            seen = [
                (tap, place + tap - before) for tap in range(mixer.kernel) if 0 <= place + tap - before < len(steps)
            ]
            mixed.append(sum(kernel[tap] * steps[at][feature] for tap, at in seen) / kernel.sum())
        found.append(mixer.output.weight @ torch.stack(mixed))
    return torch.stack(found)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("part", MIXERS, ids=lambda part: part.kind)
def test_mixers_follow_their_formula_whatever_the_padding(part, causal):
    mixer = lively(part.build(6, 2, 0.3, causal))
    inputs = padded([5, 3], 6)
    inputs.values[1, 3:] = math.nan
    found, _ = mixer(inputs.values, inputs.lengths)
    for row, length in enumerate([5, 3]):
        close(found[row, :length], mixed_by_hand(mixer, inputs.values[row, :length], 3 if causal else 2))


@pytest.mark.parametrize("part", MIXERS, ids=lambda part: part.kind)
def test_a_causal_mixer_goes_on_from_its_state(part):
    mixer = lively(part.build(6, 2, 0.0, causal=True))
    inputs = padded([7, 4, 2], 6)
    expected, last = mixer(inputs.values, inputs.lengths)
    state, places = mixer.start(3), [0, 0, 0]
    for counts in ([1, 4, 0], [0, 0, 0], [6, 0, 2]):
        chunk = torch.full((3, max(*counts, 1), 6), math.nan, dtype=torch.float64)
        for row, count in enumerate(counts):
            chunk[row, :count] = inputs.values[row, places[row] : places[row] + count]
        found, state = mixer(chunk, torch.tensor(counts), state)
        for row, count in enumerate(counts):
            close(found[row, :count], expected[row, places[row] : places[row] + count])
            places[row] += count
    close(state, last)


@pytest.mark.parametrize("part", MIXERS, ids=lambda part: part.kind)
def test_drop_connect_drops_elements_of_normalised_kernels(part):
    mixer = part.build(4, 2, 0.5, causal=False).double().train()
    seen = []
    mixer.drop_connect.register_forward_hook(lambda _, given, found: seen.append((given[0], found)))
    mixer(random(8, 9, 4), torch.full((8,), 9))
    [(kernels, dropped)] = seen
    close(kernels.sum(-1), torch.ones_like(kernels[..., 0]))
    assert ((dropped == 0) | (dropped == 2 * kernels)).all()
    assert bool((dropped == 0).any()) and bool((dropped != 0).any())


def test_mixers_say_when_heads_do_not_fit():
    with pytest.raises(SettingsError, match="width 6 does not split into 4 heads"):
        LightweightPart().build(6, 4, 0.0, causal=True)


# --- blocks


def test_a_gated_block_is_that_of_the_paper():
    block = lively(GatedBlock(Shape(4, 6, 3, 1), 0.3))
    inputs = random(5, 4)
    found = block(inputs[None], lambda convolution, steps: convolution(centred(steps, 2)))[0]
    for place in range(5):
        changed = gated(window_by_hand(block.convolution, inputs, place - 1))
        close(found[place], (changed + linear(block.residual, inputs[place])) * HALF)


@pytest.mark.parametrize(("block", "variance"), [(GatedBlock, 4 * 0.7), (TemporalBlock, 2.0)])
def test_fresh_blocks_have_the_variance_of_their_paper(block, variance):
    [convolution, *_] = block(Shape(64, 256, 3, 1), 0.3).convolutions
    assert convolution.direction.var().item() == pytest.approx(variance / (3 * 64), rel=0.05)


def test_a_temporal_block_is_that_of_the_paper():
    block = lively(TemporalBlock(Shape(4, 6, 3, 2), 0.3))
    inputs = random(7, 4)
    found = block(inputs[None], lambda convolution, steps: convolution(F.pad(steps, (0, 0, 4, 0))))[0]
    hidden = torch.stack([window_by_hand(block.first, inputs, place - 4).relu() for place in range(7)])
    for place in range(7):
        changed = window_by_hand(block.second, hidden, place - 4).relu()
        close(found[place], (changed + linear(block.residual, inputs[place])).relu())


# --- encoder and decoder


def encoder_by_hand(encoder, embedded: torch.Tensor) -> torch.Tensor:
    steps = torch.stack([linear(encoder.enter, one) for one in embedded + encoder.position.table[: len(embedded)]])
    for layer in encoder.layers:
        changed = [gated(window_by_hand(layer.convolution, steps, place - 1)) for place in range(len(steps))]
        steps = torch.stack([(new + old) * HALF for new, old in zip(changed, steps, strict=True)])
    return torch.stack([linear(encoder.leave, step) for step in steps])


def attention_by_hand(attention, found: torch.Tensor, target: torch.Tensor, states, embedded) -> torch.Tensor:
    """Section 3.3 for one target step: a_j = softmax_j(d . z_j), c = m sqrt(1 / m) sum_j a_j (z_j + e_j) sqrt(1/2)."""
    asked = linear(attention.query, found) + target
    shares = torch.stack([asked @ state for state in states]).exp()
    context = sum(share * (state + word) * HALF for share, state, word in zip(shares, states, embedded, strict=True))
    context = context / shares.sum() * len(states) * math.sqrt(1 / len(states))
    return (found + linear(attention.output, context)) * HALF


def decoder_by_hand(decoder, embedded: torch.Tensor, states: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    targets = embedded + decoder.position.table[: len(embedded)]
    steps = torch.stack([linear(decoder.enter, one) for one in targets])
    for layer in decoder.layers:
        rows = []
        for place, target in enumerate(targets):
            changed = gated(window_by_hand(layer.convolution, steps, place - 2))
            rows.append(
                (attention_by_hand(layer.cross_attention, changed, target, states, source) + steps[place]) * HALF
            )
        steps = torch.stack(rows)
    return torch.stack([linear(decoder.leave, step) for step in steps])


WIDTHS = Widths(embedded=6, model=6, output=5, memory=6)


def test_gated_models_are_those_of_the_paper():
    stages = ({"layers": 2, "kernel": 3, "width": 4},)
    learned, dots = {"kind": "learned"}, {"score": {"kind": "dot"}}
    encoder = lively(ConvolutionalEncoderPart(stages=stages, positions=learned).build(WIDTHS, 0.2))
    decoder = ConvolutionalDecoderPart(stages=stages, positions=learned, cross_attention=dots).build(WIDTHS, 0.2)
    decoder = lively(decoder)
    source, target = padded([5, 3], 6), padded([4, 4], 6)
    encoded = encoder(source)
    memory = decoder.remember(Encoded(source, source, encoded))
    with record(decoder) as maps:
        decoded, _ = decoder.advance(target, memory, decoder.start(memory, 2, 0))
    assert set(maps) == {"0/cross", "1/cross"}
    for row, length in enumerate([5, 3]):
        words = source.values[row, :length]
        states = encoder_by_hand(encoder, words)
        close(encoded.values[row, :length], states)
        close(decoded.features[row], decoder_by_hand(decoder, target.values[row], states, words))


def test_the_encoder_gets_the_mean_gradient_of_the_attentions():
    decoder = lively(ConvolutionalDecoderPart(layers=3).build(WIDTHS, 0.0))
    source, states = padded([4], 6), random(1, 4, 6).requires_grad_()
    memory = decoder.remember(Encoded(source, source, Padded(states, source.lengths)))
    towards = torch.randn_like(memory.values)
    [gradient] = torch.autograd.grad(memory.values, states, towards, retain_graph=True)
    close(gradient, towards[:, 0] * HALF * 2 / 3)  # the values are scaled by the root of 4 steps
    for keys in memory.keys:
        close(torch.autograd.grad(keys, states, towards, retain_graph=True)[0], towards[:, 0] / 3)
        assert keys[:, 0].equal(states)


def test_values_are_states_alone_where_the_encoder_took_steps_together():
    decoder = lively(ConvolutionalDecoderPart().build(WIDTHS, 0.0))
    states = padded([2], 6)
    memory = decoder.remember(Encoded(padded([4], 6), padded([4], 6), states))
    close(memory.values[:, 0], states.values * math.sqrt(2))


@pytest.mark.parametrize(("block", "reach"), [("gated", 3 * 2), ("temporal", 2 * 2 * (1 + 2 + 4))])
@pytest.mark.parametrize("side", [ConvolutionalEncoderPart, ConvolutionalDecoderPart])
def test_a_step_is_seen_exactly_as_far_as_the_layers_reach(block, reach, side):
    part = side(block=block, layers=3, kernel=3, positions={"kind": "none"})
    model = lively(part.build(Widths(6, 6, 6, 0), 0.0))
    inputs = random(1, 65, 6).requires_grad_()
    causal = side is ConvolutionalDecoderPart
    steps = steps_of(inputs)
    found = model.advance(steps, None, model.start(None, 1, 0))[0].features if causal else model(steps).values
    seen = torch.autograd.grad(found[0, 32].sum(), inputs)[0][0].abs().amax(-1).nonzero()[:, 0].tolist()
    assert (seen[0], seen[-1]) == ((32 - reach, 32) if causal else (32 - reach // 2, 32 + reach // 2))


def test_advancing_leaves_the_state_it_was_given():
    decoder = lively(ConvolutionalDecoderPart(block="temporal", layers=2).build(Widths(6, 6, 6, 0), 0.0))
    _, state = decoder.advance(padded([4, 3], 6), None, decoder.start(None, 2, 0))
    before = [past.clone() for past in state.past]
    _, moved = decoder.advance(padded([2, 2], 6), None, state)
    assert all(one.equal(other) for one, other in zip(before, state.past, strict=True))
    assert moved.lengths.tolist() == [6, 5]
    assert [past.shape for past in moved.past] == [(2, reach, 6) for reach in (2, 2, 4, 4)]


def test_the_large_model_is_as_large_as_in_the_paper():
    """216 million, by table 2 of Wu et al. 2019; 40,000 joint subwords, as Gehring et al. 2017 have for WMT14 En-De."""
    stages = [
        {"layers": 9, "kernel": 3, "width": 512},
        {"layers": 4, "kernel": 3, "width": 1024},
        {"layers": 2, "kernel": 1, "width": 2048},
    ]
    widths, large = Widths(embedded=768, model=768, output=512, memory=768), {"stages": stages}
    with torch.device("meta"):
        sides = [part(**large).build(widths, 0.1) for part in (ConvolutionalEncoderPart, ConvolutionalDecoderPart)]
    tokens = 40_000 * (768 + 768 + 512)
    count = tokens + sum(weight.numel() for side in sides for weight in side.parameters())
    assert count == pytest.approx(216e6, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"block": "temporal", "kernel": 1}, "kernel 1 would see no step but its own"),
        ({"block": "temporal", "layers": 17}, "reach back 131,072 steps and keep them all: at most 4,096"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        ConvolutionalEncoderPart(**settings).check(12)


def test_attention_begins_with_many_keys():
    """Words and positions of deviation 0.1 (Gehring et al. 2017, section 3.5) have small dot products."""
    settings = ModelSettings.model_validate({"kind": "convolutional", "width": 128})
    model = build_model(settings, 100, lambda output, widths: TokenHead(output)).eval()
    source, target = (Padded(torch.randint(4, 100, (8, 20)), torch.full((8,), 20)) for _ in range(2))
    with record(model) as maps:
        memory = model.encode(source)
        model.advance(target, memory, model.start(memory, 8))
    assert all(weights.amax(-1).mean() < 0.3 for weights in maps.values())
