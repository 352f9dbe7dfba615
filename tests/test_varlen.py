"""Packed documents as sequences side by side: what PyTorch's kernel is told, by a stand-in for it on a CPU."""

import pytest
import torch

from regard.attention import Causal, Documents, Full, Lengths, ScaledDot, Softmax, Window, attend
from regard.attention.kernels import varlen
from regard.attention.request import Pattern, Request

IDS = torch.tensor([[4, 4, 4, 0, 0, 7, -1, -1], [1, 2, 2, 2, 2, 2, 2, 2]])


def by_hand(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa):
    """Each sequence by itself, as the kernel's documentation says."""
    assert cu_seq_q.equal(cu_seq_k) and cu_seq_q.dtype == torch.int32
    assert max_q == max_k == int(cu_seq_q.diff().max())
    groups, out = query.shape[1] // key.shape[1], torch.empty_like(query)
    assert enable_gqa == (groups > 1)
    back, ahead = (size if size >= 0 else 1 << 30 for size in window_size)
    for first, last in zip(cu_seq_q.tolist(), cu_seq_q.tolist()[1:], strict=False):
        offsets = torch.arange(last - first)[:, None] - torch.arange(last - first)
        for head in range(query.shape[1]):
            scores = scale * query[first:last, head] @ key[first:last, head // groups].mT
            scores = scores.masked_fill((offsets > back) | (-offsets > ahead), -torch.inf)
            out[first:last, head] = scores.softmax(-1) @ value[first:last, head // groups]
    return out


@pytest.mark.parametrize("kv_heads", [1, 4])
@pytest.mark.parametrize(
    "more", [Full(), Causal(), Window(back=2, ahead=1), Causal() & Window(back=1, ahead=3)], ids=str
)
def test_each_document_by_itself(more, kv_heads, monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn", by_hand)
    torch.manual_seed(1)
    where = more & Documents(IDS)
    given = [torch.randn(2, heads, 8, 6, dtype=torch.float64) for heads in (4, kv_heads, kv_heads)]
    places = torch.arange(8)[None]
    pattern = Pattern(where=where, bias=None, at=places, keys_at=places, counted=True, batch=2, heads=4)
    request = Request(*given, ScaledDot(), Softmax(), pattern)
    expected = attend(*given, where=where, kernel="specification").out
    torch.testing.assert_close(varlen.varlen(request), expected)
    assert varlen.unfit(request) == "varlen is for half precision on CUDA"


def test_bounds():
    assert varlen.bounds_of(Documents(IDS)).tolist() == [0, 3, 5, 6, 8, 9, 16]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Causal() & Documents(IDS) & Window(back=3), (3, 0)),
        (Documents(IDS), (-1, -1)),
        (Causal(), None),
        (Documents(IDS) | Causal(), None),
        (Lengths(torch.tensor([1, 2])) & Documents(IDS), None),
    ],
)
def test_which_patterns_it_takes(where, expected):
    documents, window = varlen.documents_and_window(where)
    assert (None if documents is None else window) == expected


def test_a_document_in_pieces_is_refused():
    assert varlen._in_one_piece(Documents(IDS))
    assert not varlen._in_one_piece(Documents(torch.tensor([[1, 2, 1]])))
    assert varlen._in_one_piece(Documents(torch.tensor([[1, -1, 2, -1], [1, 1, -1, 3]])))
