"""GPT-2 and Llama as Hugging Face's transformers has them, beside our own names.

GPT-2: Radford et al. 2019. Llama: Touvron et al. 2023, arXiv 2302.13971.
"""

from regard.export.architecture import TRANSPOSED, Architecture, Config, Value, one_of, under

GPT2_LAYER = {
    "mixing.self_attention.projection": "attn.c_attn",
    "mixing.self_attention.output": "attn.c_proj",
    "around_mixing.norm": "ln_1",
    "feedforward.expand": "mlp.c_fc",
    "feedforward.contract": "mlp.c_proj",
    "around_feedforward.norm": "ln_2",
}


def _with_feedforward(config: Config) -> Config:
    return config | {"n_inner": config.get("n_inner") or 4 * config.get("n_embd", 0)}


GPT2 = Architecture(
    kind="gpt2",
    model="GPT2LMHeadModel",
    settings={
        "embedding": {"scaled": False},
        "encoder": {"kind": "none"},
        "decoder": {"norm": {"kind": "layer"}, "positions": {"kind": "learned"}},
    },
    keys={
        "n_embd": "width",
        "n_layer": "decoder.layers",
        "n_head": "decoder.heads",
        "n_inner": "decoder.feedforward",
        "n_positions": "decoder.positions.length",
        "activation_function": "decoder.activation",
        "layer_norm_epsilon": "decoder.norm.epsilon",
        "resid_pdrop": "dropout",
        "attn_pdrop": "decoder.attention_dropout",
    },
    values={"activation_function": one_of({"gelu_new": "gelu_tanh", "gelu": "gelu", "relu": "relu", "silu": "swish"})},
    defaults={
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": 0.1,
        "attn_pdrop": 0.1,
    },
    completed=_with_feedforward,
    required={
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
    },
    weights={
        "embedding.weight": "transformer.wte.weight",
        "decoder.position.table": "transformer.wpe.weight",
        "decoder.norm": "transformer.ln_f",
        **under("decoder.layers.#.", "transformer.h.#.", GPT2_LAYER),
    },
    changes={f"decoder.layers.#.{module}.weight": TRANSPOSED for module in GPT2_LAYER if "norm" not in module},
    copies={"transformer.wte.weight": ("lm_head.weight",)},
    buffers=frozenset({"transformer.h.#.attn.bias", "transformer.h.#.attn.masked_bias"}),
    prefix="transformer.",
)

ROTARY_SCHEDULES: dict[str, tuple[str, dict[str, str]]] = {
    "default": ("plain", {}),
    "linear": ("interpolated", {"factor": "factor"}),
    "yarn": (
        "yarn",
        {"factor": "factor", "original_max_position_embeddings": "length", "beta_fast": "fast", "beta_slow": "slow"},
    ),
}
"""Their ``rope_type`` and its keys, with our schedule and its settings."""


def _schedule(scaling: Config | None) -> Config:
    said = {key: value for key, value in (scaling or {"rope_type": "default"}).items() if value is not None}
    older = said.pop("type", None)
    kind, keys = ROTARY_SCHEDULES[said.pop("rope_type", older)]
    return {"kind": kind} | {keys[key]: value for key, value in said.items()}


def _scaling(schedule: Config) -> Config | None:
    theirs, keys = {kind: (name, keys) for name, (kind, keys) in ROTARY_SCHEDULES.items()}[schedule["kind"]]
    return {"rope_type": theirs} | {key: schedule[ours] for key, ours in keys.items()} if keys else None


def _with_older_keys(config: Config) -> Config:
    """Rotary positions as they were written before ``rope_parameters``, which newer versions read too."""
    scaling = dict(config.get("rope_parameters") or {})
    base = {"rope_theta": scaling.pop("rope_theta")} if "rope_theta" in scaling else {}
    return config | base | ({"rope_scaling": scaling} if scaling else {})


LLAMA_LAYER = {
    "mixing.self_attention.projection": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
    "mixing.self_attention.output": "self_attn.o_proj",
    "around_mixing.norm": "input_layernorm",
    "feedforward.expand": "mlp.gate_proj mlp.up_proj",
    "feedforward.contract": "mlp.down_proj",
    "around_feedforward.norm": "post_attention_layernorm",
}

LLAMA = Architecture(
    kind="llama",
    model="LlamaForCausalLM",
    settings={
        "dropout": 0.0,
        "embedding": {"scaled": False},
        "encoder": {"kind": "none"},
        "decoder": {
            "norm": {"kind": "rms"},
            "positions": {"kind": "rotary", "pairing": "halves"},
            "attention": {"layout": {"kind": "grouped"}},
        },
    },
    keys={
        "hidden_size": "width",
        "intermediate_size": "decoder.feedforward",
        "num_hidden_layers": "decoder.layers",
        "num_attention_heads": "decoder.heads",
        "num_key_value_heads": "decoder.attention.layout.kv_heads",
        "head_dim": "decoder.attention.layout.head_width",
        "hidden_act": "decoder.activation",
        "rms_norm_eps": "decoder.norm.epsilon",
        "rope_theta": "decoder.positions.base",
        "rope_scaling": "decoder.positions.schedule",
        "attention_bias": "decoder.bias",
        "mlp_bias": "decoder.bias",
        "attention_dropout": "decoder.attention_dropout",
        "tie_word_embeddings": "embedding.tied",
    },
    values={
        "hidden_act": one_of({"silu": "swiglu", "swish": "swiglu", "relu": "reglu", "gelu": "geglu"}),
        "tie_word_embeddings": one_of({True: "all", False: "sides"}),
        "rope_scaling": Value(_schedule, _scaling),
    },
    defaults={
        "num_key_value_heads": None,
        "head_dim": None,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e4,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    completed=_with_older_keys,
    weights={
        "embedding.weight": "model.embed_tokens.weight",
        "head.weight": "lm_head.weight",
        "decoder.norm": "model.norm",
        **under("decoder.layers.#.", "model.layers.#.", LLAMA_LAYER),
    },
    copies={"model.embed_tokens.weight": ("lm_head.weight",)},
    buffers=frozenset({"model.layers.#.self_attn.rotary_emb.inv_freq"}),
)
