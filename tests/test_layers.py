"""Layers against torch's own, and the fused loss against the plain one."""

import math

import pytest
import torch
from torch.nn import functional as F

from regard.attention.rms_norm import RMSNorm
from regard.layers import losses
from regard.layers.dropout import Dropout
from regard.layers.embeddings import TokenEmbedding
from regard.layers.feedforward import FeedForward
from regard.layers.losses import log_softmax, smoothed_cross_entropy
from regard.padded import Padded


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows_at_a_time", [1, 3, 7, 100])
def test_fused_loss_is_cross_entropy(smoothing, rows_at_a_time, monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", rows_at_a_time * 11 + 5)
    features, weight, targets = random(7, 4).requires_grad_(), random(11, 4).requires_grad_(), torch.randint(11, (7,))
    total, likelihood = smoothed_cross_entropy(features, weight, targets, smoothing)
    plain = F.cross_entropy(features @ weight.T, targets, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(total, plain)
    torch.testing.assert_close(likelihood, F.cross_entropy(features @ weight.T, targets, reduction="sum"))
    assert not likelihood.requires_grad
    torch.testing.assert_close(
        torch.autograd.grad(total / 3, [features, weight]), torch.autograd.grad(plain / 3, [features, weight])
    )


def test_fused_loss_gradcheck():
    targets = torch.tensor([0, 2, 2])
    inputs = random(3, 2).requires_grad_(), random(4, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda *both: smoothed_cross_entropy(*both, targets, 0.2)[0], inputs)


@pytest.mark.parametrize("rows_at_a_time", [1, 3, 100])
def test_divergence_is_kullback_leibler_both_ways(rows_at_a_time, monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", rows_at_a_time * 11)
    first, second, weight = (random(*shape).requires_grad_() for shape in ((7, 4), (7, 4), (11, 4)))
    one, other = (F.log_softmax(side @ weight.T, -1) for side in (first, second))
    expected = sum(F.kl_div(a, b, reduction="sum", log_target=True) for a, b in ((one, other), (other, one)))
    found = losses.two_way_divergence(first, second, weight)
    torch.testing.assert_close(found, expected)
    inputs = [first, second, weight]
    torch.testing.assert_close(torch.autograd.grad(found * 3, inputs), torch.autograd.grad(expected * 3, inputs))


def test_no_tokens_have_no_loss():
    weight = random(5, 3).requires_grad_()
    total, likelihood = smoothed_cross_entropy(random(0, 3), weight, torch.zeros(0, dtype=torch.long), 0.1)
    total.backward()
    assert (total.item(), likelihood.item(), weight.grad.abs().sum().item()) == (0, 0, 0)


def test_losses_are_summed_in_fp32():
    features, weight, targets = torch.randn(50, 8), torch.randn(20, 8), torch.randint(20, (50,))
    exact, _ = smoothed_cross_entropy(features, weight, targets, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = smoothed_cross_entropy(features, weight, targets, 0.1)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, exact, rtol=0.01, atol=0)
    assert log_softmax(torch.zeros(3, dtype=torch.bfloat16)).tolist() == pytest.approx([-math.log(3)] * 3)


@torch.no_grad()
def test_embedding_has_unit_scale_and_its_weight_gives_unit_logits():
    embedding = TokenEmbedding(500, 64)
    vectors = embedding(Padded(torch.arange(500)[None], torch.tensor([500]))).values[0]
    assert float(vectors.std()) == pytest.approx(1, abs=0.02)
    assert float((F.layer_norm(torch.randn(50, 64), (64,)) @ embedding.weight.T).std()) == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(vectors[7], embedding.weight[7] * 8)


def test_feedforward_is_its_formula():
    layer = FeedForward(4, 6, dropout=0.5).double().eval()
    inputs = random(2, 3, 4)
    hidden = (inputs @ layer.expand.weight.T + layer.expand.bias).clamp(min=0)
    torch.testing.assert_close(layer(inputs), hidden @ layer.contract.weight.T + layer.contract.bias)


def test_dropout_only_while_training():
    layer, inputs = Dropout(0.5), torch.ones(1000)
    assert set(layer(inputs).tolist()) == {0.0, 2.0}
    assert layer.eval()(inputs) is inputs


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-13), (torch.float32, 1e-6), (torch.bfloat16, 0.01)])
def test_rms_norm_is_torchs(dtype, error):
    norm, inputs = RMSNorm(8, epsilon=1e-3), torch.randn(2, 3, 5, 8).to(dtype).requires_grad_()
    norm.to(torch.promote_types(dtype, torch.float32))
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    slope = torch.randn(2, 3, 5, 8).to(dtype)
    exact, weight = inputs.detach().double().requires_grad_(), norm.weight.detach().double().requires_grad_()
    plain = F.rms_norm(exact, (8,), weight, 1e-3)
    found = norm(inputs), *torch.autograd.grad(norm(inputs), (inputs, norm.weight), slope)
    wanted = plain, *torch.autograd.grad(plain, (exact, weight), slope.double())
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() <= error * other.norm()
