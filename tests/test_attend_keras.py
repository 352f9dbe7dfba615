"""`attend` against the attention layers of Keras, with their random weights, on its PyTorch backend."""

import os

import pytest
import torch
from torch import Tensor

from regard.attention import Additive, Causal, Concat, Dot, Full, Lengths, Window, attend

os.environ["KERAS_BACKEND"] = "torch"  # is read at the import
keras = pytest.importorskip("keras")

SINGLE = {"rtol": 1e-5, "atol": 1e-6}
"""It multiplies in single precision whatever it is given."""


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)
    keras.utils.set_random_seed(1)


LENGTHS = torch.tensor([6, 2])
SEEN = torch.arange(6) < LENGTHS[:, None]


def inputs() -> list[Tensor]:
    return [torch.randn(2, 5, 4), torch.randn(2, 6, 3), torch.randn(2, 6, 4)]


def compare(layer, given: list[Tensor], score: object, scale: Tensor | float = 1.0, causal: bool = False) -> None:
    """Output and weights for queries, values and keys of one head; queries and keys times ``scale`` for ours."""
    out, weights = layer(given, mask=[None, SEEN], return_attention_scores=True, use_causal_mask=causal)
    queries, values, keys = (one[:, None] for one in given)
    found = attend(
        queries * scale,
        keys * scale,
        values,
        score=score,
        where=Lengths(LENGTHS) & (Causal() if causal else Full()),
        at=torch.arange(5),
    )
    torch.testing.assert_close(found.out[:, 0], out, **SINGLE)
    torch.testing.assert_close(found.weights.dense()[:, 0], weights, **SINGLE)


@pytest.mark.parametrize("causal", [False, True], ids=["", "causal"])
def test_additive_attention(causal):
    given, score = inputs(), Additive(4)
    layer = keras.layers.AdditiveAttention()
    layer.build([one.shape for one in given])
    score.direction.data = layer.scale.value.detach()
    compare(layer, given, score, causal=causal)


@pytest.mark.parametrize("causal", [False, True], ids=["", "causal"])
def test_attention(causal):
    given = inputs()
    layer = keras.layers.Attention(use_scale=True)
    layer.build([one.shape for one in given])
    layer.scale.assign(1.7)
    compare(layer, given, Dot(), scale=1.7**0.5, causal=causal)


def test_attention_by_concatenation():
    given, score = inputs(), Concat(4)
    layer = keras.layers.Attention(use_scale=True, score_mode="concat")
    layer.build([one.shape for one in given])
    layer.scale.assign(0.6)
    layer.concat_score_weight.assign(1.3)
    score.query.weight.data = torch.eye(4)
    score.additive.direction.data = torch.full((4,), 1.3)
    compare(layer, given, score, scale=0.6)


@pytest.mark.parametrize("window", [None, 3])
def test_grouped_query_attention(window):
    layer = keras.layers.GroupQueryAttention(4, 6, 2, sliding_window=window)
    given = torch.randn(2, 7, 5)
    expected = layer(given, given, use_causal_mask=True)
    queries, keys, values = (
        torch.einsum("btm,mhw->bhtw", given, dense.kernel.value) + dense.bias.value[:, None]
        for dense in (layer._query_dense, layer._key_dense, layer._value_dense)
    )
    out = attend(queries, keys, values, where=Window(back=window - 1) if window else Causal()).out
    dense = layer._output_dense
    torch.testing.assert_close(
        torch.einsum("bhtw,hwm->btm", out, dense.kernel.value) + dense.bias.value, expected, **SINGLE
    )
