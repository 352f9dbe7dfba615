"""Sampling: the next token drawn at random, from a distribution without its unlikely tail."""

import hashlib

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from regard.decoding.interface import NEVER
from regard.padded import Padded
from regard.randomness import seed_for
from regard.settings import Settings


class Sampling(Settings):
    """What to draw from; without any of it, from what the model says."""

    temperature: float = Field(default=1.0, gt=0, description="below 1 the likely gets likelier")
    top_k: int | None = Field(default=None, ge=1, description="only the so many likeliest tokens")
    top_p: float = Field(default=1.0, gt=0, le=1, description="only the likeliest tokens that make up this probability")
    seed: int = Field(default=1, ge=0)

    def narrowed(self, log_probs: Float[Tensor, "rows vocabulary"]) -> Float[Tensor, "rows vocabulary"]:
        """Logits of what is drawn from: first the temperature, then ``top_k``, then ``top_p`` of what that left."""
        logits = log_probs / self.temperature
        if self.top_k is not None:
            logits = likeliest(logits, self.top_k)
        return nucleus(logits, self.top_p) if self.top_p < 1 else logits


def likeliest(logits: Float[Tensor, "rows vocabulary"], count: int) -> Float[Tensor, "rows vocabulary"]:
    """Only the ``count`` likeliest tokens of each row, and those as likely as the last of them.

    Fan et al. 2018, "Hierarchical Neural Story Generation", arXiv 1805.04833, section 5.4.
    """
    least = logits.topk(min(count, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < least, NEVER)


def nucleus(logits: Float[Tensor, "rows vocabulary"], share: float) -> Float[Tensor, "rows vocabulary"]:
    """Only the fewest likeliest tokens of each row that together have the probability ``share``.

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", arXiv 1904.09751, section 3.1.
    """
    ordered, tokens = logits.double().softmax(-1).sort(descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    return logits.masked_fill((before >= share).gather(-1, tokens.argsort(-1)), NEVER)


class Draws:
    """A token for every row, step by step. A row's draws follow from the seed and from what it reads alone."""

    def __init__(self, settings: Sampling, source: Padded):
        self.settings = settings
        rows = zip(source.values.cpu(), source.lengths.tolist(), strict=True)
        self.generators = [
            np.random.default_rng(seed_for(settings.seed, "sampling", _digest(values[:length])))
            for values, length in rows
        ]

    def __call__(self, log_probs: Float[Tensor, "rows vocabulary"]) -> Int[Tensor, "rows"]:
        """Where a uniform number falls in the cumulative distribution."""
        sums = self.settings.narrowed(log_probs).double().softmax(-1).cumsum(-1)
        numbers = torch.tensor([one.random() for one in self.generators], dtype=sums.dtype, device=sums.device)
        return torch.searchsorted(sums, (numbers * sums[:, -1])[:, None], right=True)[:, 0]


def _digest(values: Tensor) -> str:
    return hashlib.blake2b(values.numpy().tobytes(), digest_size=16).hexdigest()
