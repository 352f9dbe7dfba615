"""Families of models by name: what both sides are unless said otherwise, as in the papers they come from.

========================  ============================================================================================
transformer               Vaswani et al. 2017 (1706.03762) with norms before each part (Xiong et al. 2020, 2002.04745)
transformer_2017          as published: the norm after each part
transformer_today         RMSNorm, SwiGLU, rotary positions, two heads of queries for one of keys (Ainslie et al. 2023,
                          2305.13245), queries and keys normalised (Henry et al. 2020, 2010.04245), no biases
hybrid                    the same, every other decoder layer with the gated delta rule (Yang et al. 2024, 2412.06464)
                          in place of self-attention
decoder_only              transformer_today without an encoder: the source is read before the target
                          (Liu et al. 2018, 1801.10198)
lightweight, dynamic      convolutions in place of self-attention (Wu et al. 2019, 1901.10430)
rnn                       a bidirectional GRU, and a GRU that attends before each step (Bahdanau et al. 2015, 1409.0473)
luong                     LSTMs; attention after each step, input feeding, general score (Luong et al. 2015, 1508.04025)
seq2seq                   LSTMs without attention (Sutskever et al. 2014, 1409.3215)
convolutional             ConvS2S (Gehring et al. 2017, 1705.03122)
tcn                       dilated convolutions (Bai et al. 2018, 1803.01271), with the attention of ConvS2S
========================  ============================================================================================
"""

from typing import Any, Literal

Family = Literal[
    "transformer",
    "transformer_2017",
    "transformer_today",
    "hybrid",
    "decoder_only",
    "lightweight",
    "dynamic",
    "rnn",
    "luong",
    "seq2seq",
    "convolutional",
    "tcn",
]

Parts = dict[str, dict[str, Any]]

_TODAY: dict[str, Any] = {
    "kind": "transformer",
    "activation": "swiglu",
    "positions": {"kind": "rotary"},
    "norm": {"kind": "rms"},
    "bias": False,
    "attention": {"score": {"kind": "cosine"}, "layout": {"kind": "grouped", "kv_heads": 2}},
}
_HYBRID = {"mixers": [{"kind": "gated_delta_rule"}, {"kind": "attention"}]}
_LSTM = {"kind": "rnn", "cell": "lstm"}
_DOT = {"score": {"kind": "dot"}}
_TCN = {"kind": "convolutional", "block": "temporal", "positions": {"kind": "none"}}


def _both(side: dict[str, Any]) -> Parts:
    return {"encoder": side, "decoder": side}


def _wider(kind: str) -> dict[str, Any]:
    """Convolutions whose kernels grow from layer to layer."""
    return {"kind": "transformer", "mixers": [{"kind": kind, "kernel": kernel} for kernel in (3, 7, 15, 31)]}


FAMILIES: dict[str, Parts] = {
    "transformer": _both({"kind": "transformer"}),
    "transformer_2017": _both({"kind": "transformer", "norm_first": False}),
    "transformer_today": _both(_TODAY),
    "hybrid": {"encoder": _TODAY, "decoder": _TODAY | _HYBRID},
    "decoder_only": {"encoder": {"kind": "none"}, "decoder": _TODAY},
    "lightweight": _both(_wider("lightweight")),
    "dynamic": _both(_wider("dynamic")),
    "rnn": _both({"kind": "rnn"}),
    "luong": {"encoder": _LSTM, "decoder": _LSTM | {"attend": "after", "attention": {"score": {"kind": "general"}}}},
    "seq2seq": {"encoder": _LSTM, "decoder": _LSTM | {"attention": None}},
    "convolutional": {
        "encoder": {"kind": "convolutional"},
        "decoder": {"kind": "convolutional", "cross_attention": _DOT},
        "embedding": {"scaled": False},
    },
    "tcn": {"encoder": _TCN, "decoder": _TCN | {"cross_attention": _DOT}, "embedding": {"scaled": False}},
}
"""Settings of the parts of each family."""
