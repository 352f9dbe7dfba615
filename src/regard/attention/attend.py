"""Attention: out = norm(score(q, k) + bias, where) . v, by the fastest kernel that fits, and why by that one."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard.attention import kernels
from regard.attention.kernels.explicit import row_blocks, weights_of
from regard.attention.kernels.steps import Kept, needed, steps
from regard.attention.norms import Norm, Softmax
from regard.attention.request import Bias, Block, Pattern, Request
from regard.attention.scores import ScaledDot, Score
from regard.attention.weights import Weights, fold, unfold
from regard.attention.where import Full, Where
from regard.errors import AttentionError


class Attended:
    """What a call of `attend` found.

    * ``out``, (rows, heads, queries, values); a query that may look at nothing got exactly 0
    * ``weights``, all that is behind it, computed only when looked at (see `Weights`); before dropout
    * ``lse``, (rows, heads, queries): log of the sum of exponentiated scores, -inf where there is no key, with a
      gradient; of the softmax that the norm follows from, None for other norms
    * ``state``, what the next call needs from this one where score or norm keep a state, otherwise None
    * ``why``, the kernel that ran and the reason
    """

    __slots__ = ("_lse", "mergeable", "out", "state", "weights", "why")

    def __init__(
        self,
        out: Tensor,
        weights: Weights,
        lse: Callable[[], Tensor | None],
        state: Kept | None,
        why: str,
        mergeable: bool = False,
    ):
        self.out, self.weights, self.state, self.why = out, weights, state, why
        self._lse, self.mergeable = lse, mergeable

    @property
    def lse(self) -> Float[Tensor, "rows heads queries"] | None:
        return self._lse()


def attend(
    queries: Float[Tensor, "rows heads queries width"],
    keys: Float[Tensor, "batch kv_heads keys features"],
    values: Float[Tensor, "batch kv_heads keys values"],
    *,
    score: Score = ScaledDot(),
    where: Where = Full(),
    norm: Norm = Softmax(),
    bias: Float[Tensor, "#rows #heads #queries keys"] | Bias | None = None,
    at: Int[Tensor, "#rows queries"] | Int[Tensor, "queries"] | None = None,
    keys_at: Int[Tensor, "#batch keys"] | Int[Tensor, "keys"] | None = None,
    dropout: float = 0.0,
    state: Kept | None = None,
    kernel: str = "auto",
) -> Attended:
    """Weighted sums of the values, weighted by how well each query fits each key.

    ``rows`` may be a multiple of ``batch``: row r then looks at memory r // (rows / batch), and the rows that share a
    memory are folded into the query length, so that beams never copy it. ``heads`` may be a multiple of ``kv_heads``:
    query head h reads head h // (heads / kv_heads). ``at`` holds the queries' positions, by default those of the last
    keys, ``keys_at`` the keys', by default 0 and on. ``where`` and ``bias`` speak of memories and positions. Looking
    at the weights does not change ``out``. Keys and values must be finite, unseen ones too.

    Raises:
        AttentionError: arguments do not fit each other, or ``kernel`` (one of `kernels.KERNELS`) cannot do this.
    """
    _check(queries, keys, values, bias, at, keys_at)
    beams, batch = queries.shape[0] // keys.shape[0], keys.shape[0]
    if not torch.compiler.is_compiling() and any(rows != batch for rows in where.rows):
        raise AttentionError(f"a pattern for {where.rows} rows", hint=f"wanted: one for the keys' {batch} rows")
    if not 0 <= dropout < 1:
        raise AttentionError(f"dropout {dropout}", hint="wanted: a share of at least 0 and below 1")
    pattern = Pattern(
        where=where,
        bias=_folded_bias(bias, beams, queries.shape[2]),
        at=_folded_positions(at, beams, queries.shape[2], keys),
        keys_at=_positions(keys_at, keys.shape[2], keys),
        counted=beams == 1 and at is None and keys_at is None,
        batch=batch,
        heads=queries.shape[1],
    )
    request = Request(fold(queries, beams), keys, values, score, norm, pattern, dropout)
    return _stepped(request, state, beams, kernel) if needed(request) else _at_once(request, beams, kernel)


def _at_once(request: Request, beams: int, kernel: str) -> Attended:
    chosen, why = kernels.chosen(request, kernel)
    found = chosen.run(request)
    weights = Weights(lambda some: weights_of(request, Block(queries=some)), _folded(request), beams)
    norm = request.norm
    if isinstance(found, Tensor):
        lse = (lambda: unfold(_lse(request), beams)) if norm.fused else (lambda: None)
        return Attended(unfold(found, beams), weights, lse, None, why, isinstance(norm, Softmax))
    out, sums = found
    of_rows = unfold(sums, beams) if norm.fused else None
    return Attended(
        unfold(norm.finish(out, sums), beams), weights, lambda: of_rows, None, why, isinstance(norm, Softmax)
    )


def _stepped(request: Request, state: Kept | None, beams: int, kernel: str) -> Attended:
    if kernel != "auto":
        raise AttentionError(f"kernel '{kernel}' cannot do this: a state passes from one query to the next")
    out, weights, kept = steps(request, state, beams)
    looked = Weights(lambda some: weights[:, :, some], _folded(request), beams)
    return Attended(unfold(out, beams), looked, lambda: None, kept, "steps: each looks at the one before")


def _folded(request: Request) -> tuple[int, int, int, int]:
    batch, heads, queries, _ = request.queries.shape
    return batch, heads, queries, request.keys.shape[2]


def merged(
    parts: Sequence[Attended],
) -> tuple[Float[Tensor, "rows heads queries values"], Float[Tensor, "rows heads queries"]]:
    """Output and lse of one softmax over the keys of several calls with the same queries, such as a shared prefix's.

    out = sum_p exp(lse_p - lse) out_p (the merge of Milakov and Gimelshein 2018, arXiv 1805.02867).

    Raises:
        AttentionError: the norm of a part is no plain softmax, of which alone the output follows from the parts'.
    """
    if not all(part.mergeable for part in parts):
        raise AttentionError("only the parts of a plain softmax can be merged", hint="call attend with norm=Softmax()")
    known = torch.stack([part.lse for part in parts if part.lse is not None])
    floor = known.clamp(min=torch.finfo(known.dtype).min)  # -inf - -inf would be NaN
    lse = floor.logsumexp(0)
    shares = torch.exp(floor - lse)[..., None].to(parts[0].out.dtype)
    out = (torch.stack([part.out for part in parts]) * shares).sum(0)
    return out, lse.masked_fill((known == -math.inf).all(0), -math.inf)


def _lse(request: Request) -> Tensor:
    """For kernels that do not have it at hand; in blocks of rows."""

    def of(block: Block) -> Tensor:
        scores, keep = request.scores(block), request.pattern.keep(block)
        return (scores if keep is None else scores.masked_fill(~keep, -math.inf)).logsumexp(-1)

    return torch.cat([of(block) for block in row_blocks(request)], dim=2)


def _positions(given: Tensor | None, count: int, keys: Tensor) -> Int[Tensor, "#rows count"]:
    """Those given, or of the last ``count`` of the keys."""
    if given is None:
        return torch.arange(keys.shape[2] - count, keys.shape[2], device=keys.device)[None]
    return torch.atleast_2d(given).long()


def _folded_positions(at: Tensor | None, beams: int, length: int, keys: Tensor) -> Int[Tensor, "#batch folded"]:
    at = _positions(at, length, keys)
    if beams == 1:
        return at
    return at.repeat(1, beams) if len(at) == 1 else at.unflatten(0, (-1, beams)).flatten(1, 2)


def _folded_bias(bias: Tensor | Bias | None, beams: int, length: int) -> Tensor | Bias | None:
    if not isinstance(bias, Tensor) or beams == 1:
        return bias
    bias = bias.expand(-1, -1, length, -1)
    return bias.repeat(1, 1, beams, 1) if len(bias) == 1 else fold(bias, beams)


def _check(
    queries: Tensor, keys: Tensor, values: Tensor, bias: object, at: Tensor | None, keys_at: Tensor | None
) -> None:
    for name, tensor in (("queries", queries), ("keys", keys), ("values", values)):
        if tensor.ndim != 4:
            raise _unfit(name, tensor, "four axes: (rows, heads, time, width)")
    (rows, heads, length, _), (batch, kv_heads, count, _) = queries.shape, keys.shape
    if values.shape[:3] != keys.shape[:3]:
        raise _unfit("values", values, f"rows, heads and time of the keys, {tuple(keys.shape[:3])}")
    if not batch or not kv_heads or rows % batch or heads % kv_heads:
        raise _unfit("queries", queries, f"a multiple of the keys' {batch} rows and {kv_heads} heads")
    if isinstance(bias, Tensor) and not _broadcasts(bias, (rows, heads, length, count)):
        raise _unfit("bias", bias, f"axes of 1 or of {(rows, heads, length, count)}, with all {count} keys")
    if isinstance(bias, Tensor) and not bias.is_floating_point():
        raise AttentionError(
            f"bias of type {bias.dtype}", hint="it is added to scores; a mask is a pattern: where=Table(mask)"
        )
    for name, places, shape in (("at", at, (rows, length)), ("keys_at", keys_at, (batch, count))):
        if places is not None and tuple(places.shape) not in (shape, (1, shape[1]), (shape[1],)):
            raise _unfit(name, places, f"one position for each of {shape[1]}, for all rows or for each of {shape[0]}")


def _broadcasts(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    if tensor.ndim != len(shape) or tensor.shape[-1] != shape[-1]:
        return False
    return all(size in (1, full) for size, full in zip(tensor.shape, shape, strict=True))


def _unfit(name: str, tensor: Tensor, wanted: str) -> AttentionError:
    return AttentionError(f"{name} of shape {tuple(tensor.shape)}", hint=f"wanted: {wanted}")
