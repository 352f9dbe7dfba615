"""Convolutions over time: with a normalised weight, and as mixers whose kernels are shared by heads.

All take only windows that lie wholly within their inputs; what comes before and after those is put there by `centred`
or `after`.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import SettingsError
from regard.layers.dropout import Dropout
from regard.layers.precision import as_autocast
from regard.padded import Padded
from regard.settings import Settings
from regard.trees import Nest

BLOCK = 32
"""Steps that are mixed by one product."""


def centred(steps: Float[Tensor, "rows time width"], reach: int) -> Float[Tensor, "rows padded width"]:
    """Steps between ``reach`` zeros, half of them before, so that a window of reach + 1 stands around each step."""
    return F.pad(steps, (0, 0, reach - reach // 2, reach // 2))


def after(
    past: Float[Tensor, "rows reach width"], steps: Float[Tensor, "rows time width"], lengths: Int[Tensor, "rows"]
) -> tuple[Float[Tensor, "rows joined width"], Float[Tensor, "rows reach width"]]:
    """Steps behind those before them, and as many for the next call: each row's last, of its ``lengths`` real ones."""
    joined = torch.cat([past.to(steps.dtype), steps], 1)
    rows = torch.arange(len(past), device=past.device)[:, None]
    return joined, joined[rows, lengths[:, None] + torch.arange(past.shape[1], device=past.device)]


class Convolution(nn.Module):
    """sum_j W_j x_(t + j dilation) + b, with W = g V / |V|, one length g for each feature of the result.

    Weight normalisation: Salimans and Kingma 2016, arXiv 1602.07868. V is drawn so that independent inputs of variance
    1 give results of the given ``variance``.
    """

    def __init__(self, width: int, out: int, kernel: int = 1, dilation: int = 1, variance: float = 1.0):
        super().__init__()
        self.width, self.kernel, self.dilation = width, kernel, dilation
        self.direction = nn.Parameter(torch.empty(out, kernel, width).normal_(std=(variance / (kernel * width)) ** 0.5))
        self.length = nn.Parameter(self._norm().detach())
        self.bias = nn.Parameter(torch.zeros(out))

    @property
    def reach(self) -> int:
        """How many steps a window has beside its own."""
        return (self.kernel - 1) * self.dilation

    def forward(self, inputs: Float[Tensor, "rows time width"]) -> Float[Tensor, "rows windows out"]:
        # the result is scaled instead of the weight, which is larger when there are few windows, as in decoding
        scale = self.length / self._norm()
        return torch.addcmul(as_autocast(self.bias), self._convolved(inputs), as_autocast(scale))

    def _norm(self) -> Float[Tensor, "out"]:
        return self.direction.flatten(1).norm(dim=1)

    def _convolved(self, inputs: Tensor) -> Tensor:
        if self.kernel == 1:
            return F.linear(inputs, self.direction[:, 0])
        if inputs.shape[1] == self.reach + 1:  # of one window a product is twice as fast
            return F.linear(inputs[:, :: self.dilation].flatten(1), self.direction.flatten(1))[:, None]
        # as images of height 1 with the features last, which kernels need not copy; conv1d copies both ways
        image, weight = inputs.mT[:, :, None], self.direction.mT[:, :, None]
        return F.conv2d(image, weight, dilation=(1, self.dilation))[:, :, 0].mT


