"""`attend` against implementations nobody here wrote: PyTorch's own, and modules of the transformers package."""

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from regard.attention import (
    Causal,
    Dot,
    Full,
    Global,
    Lengths,
    OffByOne,
    ScaledDot,
    Sink,
    Softcap,
    Softmax,
    Table,
    Where,
    Window,
    attend,
    rotate,
)
from regard.attention.kernels import KERNELS
from regard.attention.norms import Norm
from regard.attention.positions import Alibi, Rotary, T5Bias

EXACT = {"rtol": 1e-9, "atol": 1e-9}
SINGLE = {"rtol": 1e-5, "atol": 1e-6}
"""For modules that normalise or turn in single precision whatever they are given."""

each_kernel = pytest.mark.parametrize("kernel", [name for name in KERNELS if name not in ("flex", "varlen")])


pytestmark = pytest.mark.usefixtures("double_precision")


def split(projected: Tensor, heads: int) -> Tensor:
    """(rows, time, heads * width) as (rows, heads, time, width)."""
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)


def joined(out: Tensor) -> Tensor:
    return out.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("zero", [False, True], ids=["softmax", "zero key"])
@pytest.mark.parametrize("masked", ["", "padding", "table"])
def test_multihead_attention(zero, masked):
    theirs = nn.MultiheadAttention(8, 2, batch_first=True, add_zero_attn=zero)
    nn.init.normal_(theirs.in_proj_bias)
    inputs, memory, table = torch.randn(3, 5, 8), torch.randn(3, 7, 8), torch.rand(5, 7) < 0.6
    table[:, 0] = True
    lengths = torch.tensor([7, 1, 4])
    expected, weights = theirs(
        inputs,
        memory,
        memory,
        key_padding_mask=torch.arange(7) >= lengths[:, None] if masked == "padding" else None,
        attn_mask=~table if masked == "table" else None,
        average_attn_weights=False,
    )
    parts = zip(theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3), (inputs, memory, memory), strict=True)
    where = {"": Full(), "padding": Lengths(lengths), "table": Table(table[None, None])}[masked]
    found = attend(
        *(split(F.linear(given, weight, bias), 2) for weight, bias, given in parts),
        where=where,
        norm=OffByOne() if zero else Softmax(),
        at=torch.arange(5),
    )
    torch.testing.assert_close(theirs.out_proj(joined(found.out)), expected, **EXACT)
    torch.testing.assert_close(found.weights.dense(), weights[..., :7], **EXACT)


@each_kernel
@pytest.mark.parametrize("masked", ["", "causal", "table", "bias"])
def test_scaled_dot_product_attention(kernel, masked):
    given = [torch.randn(2, heads, 6, 4, requires_grad=True) for heads in (4, 2, 2)]
    table, bias = torch.rand(2, 4, 6, 6) < 0.6, torch.randn(1, 4, 6, 6)
    table[..., 0] = True
    with sdpa_kernel(SDPBackend.MATH):
        expected = F.scaled_dot_product_attention(
            *given,
            attn_mask={"table": table, "bias": bias}.get(masked),
            is_causal=masked == "causal",
            enable_gqa=True,
        )
    where = {"causal": Causal(), "table": Table(table)}.get(masked, Full())
    found = attend(*given, where=where, bias=bias if masked == "bias" else None, kernel=kernel).out
    torch.testing.assert_close(found, expected, **EXACT)
    slopes = [torch.autograd.grad(out.sin().sum(), given) for out in (found, expected)]
    torch.testing.assert_close(*slopes, **EXACT)


# --- transformers


def decoder_attention(name: str, **settings) -> tuple[nn.Module, nn.Module]:
    """An attention with four query heads for two of keys, random weights, and what tells it the positions."""
    pytest.importorskip("transformers")
    module = pytest.importorskip(f"transformers.models.{name.lower()}.modeling_{name.lower()}")
    family = {"llama": "Llama", "mistral": "Mistral", "gemma2": "Gemma2", "gpt_oss": "GptOss"}[name]
    sizes = {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4}
    config = getattr(module, f"{family}Config")(**sizes, num_hidden_layers=2, attn_implementation="eager", **settings)
    theirs = getattr(module, f"{family}Attention")(config, layer_idx=0)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    return theirs.eval(), getattr(module, f"{family}RotaryEmbedding")(config)


def additive(keep: Tensor) -> Tensor:
    return torch.zeros(keep.shape).masked_fill(~keep, torch.finfo(torch.float64).min)


def compare(theirs: nn.Module, embedding: nn.Module, window: int | None, where: Where, norm: Norm) -> None:
    """Their output and weights with their mask for causal windows, and ours."""
    inputs, at = torch.randn(2, 7, 16), torch.arange(7)[None]
    masks = pytest.importorskip("transformers.masking_utils")
    theirs_keep = masks.sliding_window_causal_mask_function(window) if window else masks.causal_mask_function
    keep = theirs_keep(0, 0, at.mT, at)
    expected, weights = theirs(inputs, embedding(inputs, at), additive(keep[None, None]))
    turn = Rotary(pairing="halves", base=embedding.config.rope_parameters["rope_theta"]).on_qk(at, 4)
    projected = theirs.q_proj(inputs), theirs.k_proj(inputs), theirs.v_proj(inputs)
    queries, keys, values = (split(one, heads) for one, heads in zip(projected, (4, 2, 2), strict=True))
    found = attend(rotate(queries, turn), rotate(keys, turn), values, where=where, norm=norm)
    torch.testing.assert_close(theirs.o_proj(joined(found.out)), expected, **SINGLE)
    torch.testing.assert_close(found.weights.dense(), weights, **SINGLE)


