"""Norms: from scores to weights. The call is the specification; `finish` is the fast form of those that have one.

Fast kernels know one thing, softmax, and return with its result the logarithm of what they divided by: `lse`.
"""

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from regard.settings import Settings

Keep = Bool[Tensor, "#batch #heads #queries #keys"] | None


class Norm:
    """Scores (batch, heads, queries, keys) to weights of the same shape, exactly 0 where a key may not be seen."""

    fused: ClassVar[bool] = False
    """Whether it follows from a softmax, by `finish`."""

    def __call__(self, scores: Tensor, keep: Keep) -> Tensor:
        """The specification; ``keep`` is None where all keys may be seen."""
        raise NotImplementedError

    def finish(self, out: Float[Tensor, "batch heads queries values"], lse: Tensor) -> Tensor:
        """This norm's output from a softmax's and the logarithm of its sum, (batch, heads, queries)."""
        raise NotImplementedError


class StatefulNorm(Norm):
    """A norm that needs the weights of the query before; queries are taken one after another.

    ``scores`` are those of one step, (batch, heads, queries, keys), where the queries are the beams of a row, each
    with a state of its own.
    """

    def begin(self, scores: Tensor) -> Tensor:
        """The state before the first step, (batch, heads, queries, ...)."""
        raise NotImplementedError

    def step(self, scores: Tensor, keep: Keep, state: Tensor) -> tuple[Tensor, Tensor]:
        """The weights, and the state after."""
        raise NotImplementedError


class _Plain(Settings, Norm):
    """A norm without weights of its own, which is its own settings."""

    def build(self, heads: int) -> Norm:
        return self


def mask(scores: Tensor, keep: Keep, value: float = -math.inf) -> Tensor:
    return scores if keep is None else scores.masked_fill(~keep, value)


def softmax(scores: Tensor, keep: Keep) -> Tensor:
    """Softmax over the keys that may be seen; a query that may see none gets zeros, not NaN."""
    if keep is None:
        return F.softmax(scores, dim=-1)
    # the lowest finite number, not -inf: a row without keys must become 0, not NaN
    weights = F.softmax(scores.masked_fill(~keep, torch.finfo(scores.dtype).min), dim=-1)
    if not torch.compiler.is_compiling() and bool(keep.any(-1).all()):
        return weights
    return weights * keep


class Softmax(_Plain):
    """exp z_j / sum exp z."""

    fused: ClassVar[bool] = True
    kind: Literal["softmax"] = "softmax"

    def __call__(self, scores: Tensor, keep: Keep) -> Tensor:
        return softmax(scores, keep)

    def finish(self, out: Tensor, lse: Tensor) -> Tensor:
        return out


class OffByOne(_Plain):
    """exp z_j / (1 + sum exp z): a query may look at nothing (Miller 2023, "Attention is off by one")."""

    fused: ClassVar[bool] = True
    kind: Literal["off_by_one"] = "off_by_one"

    def __call__(self, scores: Tensor, keep: Keep) -> Tensor:
        return _with_sink(scores, keep, scores.new_zeros(1, 1, 1))

    def finish(self, out: Tensor, lse: Tensor) -> Tensor:
        return out * torch.sigmoid(lse)[..., None].to(out.dtype)


class Sink(nn.Module, Norm):
    """exp z_j / (exp s + sum exp z), s learned for each head (Xiao et al. 2023, 2309.17453; gpt-oss 2025)."""

    fused = True

    def __init__(self, heads: int):
        super().__init__()
        self.sink = nn.Parameter(torch.zeros(heads, 1))

    def forward(self, scores: Tensor, keep: Keep) -> Tensor:
        return _with_sink(scores, keep, self.sink[:, :, None])

    def finish(self, out: Tensor, lse: Tensor) -> Tensor:
        return out * torch.sigmoid(lse - self.sink)[..., None].to(out.dtype)


def _with_sink(scores: Tensor, keep: Keep, sink: Float[Tensor, "#heads 1 1"]) -> Tensor:
    """Softmax over the keys and one more of score ``sink`` that is worth nothing."""
    sinks = sink.to(scores.dtype).expand(*scores.shape[:-1], 1)
    return F.softmax(torch.cat([mask(scores, keep), sinks], -1), dim=-1)[..., :-1]


