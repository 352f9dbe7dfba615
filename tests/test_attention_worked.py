"""Worked examples in numbers, as introductions to attention print them, each equal to `attend` or `Pool`."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from regard.attention import Attention, Dot, Full, Lengths, Pool, attend, record
from regard.padded import Padded


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def test_identity_queries_and_keys():
    """softmax(Q K^T / sqrt(3)) V with Q = K = I: each step sees itself with weight a and the two others with b."""
    a, b = (math.exp(score) / (math.exp(3**-0.5) + 2) for score in (3**-0.5, 0))
    eye, values = torch.eye(3)[None, None], torch.tensor([[3.0, 2, 1], [2, 1, 0], [1, 0, 0]])
    expected = [[3 * a + 3 * b, 2 * a + b, a], [2 * a + 4 * b, a + 2 * b, b], [a + 5 * b, 3 * b, b]]
    torch.testing.assert_close(attend(eye, eye, values[None, None]).out[0, 0], torch.tensor(expected))
    assert expected[0] == pytest.approx([2.2066, 1.2066, 0.4711], abs=1e-4)


def test_similarity_matrix_to_weighted_sum():
    """Similarity matrix, softmax of each row, weights summed over the rows, weighted sum of [1, 2, 3]."""
    similarity = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    queries, keys, values = torch.eye(2)[None, None], similarity.mT[None, None], torch.tensor([1.0, 2, 3])
    attended = attend(queries, keys, values[None, None, :, None], score=Dot())
    row = torch.tensor([math.exp(-2), math.exp(-1), 1.0]) / (math.exp(-2) + math.exp(-1) + 1)
    weights = attended.weights.dense()[0, 0]
    torch.testing.assert_close(weights, torch.stack([row, row]))
    torch.testing.assert_close(weights.sum(0), torch.tensor([0.1801, 0.4895, 1.3305]), atol=1e-4, rtol=0)
    torch.testing.assert_close(attended.out.sum(), weights.sum(0) @ values)
    assert float(attended.out.sum()) == pytest.approx(5.1504, abs=1e-4)


def test_lstm_states_scored_by_a_linear_layer():
    """An LSTM, a linear layer that scores every state, softmax over time, weighted sum: one learned query."""
    lstm, linear = nn.LSTM(5, 8, batch_first=True).double(), nn.Linear(8, 1).double()
    states, _ = lstm(torch.randn(3, 6, 5, dtype=torch.float64))
    weights = torch.softmax(linear(states), dim=1)
    expected = (weights * states).sum(1)
    pool = Pool(8).double()
    pool.queries.data = linear.weight.data  # the bias is the same for all steps, and softmax does not see it
    with record(nn.ModuleDict({"pool": pool})) as maps:
        pooled = pool(Padded(states, torch.tensor([6, 6, 6])))
    torch.testing.assert_close(pooled[:, 0], expected)
    torch.testing.assert_close(maps["pool"][:, 0, 0], weights[..., 0].float())
    looked = attend(linear.weight[None, None].expand(3, 1, 1, 8), states[:, None], states[:, None], score=Dot())
    torch.testing.assert_close(looked.out[:, 0, 0], expected)


def test_self_attention_of_three_linear_layers():
    """Queries, keys and values by a linear layer each, softmax(q k^T / sqrt(width)) v."""
    query, key, value = (nn.Linear(4, 4).double() for _ in range(3))
    inputs = torch.randn(2, 5, 4, dtype=torch.float64)
    weights = torch.softmax(query(inputs) @ key(inputs).mT / math.sqrt(4), dim=-1)
    module = Attention(4, heads=1).double()
    module.projection.weight.data = torch.cat([one.weight for one in (query, key, value)]).data
    module.projection.bias.data = torch.cat([one.bias for one in (query, key, value)]).data
    module.output.weight.data, module.output.bias.data = torch.eye(4).double(), torch.zeros(4).double()
    queries, own = module.project(inputs)
    torch.testing.assert_close(module(queries, own, Full()), weights @ value(inputs))


def test_several_learned_queries_with_a_bent_score():
    """softmax(U tanh(W h + b)) over the real steps of each row, a mean for each of the rows of U."""
    pool, steps, lengths = Pool(4, queries=2, hidden=3).double(), torch.randn(2, 5, 4).double(), torch.tensor([5, 2])
    bent = torch.tanh(F.linear(steps, pool.bend[0].weight, pool.bend[0].bias))
    scores = (bent @ pool.queries.mT).masked_fill(torch.arange(5)[:, None] >= lengths[:, None, None], -math.inf)
    torch.testing.assert_close(pool(Padded(steps, lengths)), torch.softmax(scores, dim=1).mT @ steps)
    assert pool(Padded(steps, torch.tensor([5, 0])))[1].eq(0).all()


def test_padding_is_not_pooled():
    pool, steps = Pool(4), torch.randn(2, 5, 4)
    other = steps.clone()
    other[1, 2:] = 1e30
    lengths = torch.tensor([5, 2])
    assert pool(Padded(steps, lengths)).equal(pool(Padded(other, lengths)))
    assert Lengths(lengths).keep(*torch.zeros(4, 1, dtype=torch.long)).all()
