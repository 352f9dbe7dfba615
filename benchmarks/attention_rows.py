"""What `attention.py` measures: the contenders of each row, and their sizes."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.attention import Additive, Attended, Causal, Documents, Full, Norm, Sink, Softmax, Where, Window, attend

LENGTHS = (16, 128, 512, 2048, 8192)
GROWING = (1024, 2048, 4096, 8192, 16384)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
WINDOW, DOCUMENTS, DROPOUT, SORTED = 128, 8, 0.1, 512
OURS, UNFAIR = "regard", "nn.MultiheadAttention"

Call = Callable[[Tensor, Tensor, Tensor], Tensor | Attended]
"""Attention by some contender, from queries, keys and values."""


class Sizes(NamedTuple):
    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    width: int = 64

    @property
    def pairs(self) -> int:
        return self.batch * self.heads * self.queries * self.keys


class Case(NamedTuple):
    """What is measured at once: all contenders with the same inputs."""

    row: str
    sizes: Sizes
    contenders: Callable[[Sizes], dict[str, Call]]
    precision: str = "fp32"
    backward: bool = False

    @property
    def name(self) -> str:
        _, _, _, queries, keys, _ = self.sizes
        length = f"{keys:,}" if queries == keys else f"{queries} on {keys:,}"
        return f"{self.row}, {length}, {self.precision}, forward{' + backward' if self.backward else ''}"


def square(length: int) -> Sizes:
    """2,048 queries or more a call; fewer heads beyond, or the peers would need minutes and all the memory."""
    heads = min(8, max(2, 16384 // length))
    return Sizes(max(1, 2048 // length), heads, heads, length, length)


def ours(where: Where = Full(), norm: Norm = Softmax(), dropout: float = 0.0) -> Call:  # noqa: B008
    return partial(attend, where=where, norm=norm, dropout=dropout)


def explicit(keep: Tensor | None = None, norm: Callable[[Tensor], Tensor] | None = None, dropout: float = 0.0) -> Call:
    norm = norm or partial(torch.softmax, dim=-1)
    hidden = None if keep is None else ~keep

    def run(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        scores = (queries * queries.shape[-1] ** -0.5) @ keys.mT
        if hidden is not None:
            scores = scores.masked_fill(hidden, -torch.inf)
        return F.dropout(norm(scores), dropout) @ values

    return run


def x_transformers(keep: Tensor | None = None, flash: bool = True, **options: object) -> Call:
    from x_transformers.attend import Attend

    attention = Attend(flash=flash, **options)
    return lambda queries, keys, values: attention(queries, keys, values, mask=keep)[0]


def multihead(sizes: Sizes, causal: bool, dropout: float = 0.0) -> Call:
    width = sizes.heads * sizes.width
    attention = nn.MultiheadAttention(width, sizes.heads, dropout, batch_first=True)
    hidden = ~causal_mask(sizes) if causal else None

    def run(*inputs: Tensor) -> Tensor:
        attention.to(inputs[0].dtype)
        flat = [one.transpose(1, 2).flatten(2) for one in inputs]
        out, _ = attention(*flat, attn_mask=hidden, is_causal=causal, need_weights=False)
        return out.unflatten(2, (sizes.heads, -1)).transpose(1, 2)

    return run


def causal_mask(sizes: Sizes) -> Tensor:
    return torch.ones(sizes.queries, sizes.keys, dtype=torch.bool).tril()


def plain(sizes: Sizes) -> dict[str, Call]:
    peers = {"SDPA": F.scaled_dot_product_attention, "explicit": explicit(), "x-transformers": x_transformers()}
    return {OURS: ours(), **peers, UNFAIR: multihead(sizes, causal=False)}


def causal(sizes: Sizes) -> dict[str, Call]:
    return {
        OURS: ours(Causal()),
        "SDPA": partial(F.scaled_dot_product_attention, is_causal=True),
        "explicit": explicit(causal_mask(sizes)),
        "x-transformers": x_transformers(causal=True),
        UNFAIR: multihead(sizes, causal=True),
    }


def masked(where: Where, keep: Tensor) -> dict[str, Call]:
    sdpa = partial(F.scaled_dot_product_attention, attn_mask=keep)
    return {OURS: ours(where), "SDPA": sdpa, "explicit": explicit(keep), "x-transformers": x_transformers(keep)}


def window(sizes: Sizes) -> dict[str, Call]:
    keep = causal_mask(sizes).triu(-WINDOW)
    return masked(Causal() & Window(back=WINDOW), keep[None, None])


def documents(sizes: Sizes) -> dict[str, Call]:
    ids = (torch.arange(sizes.keys) * DOCUMENTS // sizes.keys).expand(sizes.batch, -1)
    keep = causal_mask(sizes) & (ids[:, :, None] == ids[:, None, :])
    return masked(Causal() & Documents(ids), keep[:, None])


def sink(sizes: Sizes) -> dict[str, Call]:
    """Causal, with a learned column of scores that is worth nothing."""
    learned = nn.Parameter(torch.zeros(sizes.heads, 1, 1))

    def with_sink(scores: Tensor) -> Tensor:
        column = learned.to(scores.dtype).expand(*scores.shape[:-1], 1)
        return torch.cat([scores, column], -1).softmax(-1)[..., :-1]

    return {
        OURS: ours(Causal(), Sink(sizes.heads)),
        "explicit": explicit(causal_mask(sizes), with_sink),
        "x-transformers": x_transformers(flash=False, causal=True, heads=sizes.heads, head_learned_sink=True),
    }


def dropout(sizes: Sizes) -> dict[str, Call]:
    return {
        OURS: ours(dropout=DROPOUT),
        "SDPA": partial(F.scaled_dot_product_attention, dropout_p=DROPOUT),
        "explicit": explicit(dropout=DROPOUT),
        "x-transformers": x_transformers(dropout=DROPOUT),
        UNFAIR: multihead(sizes, causal=False, dropout=DROPOUT),
    }


def sparse(sizes: Sizes) -> dict[str, Call]:
    from entmax import entmax15

    from regard.attention.sparse import Entmax

    contenders = {OURS: ours(norm=Entmax(1.5)), "entmax": explicit(norm=partial(entmax15, dim=-1))}
    if sizes.keys > SORTED:
        contenders[f"entmax, k={SORTED}"] = explicit(norm=partial(entmax15, dim=-1, k=SORTED))
    return contenders


def decoding(sizes: Sizes) -> dict[str, Call]:
    """One query for each row; neighbouring query heads share keys."""
    groups = sizes.heads // sizes.kv_heads

    def repeated(queries: Tensor, *shared: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(queries, *(one.repeat_interleave(groups, dim=1) for one in shared))

    grouped = partial(F.scaled_dot_product_attention, enable_gqa=True)
    return {OURS: ours(), "SDPA": grouped, "SDPA, keys repeated": repeated, "x-transformers": x_transformers()}


def bahdanau(sizes: Sizes) -> dict[str, Call]:
    """Values are the states that are attended to, keys their projections; a textbook projects them at each step."""
    query, key = (nn.Linear(sizes.width, sizes.width, bias=False) for _ in range(2))
    score, direction = Additive(sizes.width), nn.Linear(sizes.width, 1, bias=False)

    def textbook(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return direction(torch.tanh(query(queries) + keys)).mT.softmax(-1) @ values

    return {
        OURS: lambda queries, keys, values: attend(query(queries), keys, values, score=score),
        "explicit": textbook,
        "explicit, keys projected anew": lambda queries, _, values: textbook(queries, key(values), values),
    }


def series(row: str, contenders: Callable[[Sizes], dict[str, Call]], *precisions: str) -> Iterator[Case]:
    for precision, backward, length in product(precisions, (False, True), LENGTHS):
        yield Case(row, square(length), contenders, precision, backward)


def growth() -> Iterator[Case]:
    for contenders, length in product((causal, window), GROWING):
        yield Case(f"growth of {contenders.__name__}", Sizes(1, 2, 2, length, length), contenders, backward=True)


ROWS: dict[str, Callable[[], Iterator[Case]]] = {
    **{row.__name__: partial(series, row.__name__, row, *PRECISIONS)
       for row in (plain, causal, window, documents, sink, dropout)},
    "entmax": partial(series, "entmax-1.5", sparse, "fp32"),
    "decoding": lambda: (Case("decoding, 16 heads on 4", Sizes(16, 16, 4, 1, 1024), decoding, precision)
                         for precision in PRECISIONS),
    "bahdanau": lambda: (Case("Bahdanau step", Sizes(64, 1, 1, 1, 50, 256), bahdanau, "fp32", backward)
                         for backward in (False, True)),
    "short": lambda: iter([Case("short, 128 rows, 4 heads", Sizes(128, 4, 4, 16, 16), plain, "bf16", True)]),
    "growth": growth,
}  # fmt: skip
