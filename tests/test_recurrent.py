"""Recurrent encoders and decoders against torch's own layers and against the papers' formulas, step by step."""

import pytest
import torch
from torch import nn

from regard.attention.settings import SteppingPart
from regard.layers.recurrence import CELLS, LayersAbove, Recurrence, VariationalDropout, after_last_step
from regard.models.heads import TokenHead
from regard.models.model import ModelSettings, build_model
from regard.models.parts import Encoded, Widths
from regard.models.recurrent import Readout, RecurrentDecoder, RecurrentDecoderPart
from regard.models.recurrent_encoder import RecurrentEncoder, RecurrentEncoderPart
from regard.padded import Padded

WIDTHS = Widths(embedded=3, model=4, output=5, memory=6)
LENGTHS = torch.tensor([5, 2, 0])
SCORED = SteppingPart.model_validate({"score": {"kind": "dot"}})
LOCATED = SteppingPart.model_validate({"score": {"kind": "location_sensitive", "kernel": 3}})
EXACT = {"rtol": 0, "atol": 1e-12}

cells = pytest.mark.parametrize("cell", CELLS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


def encoder(widths: Widths = WIDTHS, **settings) -> RecurrentEncoder:
    return scattered(RecurrentEncoderPart(**settings).build(widths, 0.0))


def decoder(widths: Widths = WIDTHS, dropout: float = 0.0, **settings) -> RecurrentDecoder:
    return scattered(RecurrentDecoderPart(**settings).build(widths, dropout))


def scattered(module: nn.Module) -> nn.Module:
    """In fp64, with biases that are not zero."""
    for weight in module.double().parameters():
        nn.init.normal_(weight, std=0.5)
    return module


def remembered(built: RecurrentDecoder, rows: int = 3, steps: int = 4) -> tuple[torch.Tensor, tuple]:
    """Encoder states of full length, and what the decoder remembers of them."""
    states = random(rows, steps, WIDTHS.memory)
    padded = Padded(states, torch.full((rows,), steps))
    return states, built.remember(Encoded(padded, padded, padded))


def features(built: RecurrentDecoder, inputs: torch.Tensor, memory: tuple | None) -> torch.Tensor:
    lengths = torch.full((len(inputs),), inputs.shape[1])
    return built.advance(Padded(inputs, lengths), memory, built.start(memory, len(inputs), 0))[0].features


def weights_of(layer: Recurrence) -> list[torch.Tensor]:
    """W, U and both biases."""
    return layer.network.all_weights[0]


def stepped(cell: str, layer: Recurrence, entering: torch.Tensor, state: tuple) -> tuple:
    """One step by the bare formulas, each gate for itself; what enters is W x already."""
    _, matrix, bias, own_bias = weights_of(layer)
    width, hidden = matrix.shape[1], state[0]
    one = [slice(gate * width, (gate + 1) * width) for gate in range(matrix.shape[0] // width)]
    x = [entering[:, gate] + bias[gate] for gate in one]
    h = [hidden @ matrix[gate].T + own_bias[gate] for gate in one]
    if cell == "rnn":
        return (torch.tanh(x[0] + h[0]),)
    if cell == "gru":
        r, z = torch.sigmoid(x[0] + h[0]), torch.sigmoid(x[1] + h[1])
        return ((1 - z) * torch.tanh(x[2] + r * h[2]) + z * hidden,)
    i, f, o = (torch.sigmoid(x[gate] + h[gate]) for gate in (0, 1, 3))
    c = f * state[1] + i * torch.tanh(x[2] + h[2])
    return o * torch.tanh(c), c


@cells
def test_a_step_is_that_of_torchs_cell(cell):
    layer = Recurrence(cell, 3, 4).double()
    theirs = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}[cell](3, 4).double()
    for own, other in zip(theirs.parameters(), weights_of(layer), strict=True):
        own.data = nn.init.normal_(other.data)
    inputs, state = random(2, 3), tuple(random(2, 4) for _ in range(layer.cell.states))
    expected = theirs(inputs, state if len(state) > 1 else state[0])
    found = layer.step(layer.entering(inputs), state)
    torch.testing.assert_close(found, expected if len(state) > 1 else (expected,), **EXACT)


@cells
def test_all_steps_at_once_are_one_step_after_another(cell):
    layer = scattered(Recurrence(cell, 3, 4))
    inputs, state = random(3, 5, 3), tuple(random(3, 4) for _ in range(layer.cell.states))
    values, final = layer(Padded(inputs, LENGTHS), state)
    history = [state]
    for entering in layer.entering(inputs).unbind(1):
        history.append(layer.step(entering, history[-1]))
    for row, length in enumerate(LENGTHS.tolist()):
        for step in range(length):
            torch.testing.assert_close(values[row, step], history[step + 1][0][row], **EXACT)
        for found, expected in zip(final, history[length], strict=True):
            torch.testing.assert_close(found[row], expected[row], **EXACT)


@cells
def test_weights_at_first(cell):
    layer, bound = Recurrence(cell, 24, 16, bidirectional=True), (6 / (24 + 16)) ** 0.5
    for name, weight in layer.network.named_parameters():
        if "weight_hh" in name:
            for gate in weight.split(16):
                torch.testing.assert_close(gate @ gate.T, torch.eye(16))
        elif "weight_ih" in name:
            largest = torch.stack([gate.abs().max() for gate in weight.split(16)])
            assert (largest.max() <= bound) and (largest.min() > 0.9 * bound)
        else:
            opened = cell == "lstm" and "bias_ih" in name
            assert weight.tolist() == ([0.0] * 16 + [1.0] * 16 + [0.0] * 32 if opened else [0.0] * len(weight))


@cells
@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_encoder_is_torchs_network(cell, bidirectional):
    ours = encoder(cell=cell, layers=3, bidirectional=bidirectional)
    theirs = CELLS[cell].fused(3, 2 if bidirectional else 4, 3, batch_first=True, bidirectional=bidirectional).double()
    layers = [ours.first, *ours.above.layers]
    for name, weight in theirs.named_parameters():
        kind, _, depth = name.partition("_l")
        weight.data = getattr(layers[int(depth[0])].network, f"{kind}_l0{depth[1:]}").data
    inputs = random(3, 5, 3)
    encoded = ours(Padded(inputs, LENGTHS))
    assert encoded.values.shape == (3, 5, 4)
    for row, length in enumerate(LENGTHS.tolist()[:2]):
        alone, _ = theirs(inputs[row : row + 1, :length])
        torch.testing.assert_close(encoded.values[row, :length], alone[0], **EXACT)


def test_residual_layers_add_what_they_are_given():
    ours = encoder(layers=3, residual=True)
    inputs = Padded(random(2, 4, 3), torch.tensor([4, 4]))
    values = ours.first(inputs)[0]
    for layer in ours.above.layers:
        values = values + layer(Padded(values, inputs.lengths))[0]
    torch.testing.assert_close(ours(inputs).values, values, **EXACT)
    plain = encoder(layers=3)
    plain.load_state_dict(ours.state_dict())
    assert not ours(inputs).values.allclose(plain(inputs).values)


@cells
@pytest.mark.parametrize("memory", [0, 6])
def test_a_decoder_without_attention_is_torchs_network(cell, memory):
    ours = decoder(WIDTHS._replace(memory=memory), cell=cell, layers=2, attention=None)
    theirs = CELLS[cell].fused(3, 4, 2, batch_first=True).double()
    for depth, layer in enumerate([ours.bottom, *ours.above.layers]):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(theirs, f"{name}_l{depth}").data = getattr(layer.network, f"{name}_l0").data
    inputs, zeros = random(3, 5, 3), torch.zeros(2, 3, 4, dtype=torch.float64)
    states, kept = remembered(ours) if memory else (None, None)
    first = torch.tanh(ours.first(states.mean(1))).view(3, 2, 4).transpose(0, 1).contiguous() if memory else zeros
    expected, _ = theirs(inputs, (first, zeros) if cell == "lstm" else first)
    torch.testing.assert_close(features(ours, inputs, kept), torch.tanh(ours.readout.projection(expected)), **EXACT)


def attended(built: RecurrentDecoder, state: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """c = sum_j a_j h_j for a = softmax(v . tanh(W s + U h_j)), key after key."""
    look = built.cross_attention
    scores = [torch.tanh(look.query(state) + look.key(h[:, j])) @ look.score.direction for j in range(h.shape[1])]
    return (torch.softmax(torch.stack(scores, 1), 1)[..., None] * h).sum(1)


@cells
@pytest.mark.parametrize("readout", ["tanh", "maxout"])
def test_attending_before_is_the_formula_of_bahdanau(cell, readout):
    ours = decoder(cell=cell, readout=readout)
    y, (h, memory) = random(3, 5, 3), remembered(ours)
    s = (torch.tanh(ours.first(h.mean(1))), torch.zeros(3, 4, dtype=torch.float64))
    expected = []
    for step in range(5):
        c = attended(ours, s[0], h)
        entering = y[:, step] @ weights_of(ours.bottom)[0].T + c @ ours.context.weight.T
        s = stepped(cell, ours.bottom, entering, s)
        t = ours.readout.projection(torch.cat([s[0], c, y[:, step]], -1))
        expected.append(torch.tanh(t) if readout == "tanh" else torch.stack([t[:, :5], t[:, 5:]]).amax(0))
    torch.testing.assert_close(features(ours, y, memory), torch.stack(expected, 1), **EXACT)


@cells
@pytest.mark.parametrize("input_feeding", [True, False])
def test_attending_after_is_the_formula_of_luong(cell, input_feeding):
    ours = decoder(cell=cell, attend="after", input_feeding=input_feeding)
    y, (h, memory) = random(3, 5, 3), remembered(ours)
    s = (torch.tanh(ours.first(h.mean(1))), torch.zeros(3, 4, dtype=torch.float64))
    expected, made = [], torch.zeros(3, 5, dtype=torch.float64)
    for step in range(5):
        fed = made @ ours.feed.weight.T if input_feeding else 0
        s = stepped(cell, ours.bottom, y[:, step] @ weights_of(ours.bottom)[0].T + fed, s)
        made = torch.tanh(ours.readout.projection(torch.cat([s[0], attended(ours, s[0], h)], -1)))
        expected.append(made)
    torch.testing.assert_close(features(ours, y, memory), torch.stack(expected, 1), **EXACT)


def test_layers_above_get_the_context_of_the_bottom():
    ours = decoder(layers=3, residual=True)
    y, (h, memory) = random(3, 5, 3), remembered(ours)
    states = [(state,) for state in torch.tanh(ours.first(h.mean(1))).split(4, -1)]
    layers, expected = [ours.bottom, *ours.above.layers], []
    for step in range(5):
        c = attended(ours, states[0][0], h)
        inputs, top = torch.cat([y[:, step], c], -1), 0
        for depth, layer in enumerate(layers):
            matrix = torch.cat([weights_of(layer)[0], ours.context.weight], 1) if not depth else weights_of(layer)[0]
            states[depth] = stepped("gru", layer, inputs @ matrix.T, states[depth])
            top = top + states[depth][0]
            inputs = torch.cat([top, c], -1)
        expected.append(torch.tanh(ours.readout.projection(torch.cat([top, c, y[:, step]], -1))))
    torch.testing.assert_close(features(ours, y, memory), torch.stack(expected, 1), **EXACT)


@pytest.mark.parametrize("attention", [SCORED, LOCATED, SteppingPart()])
def test_without_feeding_attending_at_once_is_step_by_step(attention):
    ours = decoder(WIDTHS._replace(memory=4), attend="after", input_feeding=False, attention=attention)
    h = Padded(random(3, 4, 4), torch.tensor([4, 1, 3]))
    memory = ours.remember(Encoded(h, h, h))
    y, state, found = random(3, 5, 3), ours.start(memory, 3, 0), []
    for step in y.split(1, 1):
        decoded, state = ours.advance(Padded(step, torch.ones(3, dtype=torch.long)), memory, state)
        found.append(decoded.features)
    torch.testing.assert_close(torch.cat(found, 1), features(ours, y, memory), **EXACT)


def test_a_variational_mask_is_one_for_all_steps_of_a_row():
    masks = VariationalDropout(0.5)(torch.ones(50, 7, 40))
    assert masks.eq(masks[:, :1]).all()
    assert set(masks.flatten().tolist()) == {0.0, 2.0}
    assert len(masks[:, 0].unique(dim=0)) == 50
    assert float(masks.mean()) == pytest.approx(1, abs=0.1)
    inputs = torch.ones(2, 3, 4)
    assert VariationalDropout(0.5).eval()(inputs) is inputs


@pytest.mark.parametrize("attend", ["before", "after"])
def test_variational_dropout_leaves_the_same_features_out_at_every_step(attend):
    ours = decoder(dropout=0.5, layers=2, variational=True, attend=attend)
    made = features(ours, random(3, 5, 3), remembered(ours)[1])
    assert made.eq(0).any()
    assert made.eq(0).equal(made.eq(0)[:, :1].expand_as(made))


def test_masks_between_layers_are_drawn_for_every_step():
    above = LayersAbove([Recurrence("gru", 40, 40)], VariationalDropout(0.5), residual=False)
    (mask,) = above.masks(torch.zeros(3, 5, 40))
    assert mask.eq(mask[:, :1]).all()
    assert not mask[0].equal(mask[1])


def test_dropout_is_a_function_of_the_seed():
    ours = encoder(layers=3)
    ours.dropout.drop = 0.5
    inputs, found = Padded(random(2, 4, 3), torch.tensor([4, 3])), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(ours(inputs).values)
    assert found[0].equal(found[1])
    assert not found[0].equal(found[2])


def test_maxout_takes_the_greater_of_two():
    readout = Readout("maxout", 2, 3).double()
    inputs = random(4, 2)
    pairs = [inputs @ half.T for half in readout.projection.weight.split(3)]
    shifts = readout.projection.bias.split(3)
    torch.testing.assert_close(readout(inputs), torch.maximum(pairs[0] + shifts[0], pairs[1] + shifts[1]))


def test_rows_end_where_they_ended():
    history = [{"state": (torch.full((3, 1), float(step)), None)} for step in range(6)]
    assert after_last_step(history, LENGTHS)["state"][0].tolist() == [[5.0], [2.0], [0.0]]


def test_without_an_encoder_nothing_is_attended_to():
    ours = decoder(WIDTHS._replace(memory=0))
    assert ours.cross_attention is None
    state = ours.start(None, 2, 0)
    assert [leaf.abs().max() for leaf in state.cells[0]] == [0]
    assert "cross_attention" not in {path.split(".")[0] for path, _ in ours.named_parameters()}


def test_rnnsearch_has_the_paper_s_number_of_weights():
    words, m, n, l, align = 30_000, 620, 1000, 500, 1000  # noqa: E741 (the paper's names, appendix A)
    encoded = 2 * (3 * n * m + 3 * n * n)
    decoded = 3 * n * m + 3 * n * n + 3 * n * 2 * n + n * n  # W, U, C and W_s, which sees one direction
    aligned = align * n + align * 2 * n + align
    read = 2 * l * n + 2 * l * m + 2 * l * 2 * n
    paper = 2 * words * m + encoded + decoded + aligned + read + words * l
    settings = ModelSettings.model_validate(
        {
            "kind": "rnn",
            "width": 2 * n,
            "embedding": {"width": m, "output": l, "tied": "none"},
            "decoder": {"width": n, "readout": "maxout"},
        }
    )
    with torch.device("meta"):
        model = build_model(settings, words, lambda output, widths: TokenHead(output))
    ours = sum(weight.numel() for weight in model.parameters())
    assert paper == 80_401_000
    biases = 2 * 6 * n + 6 * n + n + n + 2 * l  # of both directions, the decoder's gates, first state, keys and readout
    assert ours == paper + n * n + biases  # the first state sees both directions


@cells
@pytest.mark.parametrize("how", [{}, {"attend": "after"}, {"attend": "after", "input_feeding": False}])
def test_arrangements_run_under_autocast(cell, how):
    ours, y = decoder(cell=cell, layers=2, **how).float(), random(3, 5, 3).float()
    states = Padded(random(3, 4, 6).float(), torch.tensor([4, 4, 4]))
    exact = features(ours, y, ours.remember(Encoded(states, states, states)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halves = Padded(states.values.bfloat16(), states.lengths)
        found = features(ours, y.bfloat16(), ours.remember(Encoded(halves, halves, halves)))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, rtol=0, atol=0.05)


def test_a_decoder_says_what_it_is():
    assert RecurrentDecoderPart().describe() == "GRU with additive attention"
    assert RecurrentDecoderPart(cell="lstm", layers=2, attention=None).describe() == "2-layer LSTM with no attention"
    assert RecurrentEncoderPart(cell="rnn", bidirectional=False).describe() == "1-layer RNN"
    RecurrentEncoderPart(bidirectional=False).check(5)
    with pytest.raises(ValueError, match="must be even"):
        RecurrentEncoderPart().check(5)