class Softcap(_Plain):
    """Softmax of cap tanh(z / cap): no score beyond the cap (Gemma 2, Riviere et al. 2024, arXiv 2408.00118)."""

    kind: Literal["softcap"] = "softcap"
    cap: float = Field(default=50.0, gt=0)

    def __call__(self, scores: Tensor, keep: Keep) -> Tensor:
        return softmax(self.cap * torch.tanh(scores / self.cap), keep)

    def finish(self, out: Tensor, lse: Tensor) -> Tensor:
        return out  # of a kernel that capped the scores itself


class Scalable(nn.Module, Norm):
    """Softmax of s log(n) z for n keys in view, s learned for each head, begun at 0.43 (Nakanishi 2025, 2501.19399)."""

    def __init__(self, heads: int):
        super().__init__()
        self.slope = nn.Parameter(torch.full((heads, 1, 1), 0.43))

    def forward(self, scores: Tensor, keep: Keep) -> Tensor:
        return softmax(scores * self.slope * _count(scores, keep).clamp(min=1).log(), keep)


class Sigmoid(_Plain):
    """sigmoid(z - log n): every key for itself (Ramapuram et al. 2024, arXiv 2409.04431)."""

    kind: Literal["sigmoid"] = "sigmoid"

    def __call__(self, scores: Tensor, keep: Keep) -> Tensor:
        return mask(torch.sigmoid(scores - _count(scores, keep).clamp(min=1).log()), keep, 0.0)


class Relu(_Plain):
    """max(z, 0) / n (Wortsman et al. 2023, arXiv 2309.08586)."""

    kind: Literal["relu"] = "relu"

    def __call__(self, scores: Tensor, keep: Keep) -> Tensor:
        return mask(F.relu(scores) / _count(scores, keep).clamp(min=1), keep, 0.0)


def _count(scores: Tensor, keep: Keep) -> Tensor:
    """How many keys each query may see, to broadcast against scores."""
    if keep is None:
        return scores.new_tensor(scores.shape[-1])
    return keep.expand(*keep.shape[:-1], scores.shape[-1]).sum(-1, keepdim=True).to(scores.dtype)


class TopK(_Plain):
    """Softmax over the k best keys (Gupta et al. 2021, arXiv 2106.06899); all that tie with the k-th."""

    kind: Literal["top_k"] = "top_k"
    k: int = Field(default=8, ge=1)

    def __call__(self, scores: Tensor, keep: Keep) -> Tensor:
        masked = mask(scores, keep)
        least = masked.topk(min(self.k, scores.shape[-1]), dim=-1).values[..., -1:]
        best = masked >= least
        return softmax(scores, best if keep is None else best & keep)


class Hard(_Plain):
    """All weight on the best key; backwards as if it were softmax (straight through, Bengio et al. 2013, 1308.3432)."""

    kind: Literal["hard"] = "hard"

    def __call__(self, scores: Tensor, keep: Keep) -> Tensor:
        soft = softmax(scores, keep)
        best = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
        best = best if keep is None else best * keep
        return best + (soft - soft.detach())


class Exponential(_Plain):
    """exp z, not normalised: for scores that are already logarithms of weights, as `Mixture`'s are."""

    kind: Literal["exponential"] = "exponential"

    def __call__(self, scores: Tensor, keep: Keep) -> Tensor:
        return torch.exp(mask(scores, keep))


class TalkingHeads(nn.Module, Norm):
    """Scores mixed between heads before another norm and weights after it (Shazeer et al. 2020, arXiv 2003.02436)."""

    def __init__(self, norm: Norm, heads: int):
        super().__init__()
        self.norm = norm
        self.before = nn.Parameter(torch.eye(heads))
        self.after = nn.Parameter(torch.eye(heads))

    def forward(self, scores: Tensor, keep: Keep) -> Tensor:
        weights = self.norm(torch.einsum("bhqk,hg->bgqk", scores, self.before), keep)
        return mask(torch.einsum("bhqk,hg->bgqk", weights, self.after), keep, 0.0)
