"""Our Transformer against torch.nn's layers with the same weights, and against the sizes that its paper reports."""

import pytest
import torch
from torch import Tensor, nn

from regard.models.heads import TokenHead
from regard.models.model import ModelSettings, count_weights
from regard.models.parts import Encoded, Widths
from regard.models.transformer import (
    Layer,
    TransformerDecoder,
    TransformerDecoderPart,
    TransformerEncoder,
    TransformerEncoderPart,
)
from regard.padded import Padded

WIDTH, HEADS, HIDDEN, LAYERS = 16, 4, 24, 3
WIDTHS = Widths(WIDTH, WIDTH, WIDTH, WIDTH)
EXACT = {"rtol": 1e-10, "atol": 1e-10}

each_order = pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
each_activation = pytest.mark.parametrize("activation", ["relu", "gelu"])


pytestmark = pytest.mark.usefixtures("double_precision")


def sizes(activation: str, norm_first: bool) -> dict:
    """Settings of a side, whose positions are none."""
    return {
        "layers": LAYERS,
        "heads": HEADS,
        "feedforward": HIDDEN,
        "activation": activation,
        "norm_first": norm_first,
        "positions": {"kind": "none"},
    }


def theirs(kind: type, activation: str, norm_first: bool) -> dict:
    """Arguments of a stack of their layers."""
    layer = kind(WIDTH, HEADS, HIDDEN, 0.0, activation, batch_first=True, norm_first=norm_first)
    return {"num_layers": LAYERS, "norm": nn.LayerNorm(WIDTH) if norm_first else None, f"{side(kind)}_layer": layer}


def side(kind: type) -> str:
    return "encoder" if kind is nn.TransformerEncoderLayer else "decoder"


@torch.no_grad()
def randomised(stack: nn.Module) -> nn.Module:
    """Every weight and bias is drawn, so that none can be mistaken for another."""
    for weight in stack.parameters():
        weight.normal_(std=0.5)
    return stack.eval()


@torch.no_grad()
def copied(ours: nn.Module, stack: nn.Module) -> nn.Module:
    """Ours with their weights."""
    for mine, its in zip(ours.layers, stack.layers, strict=True):
        copy_layer(mine, its)
    if stack.norm is not None:
        ours.norm.load_state_dict(stack.norm.state_dict())
    return ours.eval()


def copy_layer(ours: Layer, its: nn.Module) -> None:
    copy_attention(ours.mixing.self_attention, its.self_attn)
    ours.around_mixing.norm.load_state_dict(its.norm1.state_dict())
    if ours.cross_attention:
        copy_attention(ours.cross_attention, its.multihead_attn)
        ours.around_cross.norm.load_state_dict(its.norm2.state_dict())
    last = its.norm3 if ours.cross_attention else its.norm2
    ours.around_feedforward.norm.load_state_dict(last.state_dict())
    ours.feedforward.expand.load_state_dict(its.linear1.state_dict())
    ours.feedforward.contract.load_state_dict(its.linear2.state_dict())


def copy_attention(ours: nn.Module, its: nn.MultiheadAttention) -> None:
    ours.projection.weight.copy_(its.in_proj_weight)
    ours.projection.bias.copy_(its.in_proj_bias)
    ours.output.load_state_dict(its.out_proj.state_dict())


def rows(lengths: list[int]) -> Padded:
    return Padded(torch.randn(len(lengths), max(lengths), WIDTH), torch.tensor(lengths))


@each_order
@each_activation
def test_encoder(activation, norm_first):
    stack = nn.TransformerEncoder(
        **theirs(nn.TransformerEncoderLayer, activation, norm_first), enable_nested_tensor=False
    )
    part = TransformerEncoderPart.model_validate(sizes(activation, norm_first))
    ours = copied(TransformerEncoder(part, WIDTHS, 0.0), randomised(stack))
    source = rows([7, 2, 5])
    expected = stack(source.values, src_key_padding_mask=~source.mask)
    found = ours(source)
    torch.testing.assert_close(found.values[source.mask], expected[source.mask], **EXACT)


@each_order
@each_activation
@pytest.mark.parametrize("chunk", [6, 1])
def test_decoder(activation, norm_first, chunk):
    stack = nn.TransformerDecoder(**theirs(nn.TransformerDecoderLayer, activation, norm_first))
    part = TransformerDecoderPart.model_validate(sizes(activation, norm_first))
    ours = copied(TransformerDecoder(part, WIDTHS, 0.0), randomised(stack))
    source, target = rows([4, 7, 1]), rows([6, 3, 5])
    causal = torch.ones(6, 6, dtype=torch.bool).triu(1)
    expected = stack(target.values, source.values, tgt_mask=causal, memory_key_padding_mask=~source.mask)
    found = advanced(ours, source, target, chunk)
    torch.testing.assert_close(found[target.mask], expected[target.mask], **EXACT)


def advanced(ours: TransformerDecoder, source: Padded, target: Padded, chunk: int) -> Tensor:
    """Features of all steps, so many at a time."""
    memory = ours.remember(Encoded(Padded(source.mask.long(), source.lengths), source, source))
    state, found = ours.start(memory, len(target.lengths), room=6), []
    for start in range(0, 6, chunk):
        lengths = (target.lengths - start).clamp(0, chunk)
        decoded, state = ours.advance(Padded(target.values[:, start : start + chunk], lengths), memory, state)
        found.append(decoded.features)
    return torch.cat(found, 1)


PAPER = {"base": (512, 8, 2048, 65e6), "big": (1024, 16, 4096, 213e6)}
"""Width, heads, feed-forward width and weights (Vaswani et al. 2017, arXiv 1706.03762, table 3)."""


@pytest.mark.parametrize("size", PAPER)
def test_as_many_weights_as_in_the_paper(size):
    width, heads, hidden, weights = PAPER[size]
    part = {"layers": 6, "heads": heads, "feedforward": hidden, "norm_first": False}
    settings = ModelSettings.model_validate({"width": width, "encoder": part, "decoder": part})
    found = count_weights(settings, 37_000, lambda output, widths: TokenHead(output))
    assert found == pytest.approx(weights, rel=0.05)
