"""Marian, BART and T5 as Hugging Face's transformers has them, beside our own names.

Marian: Junczys-Dowmunt et al. 2018, arXiv 1804.00344. BART: Lewis et al. 2019, 1910.13461. T5: Raffel et al. 2019,
1910.10683, and its version 1.1, with gates (Shazeer 2020, 2002.05202) and an output of its own.
"""

from regard.errors import InputError
from regard.export.architecture import AFTER_TWO, BY_ROOT_OF_WIDTH, ROW, Architecture, Config, both, one_of, under

BART_LAYER = {
    "mixing.self_attention.projection": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
    "mixing.self_attention.output": "self_attn.out_proj",
    "around_mixing.norm": "self_attn_layer_norm",
    "feedforward.expand": "fc1",
    "feedforward.contract": "fc2",
    "around_feedforward.norm": "final_layer_norm",
}
BART_CROSS = {
    "cross_attention.projection": "encoder_attn.q_proj encoder_attn.k_proj encoder_attn.v_proj",
    "cross_attention.output": "encoder_attn.out_proj",
    "around_cross.norm": "encoder_attn_layer_norm",
}
BART_KEYS = {
    "d_model": "width",
    "dropout": "dropout",
    "attention_dropout": both("attention_dropout"),
    "activation_function": both("activation"),
    "scale_embedding": "embedding.scaled",
    "encoder_layers": "encoder.layers",
    "encoder_attention_heads": "encoder.heads",
    "encoder_ffn_dim": "encoder.feedforward",
    "decoder_layers": "decoder.layers",
    "decoder_attention_heads": "decoder.heads",
    "decoder_ffn_dim": "decoder.feedforward",
}
BART_VALUES = {
    "activation_function": one_of(
        {
            "relu": "relu",
            "gelu": "gelu",
            "swish": "swish",
            "silu": "swish",
            "gelu_new": "gelu_tanh",
            "gelu_pytorch_tanh": "gelu_tanh",
        }
    )
}
SINUSOIDAL = {"norm_first": False, "positions": {"kind": "sinusoidal", "pairing": "halves"}}
LEARNED = {"norm_first": False, "norm_embedded": True, "positions": {"kind": "learned"}}


def _with_one_vocabulary(config: Config) -> Config:
    if config.get("decoder_vocab_size") not in (None, config.get("vocab_size")):
        raise InputError("decoder_vocab_size: both sides have one vocabulary in regard", where="config.json")
    return config


MARIAN = Architecture(
    kind="marian",
    model="MarianMTModel",
    settings={"encoder": SINUSOIDAL, "decoder": SINUSOIDAL},
    keys=BART_KEYS,
    written={"forced_eos_token_id": None},
    values=BART_VALUES,
    defaults={"dropout": 0.1, "attention_dropout": 0.0, "activation_function": "gelu", "scale_embedding": False},
    completed=_with_one_vocabulary,
    required={
        "normalize_before": False,
        "normalize_embedding": False,
        "add_final_layer_norm": False,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
    },
    weights={
        "embedding.weight": "model.shared.weight",
        "head.bias": "final_logits_bias",
        **under("encoder.layers.#.", "model.encoder.layers.#.", BART_LAYER),
        **under("decoder.layers.#.", "model.decoder.layers.#.", BART_LAYER | BART_CROSS),
    },
    changes={"head.bias": ROW},
    copies={
        "model.shared.weight": (
            "lm_head.weight",
            "model.encoder.embed_tokens.weight",
            "model.decoder.embed_tokens.weight",
        )
    },
    buffers=frozenset({"model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"}),
)

BART = Architecture(
    kind="bart",
    model="BartForConditionalGeneration",
    settings={"encoder": LEARNED, "decoder": LEARNED},
    keys={**BART_KEYS, "max_position_embeddings": both("positions.length")},
    written=MARIAN.written,
    values=BART_VALUES,
    defaults=MARIAN.defaults,
    required={
        "normalize_before": False,
        "normalize_embedding": True,
        "add_final_layer_norm": False,
        "static_position_embeddings": False,
        "tie_word_embeddings": True,
    },
    weights={
        **MARIAN.weights,
        "encoder.position.table": "model.encoder.embed_positions.weight",
        "decoder.position.table": "model.decoder.embed_positions.weight",
        "encoder.first_norm": "model.encoder.layernorm_embedding",
        "decoder.first_norm": "model.decoder.layernorm_embedding",
    },
    changes={"head.bias": ROW, "encoder.position.table": AFTER_TWO, "decoder.position.table": AFTER_TWO},
    copies=MARIAN.copies,
)

