"""The position-wise part of a Transformer layer."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from regard.layers.dropout import Dropout

Activation = Literal["relu", "gelu", "gelu_tanh", "swish", "reglu", "geglu", "geglu_tanh", "swiglu"]
"""Those in ...glu multiply what was bent with as many features that were not (Shazeer 2020, arXiv 2002.05202)."""

BENT: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "swish": F.silu,
}
GATED = {"reglu": "relu", "geglu": "gelu", "geglu_tanh": "gelu_tanh", "swiglu": "swish"}


class FeedForward(nn.Module):
    """max(0, x W1 + b1) W2 + b2 at every step (Vaswani et al. 2017, arXiv 1706.03762, section 3.3), or bent otherwise.

    Gated ones are (f(x W1) * x V) W2 with W1 and V as one weight, in this order.
    """

    def __init__(self, width: int, hidden: int, dropout: float, activation: Activation = "relu", bias: bool = True):
        super().__init__()
        self.gated, self.bend = activation in GATED, BENT[GATED.get(activation, activation)]
        self.expand = nn.Linear(width, 2 * hidden if self.gated else hidden, bias)
        self.contract = nn.Linear(hidden, width, bias)
        self.dropout = Dropout(dropout)
        for weight in (*self.expand.weight.split(hidden), self.contract.weight):
            nn.init.xavier_uniform_(weight)
        if bias:
            nn.init.zeros_(self.expand.bias)
            nn.init.zeros_(self.contract.bias)

    def forward(self, inputs: Float[Tensor, "rows time width"]) -> Float[Tensor, "rows time width"]:
        expanded = self.expand(inputs)
        if not self.gated:
            return self.contract(self.dropout(self.bend(expanded)))
        bent, straight = expanded.chunk(2, dim=-1)
        return self.contract(self.dropout(self.bend(bent) * straight))
