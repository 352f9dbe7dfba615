"""Blocks of convolutional models, and the attention in each of a decoder's."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from regard.attention import Norm, Score, Where, attend, observe
from regard.attention.norms import Softmax
from regard.attention.parts import NormPart, ScorePart, WherePart
from regard.attention.scores import ScaledDot
from regard.attention.where import Full
from regard.layers.convolution import Convolution
from regard.layers.dropout import Dropout
from regard.settings import Settings

Windows = Callable[[Convolution, Tensor], Tensor]
"""A convolution over (rows, time, width), one window for each step."""


class Shape(NamedTuple):
    """The width before a block and in it, and its convolutions' kernel and dilation."""

    before: int
    width: int
    kernel: int
    dilation: int


class Sight(NamedTuple):
    """What a layer looks with, the embedded target and its positions, and at: keys and values, and where of them."""

    target: Float[Tensor, "rows time width"]
    at: Int[Tensor, "#rows time"]
    keys: Float[Tensor, "batch 1 keys features"]
    values: Float[Tensor, "batch 1 keys width"]
    where: Where


class MultiStepPart(Settings):
    """The attentions of a decoder's layers, one head each.

    The paper's score is the dot product, which goes with its embeddings of deviation 0.1 (``embedding.scaled: false``);
    where the deviation is 1 it would be as large as the width's root, and softmax begin with one key alone.
    """

    score: ScorePart = ScaledDot()
    where: WherePart = Full()
    norm: NormPart = Softmax()

    def build(self, width: int, memory: int) -> "MultiStepAttention":
        return MultiStepAttention(width, memory, self.score.build(memory, 1), self.norm.build(1))


class MultiStepAttention(nn.Module):
    """h_i + W' sum_j a_ij v_j, a_i = norm(score(d_i, z)), d_i = W h_i + b + g_i (Gehring et al. 2017, section 3.3).

    g is the embedded target. What is found is projected back to the layer's width, and the sum of both scaled as
    `together` does.
    """

    def __init__(self, width: int, memory: int, score: Score, norm: Norm):
        super().__init__()
        self.query, self.output = Convolution(width, memory), Convolution(memory, width)
        self.score, self.norm = score, norm

    def remember(self, states: Float[Tensor, "batch keys width"]) -> Float[Tensor, "batch 1 keys features"]:
        """What of the score depends on the encoder states alone."""
        return self.score.keys(states[:, None])

    def forward(self, features: Float[Tensor, "rows time width"], sight: Sight) -> Float[Tensor, "rows time width"]:
        attended = attend(
            (self.query(features) + sight.target)[:, None],
            sight.keys,
            sight.values,
            score=self.score,
            where=sight.where,
            norm=self.norm,
            at=sight.at,
        )
        observe(self, attended.weights)
        return together(features, self.output(attended.out[:, 0]))


class Block(nn.Module):
    """A layer: some convolutions, and in a decoder that has a source attention to it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        before, width = shape.before, shape.width
        self.residual = nn.Identity() if before == width else Convolution(before, width)
        self.cross_attention: MultiStepAttention | None = None

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """In the order they run."""
        raise NotImplementedError

    def looked(self, features: Tensor, sight: Sight | None) -> Tensor:
        """Features, and what they find if there is something to look at."""
        return features if sight is None or self.cross_attention is None else self.cross_attention(features, sight)

    def forward(
        self, inputs: Float[Tensor, "rows time before"], windows: Windows, sight: Sight | None = None
    ) -> Float[Tensor, "rows time width"]:
        raise NotImplementedError


class GatedBlock(Block):
    """sqrt(1/2) (look(GLU(conv(dropout(x)))) + x) (Gehring et al. 2017, sections 3.2 and 3.4, variances of 3.5)."""

    def __init__(self, shape: Shape, dropout: float):
        super().__init__(shape)
        before, width, kernel, dilation = shape
        self.dropout = Dropout(dropout)
        self.convolution = Convolution(before, 2 * width, kernel, dilation, 4 * (1 - dropout))

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        return (self.convolution,)

    def forward(self, inputs: Tensor, windows: Windows, sight: Sight | None = None) -> Tensor:
        found = F.glu(windows(self.convolution, self.dropout(inputs)), -1)
        return together(self.looked(found, sight), self.residual(inputs))


class TemporalBlock(Block):
    """look(ReLU(F(x) + x)), F twice dropout(ReLU(conv(.))) (Bai et al. 2018, section 3.3 and figure 1b).

    Weights are drawn as He et al. 2015, arXiv 1502.01852, do before ReLU. Dropout takes single elements, where the
    paper takes features of all steps.
    """

    def __init__(self, shape: Shape, dropout: float):
        super().__init__(shape)
        before, width, kernel, dilation = shape
        self.dropout = Dropout(dropout)
        self.first = Convolution(before, width, kernel, dilation, variance=2.0)
        self.second = Convolution(width, width, kernel, dilation, variance=2.0)

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        return self.first, self.second

    def forward(self, inputs: Tensor, windows: Windows, sight: Sight | None = None) -> Tensor:
        found = inputs
        for convolution in self.convolutions:
            found = self.dropout(windows(convolution, found).relu())
        return self.looked((found + self.residual(inputs)).relu(), sight)


BLOCKS: dict[str, type[GatedBlock] | type[TemporalBlock]] = {"gated": GatedBlock, "temporal": TemporalBlock}


def together(
    one: Float[Tensor, "batch time width"], other: Float[Tensor, "batch time width"]
) -> Float[Tensor, "batch time width"]:
    """A sum of two of the same variance, scaled to have it too (Gehring et al. 2017, section 3.4)."""
    return (one + other) * 0.5**0.5
