"""Layouts of heads against their papers' formulas, and what they keep between calls."""

import pytest
import torch
from torch.nn import functional as F

from regard import trees
from regard.attention import Attention, Causal, DifferentialAttention, Full, LatentAttention, Window, rotate, rotation
from regard.attention.keyvalues import KeyValues, Ring, extend, start
from regard.errors import SettingsError


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_heads_are_multi_head_attention_with_keys_repeated(kv_heads):
    grouped, whole = Attention(8, 4, kv_heads=kv_heads).double(), Attention(8, 4).double()
    query, key, value = (part for part in grouped.projection.weight.split([8, 2 * kv_heads, 2 * kv_heads]))
    repeated = [
        one.unflatten(0, (kv_heads, 2)).repeat_interleave(4 // kv_heads, 0).flatten(0, 1) for one in (key, value)
    ]
    whole.projection.weight.data = torch.cat([query, *repeated]).data
    whole.output.load_state_dict(grouped.output.state_dict())
    inputs = random(2, 5, 8)
    expected = whole(*whole.project(inputs), Causal())
    torch.testing.assert_close(grouped(*grouped.project(inputs), Causal()), expected)
    torch.testing.assert_close(grouped(grouped.ask(inputs), grouped.remember(inputs), Causal()), expected)


def latent_by_hand(module: LatentAttention, inputs: torch.Tensor, turn) -> torch.Tensor:
    """DeepSeek-V2, equations 9 to 19 without the compression of queries, one head after another."""
    outs, head_width = [], inputs.shape[-1] // module.heads
    kept = module.down(inputs)
    latent, shared = module.latent_norm(kept[..., : module.rank]), kept[..., module.rank :]
    shared = rotate(shared[:, None], turn)[:, 0]
    for head, query in enumerate(module.query(inputs).unflatten(-1, (module.heads, -1)).unbind(2)):
        content, turning = query[..., :head_width], rotate(query[:, None, :, head_width:], turn)[:, 0]
        keys = torch.cat([latent @ module.up_keys[head], shared], -1)
        scores = torch.cat([content, turning], -1) @ keys.mT / (head_width + module.turned) ** 0.5
        weights = F.softmax(scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf), -1)
        outs.append(weights @ (latent @ module.up_values[head]))
    return module.output(torch.cat(outs, -1))


def test_latent_attention_is_its_formula_and_keeps_latents_only():
    module, inputs, at = LatentAttention(12, 3, rank=5, turned=2).double(), random(2, 6, 12), torch.arange(6)[None]
    expected = latent_by_hand(module, inputs, rotation(at, 2))
    queries, kept = module.project(inputs, rotation(at, 2))
    assert {path: tuple(leaf.shape) for path, leaf in trees.leaves(kept).items()} == {"steps": (2, 1, 6, 7)}
    torch.testing.assert_close(module(queries, kept, Causal()), expected)
    alone = [module(queries[:, :, [step]], kept, Causal(), torch.tensor([[step]])) for step in range(6)]
    torch.testing.assert_close(torch.cat(alone, 1), expected)


def test_differential_attention_is_its_formula():
    module, inputs = DifferentialAttention(12, 2).double(), random(2, 5, 12)
    query, key, value = (part.unflatten(-1, (2, 6)) for part in module.projection(inputs).split(12, -1))
    first, second, third, fourth = module.balance
    share, outs = (first @ second).exp() - (third @ fourth).exp() + 0.8, []
    for head in range(2):
        one, other = (
            F.softmax(query[:, :, head, half] @ key[:, :, head, half].mT / 3**0.5, -1)
            for half in (slice(0, 3), slice(3, 6))
        )
        found = (one - share * other) @ value[:, :, head]
        outs.append(F.rms_norm(found, (6,), module.head_norm.weight, 1e-5) * 0.2)
    torch.testing.assert_close(module(*module.project(inputs), Full()), module.output(torch.cat(outs, -1)))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Attention(10, 4),
        lambda: Attention(8, 4, kv_heads=3),
        lambda: LatentAttention(10, 4, rank=4, turned=2),
        lambda: LatentAttention(8, 4, rank=4, turned=3),
        lambda: DifferentialAttention(12, 4),
    ],
)
def test_widths_that_do_not_divide(build):
    with pytest.raises(SettingsError, match="width"):
        build()


@pytest.mark.parametrize("chunks", [[1] * 9, [4, 1, 3, 1], [2, 7]])
def test_a_ring_sees_what_a_window_of_everything_sees(chunks):
    """Rows of 9 and of 6 steps through a ring of room 3, against all keys at once with the same window."""
    module, inputs, lengths, where = Attention(8, 2).double(), random(2, 9, 8), torch.tensor([9, 6]), Window(back=2)
    expected = module(*module.project(inputs), where)
    empty = module.remember(inputs[:, :0])
    ring, outs, begun = start(empty, torch.zeros(2, dtype=torch.long), room=9, reach=where.reach), [], 0
    assert isinstance(ring, Ring)
    for count in chunks:
        queries, own = module.project(inputs[:, begun : begun + count])
        real = (lengths - begun).clamp(0, count)
        at = ring.lengths[:, None] + torch.arange(count)
        ring, seen = extend(ring, own, real)
        outs.append(module(queries, KeyValues(*seen.buffers), where, at, seen.at))
        begun += count
    out = torch.cat(outs, 1)
    torch.testing.assert_close(out[0], expected[0])
    torch.testing.assert_close(out[1, :6], expected[1, :6])
    assert ring.buffers[0].shape[-2] == 3
    assert ring.lengths.equal(lengths)


def test_without_room_the_first_chunk_is_adopted():
    module = Attention(8, 2)
    own = module.remember(torch.rand(2, 4, 8))
    cache, seen = extend(start(own, torch.zeros(2, dtype=torch.long), 0, reach=1), own, torch.tensor([4, 3]))
    assert seen.buffers[0] is own.keys
    assert cache.buffers[0] is own.keys