class KernelMixer(nn.Module):
    """A mixer (see attention.mixers) but for `kernels`: each head's features are averaged over a window of steps.

    W_out (sum_j softmax(kernel)_j x_(t + j)) with x = GLU(W_in input), where the window ends at t or, unless
    ``causal``, stands around it (Wu et al. 2019, arXiv 1901.10430). While training, elements of the softmax are
    dropped: DropConnect (Wan et al. 2013). The projections have no bias, so that padding, made zero, stays zero.

    Raises:
        SettingsError: the width does not split into the heads.
    """

    def __init__(self, width: int, heads: int, kernel: int, dropout: float, causal: bool):
        super().__init__()
        if width % heads:
            raise SettingsError(f"width {width} does not split into {heads} heads")
        self.heads, self.kernel, self.causal = heads, kernel, causal
        self.input = nn.Linear(width, 2 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.drop_connect = Dropout(dropout)
        for projection in (self.input, self.output):
            nn.init.xavier_uniform_(projection.weight)

    def start(self, rows: int) -> Nest:
        """Zeros for the steps before the first, (rows, kernel - 1, width); nothing unless causal."""
        return self.output.weight.new_zeros(rows, self.kernel - 1, self.output.in_features) if self.causal else ()

    def forward(
        self, inputs: Float[Tensor, "rows time width"], lengths: Int[Tensor, "rows"], state: Nest | None = None
    ) -> tuple[Float[Tensor, "rows time width"], Nest]:
        """What each step sees of those around it, and the state after each row's last real one."""
        real = Padded(inputs, lengths).mask[..., None]
        steps = F.glu(self.input(inputs.masked_fill(~real, 0.0)), -1)
        joined, state = self._joined(steps, lengths, self.start(len(inputs)) if state is None else state)
        kernels = self.drop_connect(self.kernels(steps).softmax(-1))
        found = weighted_windows(joined.unflatten(-1, (self.heads, -1)), kernels)
        return self.output(found.flatten(2)), state

    def _joined(self, steps: Tensor, lengths: Tensor, state: Nest) -> tuple[Tensor, Nest]:
        return after(state, steps, lengths) if self.causal else (centred(steps, self.kernel - 1), ())

    def kernels(self, steps: Float[Tensor, "rows time width"]) -> Float[Tensor, "#rows #time heads kernel"]:
        """The kernel of each head at each step, before the softmax."""
        raise NotImplementedError


class LightweightConvolution(KernelMixer):
    """One learned kernel for each head, the same at all steps."""

    def __init__(self, width: int, heads: int, kernel: int, dropout: float, causal: bool):
        super().__init__(width, heads, kernel, dropout, causal)
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, kernel)))

    def kernels(self, steps: Tensor) -> Tensor:
        return self.weight[None, None]


class DynamicConvolution(KernelMixer):
    """Kernels predicted from the step they belong to."""

    def __init__(self, width: int, heads: int, kernel: int, dropout: float, causal: bool):
        super().__init__(width, heads, kernel, dropout, causal)
        self.predict = nn.Linear(width, heads * kernel, bias=False)
        nn.init.xavier_uniform_(self.predict.weight)

    def kernels(self, steps: Tensor) -> Tensor:
        return self.predict(steps).unflatten(-1, (self.heads, self.kernel))


def weighted_windows(
    steps: Float[Tensor, "rows padded heads features"], kernels: Float[Tensor, "#rows #time heads kernel"]
) -> Float[Tensor, "rows time heads features"]:
    """sum_j kernels[r, t, h, j] steps[r, t + j, h], a product of a banded matrix for each block of steps and head."""
    size, time = kernels.shape[-1], steps.shape[1] - kernels.shape[-1] + 1
    block = min(BLOCK, time)
    missing = -time % block
    blocks = F.pad(kernels.expand(-1, time, -1, -1), (0, 0, 0, 0, 0, missing)).unflatten(1, (-1, block))
    windows = F.pad(steps, (0, 0, 0, 0, 0, missing)).unfold(1, block + size - 1, block)
    return (banded(blocks.transpose(2, 3)) @ windows.mT).transpose(2, 3).flatten(1, 2)[:, :time]


def banded(kernels: Float[Tensor, "*batch time kernel"]) -> Float[Tensor, "*batch time padded"]:
    """Row t holds its kernel from column t on, and zeros elsewhere."""
    time = kernels.shape[-2]
    # rows one element shorter than what is written one after another: each begins one column later
    return F.pad(kernels, (0, time)).flatten(-2)[..., :-time].unflatten(-1, (time, -1))


class LightweightPart(Settings):
    """`LightweightConvolution`, as settings."""

    kind: Literal["lightweight"] = "lightweight"
    kernel: int = Field(default=7, ge=1, le=1024)

    def build(self, width: int, heads: int, dropout: float, causal: bool) -> LightweightConvolution:
        return LightweightConvolution(width, heads, self.kernel, dropout, causal)


class DynamicPart(Settings):
    """`DynamicConvolution`, as settings."""

    kind: Literal["dynamic"] = "dynamic"
    kernel: int = Field(default=7, ge=1, le=1024)

    def build(self, width: int, heads: int, dropout: float, causal: bool) -> DynamicConvolution:
        return DynamicConvolution(width, heads, self.kernel, dropout, causal)
