"""Randomness as a function of what it is for: a seed per purpose and position, so nothing depends on what ran before.

A run that is resumed at step 700 draws exactly what an uninterrupted run draws at step 700, without saving any state.
"""

import hashlib

import numpy as np
import torch
from jaxtyping import Float, Int, Int16
from numpy import ndarray
from torch import Tensor

GOLDEN, MIX = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""The step and the multipliers of SplitMix64 (Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators")."""


def seed_for(*parts: int | str) -> int:
    """A seed of 63 bits from a purpose and a position, the same on every machine: ``seed_for(1, "dropout", step)``."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_for(*parts: int | str) -> torch.Generator:
    """A CPU generator of its own for a purpose and a position."""
    return torch.Generator().manual_seed(seed_for(*parts))


def shuffled(places: Int[ndarray, "some"], count: int, *parts: int | str) -> Int[ndarray, "some"]:
    """Where a random permutation of ``count`` things, one for each purpose, sends some of them.

    Nothing of the size ``count`` is ever made: a Feistel network of four rounds on the next power of four, walked until
    it ends within ``count`` (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains").
    """
    half = np.uint64(max((max(count - 1, 1).bit_length() + 1) // 2, 1))
    low = (np.uint64(1) << half) - np.uint64(1)
    keys = [np.uint64(seed_for(*parts, round_)) for round_ in range(4)]
    sent = places.astype(np.uint64)
    outside = np.ones(len(sent), bool)
    while outside.any():
        left, right = sent[outside] >> half, sent[outside] & low
        for key in keys:
            left, right = right, left ^ (_mixed(right ^ key) & low)
        sent[outside] = left << half | right
        outside = sent >= np.uint64(count)
    return sent.astype(np.int64)


def _mixed(numbers: ndarray) -> ndarray:
    """Every bit of the result depends on every bit of the number (the finaliser of SplitMix64)."""
    numbers = (numbers ^ numbers >> np.uint64(30)) * np.uint64(MIX[0])
    numbers = (numbers ^ numbers >> np.uint64(27)) * np.uint64(MIX[1])
    return numbers ^ numbers >> np.uint64(31)


def drop(inputs: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
    """Dropout: each element zero with probability ``share``, the rest scaled up (Srivastava et al. 2014)."""
    if not share:
        return inputs
    return inputs * kept(inputs, share, int(torch.empty((), dtype=torch.int64).random_(-(2**63), None)))


def kept(inputs: Float[Tensor, "*shape"], share: float, start: int) -> Float[Tensor, "*shape"]:
    """What dropout multiplies by, 0 or 1 / (1 - share) for each element; the same for the same ``start``."""
    bits = _random_bits(inputs.numel(), start, inputs.device).view(inputs.shape)
    # as bytes: booleans are converted one by one, sixty times as slowly
    return (bits >= round(share * 2**16) - 2**15).view(torch.uint8).to(inputs.dtype).div_(1 - share)


def _random_bits(count: int, start: int, device: torch.device) -> Int16[Tensor, "count"]:
    """16 random bits for each element, by SplitMix64 from ``start``.

    A counter that is mixed needs no order, so all cores work on it and a 64-bit number serves four elements;
    `torch.bernoulli` draws one by one and took 30 % of a training step on a CPU.
    """
    bits = torch.arange((count + 3) // 4, device=device).mul_(_signed(GOLDEN)).add_(start)
    shifted = torch.empty_like(bits)
    bits.bitwise_xor_(_shift(bits, 30, shifted)).mul_(_signed(MIX[0]))
    bits.bitwise_xor_(_shift(bits, 27, shifted)).mul_(_signed(MIX[1]))
    return bits.bitwise_xor_(_shift(bits, 31, shifted)).view(torch.int16)[:count]


def _shift(bits: Tensor, by: int, out: Tensor) -> Tensor:
    """Right, as unsigned numbers are."""
    return torch.bitwise_right_shift(bits, by, out=out).bitwise_and_((1 << (64 - by)) - 1)


def _signed(number: int) -> int:
    """The signed 64-bit number of the same bits, which is all that torch multiplies by."""
    return number - 2**64 if number >= 2**63 else number
