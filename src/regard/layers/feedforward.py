"""The position-wise part of a Transformer layer."""

from jaxtyping import Float
from torch import Tensor, nn

from regard.layers.dropout import Dropout


class FeedForward(nn.Module):
    """max(0, x W1 + b1) W2 + b2 at every step (Vaswani et al. 2017, arXiv 1706.03762, section 3.3)."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.dropout = Dropout(dropout)
        for projection in (self.expand, self.contract):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, inputs: Float[Tensor, "rows time width"]) -> Float[Tensor, "rows time width"]:
        return self.contract(self.dropout(self.expand(inputs).relu()))