T5_ATTENTION = {"score": {"kind": "dot"}, "layout": {"kind": "grouped"}}
T5_SIDE = {"norm": {"kind": "rms"}, "bias": False, "attention": T5_ATTENTION}
T5_LAYER = {
    "mixing.self_attention.projection": "layer.0.SelfAttention.q layer.0.SelfAttention.k layer.0.SelfAttention.v",
    "mixing.self_attention.output": "layer.0.SelfAttention.o",
    "around_mixing.norm": "layer.0.layer_norm",
}
T5_CROSS = {
    "cross_attention.projection": "layer.1.EncDecAttention.q layer.1.EncDecAttention.k layer.1.EncDecAttention.v",
    "cross_attention.output": "layer.1.EncDecAttention.o",
    "around_cross.norm": "layer.1.layer_norm",
}
T5_ENCODER_FEEDFORWARD = {
    "feedforward.expand": "layer.1.DenseReluDense.wi",
    "feedforward.contract": "layer.1.DenseReluDense.wo",
    "around_feedforward.norm": "layer.1.layer_norm",
}
T5_DECODER_FEEDFORWARD = {ours: its.replace("layer.1", "layer.2") for ours, its in T5_ENCODER_FEEDFORWARD.items()}
T5_WEIGHTS = {
    "embedding.weight": "shared.weight",
    "encoder.norm": "encoder.final_layer_norm",
    "decoder.norm": "decoder.final_layer_norm",
    "encoder.position.table": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    "decoder.position.table": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    **under("encoder.layers.#.", "encoder.block.#.", T5_LAYER | T5_ENCODER_FEEDFORWARD),
    **under("decoder.layers.#.", "decoder.block.#.", T5_LAYER | T5_CROSS | T5_DECODER_FEEDFORWARD),
}
GATES = {
    f"{side}.layers.#.feedforward.expand": " ".join(
        f"{side}.block.#.layer.{number}.DenseReluDense.wi_{part}" for part in (0, 1)
    )
    for side, number in (("encoder", 1), ("decoder", 2))
}


def _with_both_sides(config: Config) -> Config:
    return config | {"num_decoder_layers": config.get("num_decoder_layers") or config.get("num_layers")}


T5 = Architecture(
    kind="t5",
    model="T5ForConditionalGeneration",
    settings={
        "encoder": {**T5_SIDE, "positions": {"kind": "t5_bias"}},
        "decoder": {
            **T5_SIDE,
            "positions": {"kind": "t5_bias", "bidirectional": False},
            "cross_attention": T5_ATTENTION,
        },
    },
    keys={
        "d_model": "width",
        "d_ff": both("feedforward"),
        "d_kv": f"{both('attention.layout.head_width')} decoder.cross_attention.layout.head_width",
        "num_heads": both("heads"),
        "num_layers": "encoder.layers",
        "num_decoder_layers": "decoder.layers",
        "relative_attention_num_buckets": both("positions.buckets"),
        "relative_attention_max_distance": both("positions.reach"),
        "dropout_rate": f"dropout {both('attention_dropout')}",
        "layer_norm_epsilon": both("norm.epsilon"),
        "feed_forward_proj": both("activation"),
    },
    values={"feed_forward_proj": one_of({"relu": "relu", "gelu": "gelu"})},
    defaults={
        "d_kv": 64,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "dropout_rate": 0.1,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "relu",
    },
    completed=_with_both_sides,
    weights=T5_WEIGHTS,
    changes={"embedding.weight": BY_ROOT_OF_WIDTH},
    copies={"shared.weight": ("lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")},
    buffers=frozenset({"decoder.block.#.layer.1.EncDecAttention.relative_attention_bias.weight"}),
)

T5_1_1 = Architecture(
    kind="t5",
    model=T5.model,
    settings={**T5.settings, "embedding": {"tied": "sides", "scaled": False}},
    keys=T5.keys,
    values={"feed_forward_proj": one_of({"gated-gelu": "geglu_tanh", "gated-silu": "swiglu", "gated-relu": "reglu"})},
    defaults=T5.defaults,
    completed=T5.completed,
    written={"tie_word_embeddings": False, "scale_decoder_outputs": False},
    weights={**T5_WEIGHTS, **GATES, "head.weight": "lm_head.weight"},
    copies={"shared.weight": ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")},
    buffers=T5.buffers,
)