def test_llama():
    compare(*decoder_attention("llama"), None, Causal(), Softmax())


def test_mistral():
    compare(*decoder_attention("mistral", sliding_window=3), 3, Window(back=2), Softmax())


def test_gemma2():
    settings = {"attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 4, "sliding_window": 4}
    compare(*decoder_attention("gemma2", **settings), 4, Window(back=3), Softcap(cap=2.0))


def test_gpt_oss():
    theirs, embedding = decoder_attention("gpt_oss", rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    sink = Sink(4)
    sink.sink.data = theirs.sinks.data[:, None]
    compare(theirs, embedding, None, Causal(), sink)


@pytest.mark.parametrize("decoder", [False, True], ids=["encoder", "decoder"])
def test_t5(decoder):
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    sizes = {"d_model": 16, "d_kv": 4, "num_heads": 4, "relative_attention_num_buckets": 8}
    config = t5.T5Config(**sizes, relative_attention_max_distance=12, attn_implementation="eager", is_decoder=decoder)
    theirs = t5.T5Attention(config, has_relative_attention_bias=True, layer_idx=0).eval()
    inputs, keep = torch.randn(2, 20, 16), torch.ones(1, 1, 20, 20, dtype=torch.bool).tril()
    expected, _, weights = theirs(inputs, mask=additive(keep) if decoder else None)
    bias = T5Bias(4, buckets=8, reach=12, bidirectional=not decoder)
    bias.table.data = theirs.relative_attention_bias.weight.data
    projected = (split(one(inputs), 4) for one in (theirs.q, theirs.k, theirs.v))
    found = attend(*projected, score=Dot(), where=Causal() if decoder else Full(), bias=bias)
    torch.testing.assert_close(theirs.o(joined(found.out)), expected, **EXACT)
    torch.testing.assert_close(found.weights.dense(), weights, **EXACT)


def test_bloom():
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    heads = 6  # no power of two
    theirs = bloom.BloomAttention(bloom.BloomConfig(hidden_size=24, n_head=heads), layer_idx=0).eval()
    inputs, residual = torch.randn(2, 9, 24), torch.randn(2, 9, 24)
    alibi = bloom.build_alibi_tensor(torch.ones(2, 9, dtype=torch.long), heads, torch.float64)
    mask = additive(torch.ones(1, 1, 9, 9, dtype=torch.bool).tril())
    expected, weights = theirs(inputs, residual, alibi, mask)
    parts = theirs.query_key_value(inputs).unflatten(-1, (heads, 3, 4)).transpose(1, 2).unbind(3)
    found = attend(*parts, where=Causal(), bias=Alibi().on_score(heads))
    torch.testing.assert_close(theirs.dense(joined(found.out)) + residual, expected, **SINGLE)
    torch.testing.assert_close(found.weights.dense(), weights, **SINGLE)


def test_longformer():
    """Theirs counts both sides of a window together, and has projections apart for global tokens: here the same."""
    longformer = pytest.importorskip("transformers.models.longformer.modeling_longformer")
    config = longformer.LongformerConfig(
        hidden_size=8,
        num_attention_heads=2,
        num_hidden_layers=1,
        attention_window=[4],
        attention_probs_dropout_prob=0.0,
    )
    theirs = longformer.LongformerSelfAttention(config, layer_id=0).eval()
    for kind in ("query", "key", "value"):
        getattr(theirs, f"{kind}_global").load_state_dict(getattr(theirs, kind).state_dict())
    inputs, lengths, places = torch.randn(2, 16, 8), torch.tensor([16, 11]), torch.arange(16)
    padded, everywhere = places >= lengths[:, None], (places < 2).expand(2, -1)
    expected, *_ = theirs(
        inputs,
        attention_mask=everywhere * 1e4 - padded * 1e4,
        is_index_masked=padded,
        is_index_global_attn=everywhere,
        is_global_attn=True,
    )
    projected = (split(one(inputs), 2) for one in (theirs.query, theirs.key, theirs.value))
    where = (Window(back=2, ahead=2) | Global(count=2)) & Lengths(lengths)
    found = joined(attend(*projected, score=ScaledDot(), where=where).out)
    torch.testing.assert_close(found[~padded], expected[~padded], **SINGLE)


def test_big_bird():
    """Blocks of two: each sees its neighbours, the first, the last and one drawn by theirs, which draws in training."""
    big_bird = pytest.importorskip("transformers.models.big_bird.modeling_big_bird")
    blocks, length = torch.arange(11), 22
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "block_size": 2, "num_random_blocks": 1}
    theirs = big_bird.BigBirdBlockSparseAttention(big_bird.BigBirdConfig(**sizes), seed=3)
    inputs, everything = torch.randn(2, length, 8), torch.ones(2, length)
    blocked, band, rows, columns = big_bird.BigBirdModel.create_masks_for_block_sparse_attn(everything, 2)
    expected, _ = theirs(inputs, band, rows, columns, blocked, blocked)
    numpy.random.seed(3)
    drawn = theirs._bigbird_block_rand_mask_with_head(
        length, length, 2, 2, 2, *theirs._get_rand_attn_plan(length, 2, 1)
    )
    keep = ((blocks[:, None] - blocks).abs() <= 1).repeat(2, 1, 1)
    keep[:, [0, -1]] = keep[:, :, [0, -1]] = True
    for head, chosen in enumerate(drawn):
        keep[head, blocks[1:-1, None], torch.as_tensor(chosen)] = True
    projected = (split(one(inputs), 2) for one in (theirs.query, theirs.key, theirs.value))
    where = Table(keep.repeat_interleave(2, 1).repeat_interleave(2, 2)[None])
    torch.testing.assert_close(joined(attend(*projected, where=where).out), expected, **SINGLE)
