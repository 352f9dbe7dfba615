"""Families of models by name: what both sides are unless said otherwise, as in the papers they come from but in size.

====================  ================================================================================================
transformer           Vaswani et al. 2017 (1706.03762), norms before each part (Xiong et al. 2020, 2002.04745)
transformer_2017      as published: norms after each part
transformer_today     RMSNorm, SwiGLU, rotary positions, no biases; in self-attention two heads of keys for all of
                      queries (Ainslie et al. 2023, 2305.13245), both normalised (Henry et al. 2020, 2010.04245)
hybrid                the same, every other decoder layer with the gated delta rule (Yang et al. 2024, 2412.06464)
                      in place of self-attention
decoder_only          transformer_today without an encoder: the source is read first (Liu et al. 2018, 1801.10198)
lightweight, dynamic  convolutions in place of self-attention (Wu et al. 2019, 1901.10430)
rnn                   a bidirectional GRU, and a GRU that attends before each step (Bahdanau et al. 2015, 1409.0473)
luong                 LSTMs; general attention after each step, fed to the next (Luong et al. 2015, 1508.04025)
seq2seq               LSTMs without attention (Sutskever et al. 2014, 1409.3215); in both the encoder reads in two
                      directions, and the decoder begins with a projection of the mean of what it read
convolutional         ConvS2S (Gehring et al. 2017, 1705.03122)
tcn                   dilated convolutions (Bai et al. 2018, 1803.01271), with the attention of ConvS2S
linear                forecasts by one linear layer for all variables (Zeng et al. 2023, 2205.13504)
patch                 PatchTST: a Transformer over patches of each variable (Nie et al. 2023, 2211.14730)
inverted              iTransformer: a Transformer over variables (Liu et al. 2024, 2310.06625)
====================  ================================================================================================

First weights and scalings, and the papers' own where they differ:

==================  ===========================================  =====================================================
embeddings          N(0, 1/width), times sqrt(width) on the way  ConvS2S: not multiplied, as here in its family
                    in (1706.03762, section 3.4)                 (theirs N(0, 0.1))
attention           Xavier uniform with gain sqrt(1/2), keys     not said; torch: queries, keys and values as one
                    and values as one matrix; biases 0           matrix, the output uniform to 1/sqrt(inputs)
feed-forward        Xavier uniform, biases 0                     the same
residuals           as they are; in ConvS2S times sqrt(1/2)      the same
recurrent matrices  orthogonal, gate by gate; biases 0, the      Bahdanau: orthogonal too; Sutskever uniform to 0.08,
                    forget gate's 1 (Jozefowicz et al. 2015)     Luong to 0.1, forget gates not mentioned
their inputs        Xavier uniform, gate by gate                 Bahdanau: N(0, 0.01^2)
their attention     U(-1/sqrt(n), 1/sqrt(n)) with n inputs, as   Bahdanau: alignment N(0, 0.001^2), its last vector 0;
                    all of torch's linear layers; likewise the   Luong: U(-0.1, 0.1)
                    readout, the first state, the copy head
pooling             queries Xavier uniform                       Lin et al. 2017, Yang et al. 2016: not said
gated convolutions  N(0, 4 (1 - dropout) / inputs), weights      the same (section 3.5)
                    normalised (Salimans and Kingma 2016)
their positions     sinusoidal, of deviation 0.1, so that words  learned, N(0, 0.1^2)
                    are not drowned: no text is too long
their attention     found times steps * sqrt(1/steps); gradient  the same
                    of the encoder divided by the attentions
TCN                 N(0, 2 / inputs) (He et al. 2015)            N(0, 0.01^2)
kernels of mixers   Xavier uniform before their softmax          the same
gated delta rule    decays of Mamba-2 (2405.21060), the rest     the same
                    as attention; no short convolutions
==================  ===========================================  =====================================================
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
    "linear",
    "patch",
    "inverted",
]

Parts = dict[str, Any]

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
_CONVS2S = {"kind": "convolutional", "positions": {"kind": "sinusoidal", "scale": 0.14}}
_TCN = {"kind": "convolutional", "block": "temporal", "positions": {"kind": "none"}}


def _both(side: dict[str, Any]) -> Parts:
    return {"encoder": side, "decoder": side}


def _forecasting(kind: str, width: int, dropout: float) -> Parts:
    """Read off a state of each variable; small, for series are soon learnt by heart."""
    return {"width": width, "dropout": dropout, "encoder": {"kind": kind}, "decoder": {"kind": "flatten"}}


def _wider(kind: str) -> dict[str, Any]:
    """Convolutions whose kernels grow over the first layers; the paper has seven of them, or six."""
    return {"kind": "transformer", "mixers": [{"kind": kind, "kernel": kernel} for kernel in (3, 7, 15, 31, 31, 31)]}


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
        "encoder": _CONVS2S,
        "decoder": _CONVS2S | {"cross_attention": _DOT},
        "embedding": {"scaled": False},
    },
    "tcn": {"encoder": _TCN, "decoder": _TCN | {"cross_attention": _DOT}, "embedding": {"scaled": False}},
    "linear": _forecasting("linear", 16, 0.3),
    "patch": _forecasting("patch", 16, 0.3),
    "inverted": _forecasting("inverted", 64, 0.1),
}
"""Settings of the parts of each family, and sizes where it has its own."""
