"""The two recurrences behind linear attention, each in a form for chunks of steps and one for a single step.

A state S of fixed size, (features, values) for each row and head, takes the place of all keys and values. Decay is
given as its logarithm, at most 0, one for a head (last axis 1) or one for each feature, and all exponents here are sums
of some of them: nothing can overflow, however long the sequence and however strong the decay. Inside a chunk all is
matrix products (Yang et al. 2023, arXiv 2312.06635, section 4), between chunks the state is handed on.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

CHUNK = 64
"""Steps of a chunk, a power of two: of 64, 128 and 256 the fastest to train with on a CPU, at lengths 2048 and 8192."""


def linear_attention(
    queries: Float[Tensor, "rows heads time features"],
    keys: Float[Tensor, "rows heads time features"],
    values: Float[Tensor, "rows heads time values"],
    log_decay: Float[Tensor, "#rows #heads time #features"],
    state: Float[Tensor, "rows heads features values"],
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "rows heads time values"], Float[Tensor, "rows heads features values"]]:
    """S_t = decay_t * S_{t-1} + k_t v_t^T and o_t = S_t^T q_t, and the last state.

    Katharopoulos et al. 2020, arXiv 2006.16236, equations 16-20, without their normalisation; with decay
    Yang et al. 2023, arXiv 2312.06635, equation 3. A step whose key or value is 0 and whose decay is 1 changes nothing.
    Computed in the state's precision. ``chunk``: a power of two.
    """
    with torch.autocast(state.device.type, enabled=False):
        steps = [part.to(state.dtype) for part in (queries, keys, values, log_decay)]
        if queries.shape[-2] == 1:
            return _linear_step(state, *steps)
        return _linear_chunks(state, chunk, *steps)


def delta_rule(
    queries: Float[Tensor, "rows heads time features"],
    keys: Float[Tensor, "rows heads time features"],
    values: Float[Tensor, "rows heads time values"],
    strength: Float[Tensor, "rows heads time 1"],
    log_decay: Float[Tensor, "#rows #heads time 1"],
    state: Float[Tensor, "rows heads features values"],
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "rows heads time values"], Float[Tensor, "rows heads features values"]]:
    """S_t = decay_t (1 - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T and o_t = S_t^T q_t, and the last state.

    What the state holds for a key is moved towards the value by a share b_t, the ``strength`` (Schlag et al. 2021,
    arXiv 2102.11174; with decay Yang et al. 2024, arXiv 2412.06464, equation 10). Keys of at most unit length and
    strengths up to 2 keep it stable. A step whose key is 0 and whose decay is 1 changes nothing. Computed in the
    state's precision. ``chunk``: a power of two.
    """
    with torch.autocast(state.device.type, enabled=False):
        steps = [part.to(state.dtype) for part in (queries, keys, values, strength, log_decay)]
        if queries.shape[-2] == 1:
            return _delta_step(state, *steps)
        return _delta_chunks(state, chunk, *steps)


def _linear_step(
    state: Tensor, queries: Tensor, keys: Tensor, values: Tensor, log_decay: Tensor
) -> tuple[Tensor, Tensor]:
    state = log_decay.exp().mT * state + keys.mT @ values
    return queries @ state, state


def _delta_step(
    state: Tensor, queries: Tensor, keys: Tensor, values: Tensor, strength: Tensor, log_decay: Tensor
) -> tuple[Tensor, Tensor]:
    decayed = log_decay.exp() * state
    state = decayed + keys.mT @ (strength * (values - keys @ decayed))
    return queries @ state, state


def _linear_chunks(
    state: Tensor, chunk: int, queries: Tensor, keys: Tensor, values: Tensor, log_decay: Tensor
) -> tuple[Tensor, Tensor]:
    time = queries.shape[-2]
    queries, keys, values, log_decay = (_chunked(part, chunk) for part in (queries, keys, values, log_decay))
    added = (keys * _after(log_decay).exp()).mT @ values
    kept = log_decay.sum(-2, keepdim=True).exp().mT
    before, state = _hand_on(torch.mul, kept, added, state)
    inside = _inside if log_decay.shape[-1] == 1 else _inside_by_halves
    out = (queries * _upto(log_decay).exp()) @ before + inside(queries, keys, values, log_decay)
    return out.flatten(2, 3)[:, :, :time], state


def _delta_chunks(
    state: Tensor, chunk: int, queries: Tensor, keys: Tensor, values: Tensor, strength: Tensor, log_decay: Tensor
) -> tuple[Tensor, Tensor]:
    """The additive recurrence of other values: what each step changes, b (v - what the state holds for k).

    Those depend on the ones before them in the chunk by a triangular system, and on the state before the chunk
    linearly: ``written - erased @ state`` (the WY form; Yang et al. 2024, arXiv 2406.06484, section 3.2).
    """
    time, width = values.shape[-2:]
    queries, keys, values, strength, log_decay = (
        _chunked(part, chunk) for part in (queries, keys, values, strength, log_decay)
    )
    upto = _upto(log_decay).exp()
    overlaps = (strength * (keys @ keys.mT) * _between(log_decay)).tril(-1)
    sides = strength * torch.cat([values, upto * keys], -1)
    solved = torch.linalg.solve_triangular(overlaps, sides, upper=False, unitriangular=True)
    written, erased = solved[..., :width], solved[..., width:]
    left = (keys * _after(log_decay).exp()).mT
    unchanged = torch.eye(keys.shape[-1], dtype=keys.dtype, device=keys.device) * upto[..., -1:, :]
    before, state = _hand_on(torch.matmul, unchanged - left @ erased, left @ written, state)
    out = (queries * upto) @ before + _inside(queries, keys, written - erased @ before, log_decay)
    return out.flatten(2, 3)[:, :, :time], state


def _chunked(steps: Tensor, chunk: int) -> Tensor:
    """(rows, heads, time, width) as (rows, heads, chunks, steps, width), zeros at the end.

    A sequence shorter than a chunk is one chunk of the next power of two.
    """
    time = steps.shape[-2]
    chunk = min(chunk, 1 << (time - 1).bit_length())
    return F.pad(steps, (0, 0, 0, -time % chunk)).unflatten(-2, (-1, chunk))


def _hand_on(
    apply: Callable[[Tensor, Tensor], Tensor], kept: Tensor, added: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The states before each chunk, and the one after the last: ``apply(kept, state) + added``."""
    before = []
    for chunk_kept, chunk_added in zip(kept.unbind(2), added.unbind(2), strict=True):
        before.append(state)
        state = apply(chunk_kept, state) + chunk_added
    return torch.stack(before, 2), state


def _upto(log_decay: Tensor) -> Tensor:
    """The decay of what was there before the first step, up to and with each step."""
    return log_decay.cumsum(-2)


def _after(log_decay: Tensor) -> Tensor:
    """The decay of what each step added, to the last step.

    Not the difference of two sums: one strong decay would take the digits of all weak ones.
    """
    return F.pad(log_decay[..., 1:, :], (0, 0, 0, 1)).flip(-2).cumsum(-2).flip(-2)


def _between(log_decay: Float[Tensor, "*chunks steps 1"]) -> Float[Tensor, "*chunks steps steps"]:
    """How much of what step j added is left at step i, at [i, j]; 0 where j is later."""
    steps = log_decay.shape[-2]
    return log_decay.expand(*log_decay.shape[:-1], steps).tril(-1).cumsum(-2).exp().tril()


def _inside(queries: Tensor, keys: Tensor, values: Tensor, log_decay: Tensor) -> Tensor:
    """What each step reads of the steps of its own chunk, itself among them; one decay for all features."""
    return (queries @ keys.mT * _between(log_decay)) @ values


def _inside_by_halves(queries: Tensor, keys: Tensor, values: Tensor, log_decay: Tensor) -> Tensor:
    """The same with a decay for each feature.

    The later half of a chunk reads the earlier half by a product of two matrices, each decayed to or from the middle,
    so that no exponent is positive; the same within each half, down to pairs of steps.
    """
    out = (queries * keys).sum(-1, keepdim=True) * values
    half = 1
    while half < queries.shape[-2]:
        (_, late_queries), (early_keys, _), (early_values, _), (early_decay, late_decay) = (
            part.unflatten(-2, (-1, 2, half)).unbind(-3) for part in (queries, keys, values, log_decay)
        )
        weights = (late_queries * _upto(late_decay).exp()) @ (early_keys * _after(early_decay).exp()).mT
        out = out + F.pad(weights @ early_values, (0, 0, half, 0)).flatten(-3, -2)
        half *= 2
    return out
