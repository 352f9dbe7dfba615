"""Recurrent cells whose input part is computed before the loop, and a bidirectional encoder of ragged rows."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from regard.padded import Padded

CellState = tuple[Tensor, ...]
"""(hidden,) of a GRU, (hidden, cell) of an LSTM, each (rows, width)."""


class GRUCell(nn.Module):
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078, with the reset after the product as cuDNN has it)."""

    gates, states = 3, 1

    def __init__(self, width: int):
        super().__init__()
        self.recurrent = nn.Linear(width, 3 * width)
        _orthogonal_blocks(self.recurrent)

    def forward(self, inputs: Float[Tensor, "rows gates"], state: CellState) -> CellState:
        (hidden,) = state
        reset_in, update_in, new_in = inputs.chunk(3, dim=-1)
        reset_h, update_h, new_h = self.recurrent(hidden).chunk(3, dim=-1)
        reset, update = torch.sigmoid(reset_in + reset_h), torch.sigmoid(update_in + update_h)
        new = torch.tanh(new_in + reset * new_h)
        return (torch.lerp(new, hidden.to(new.dtype), update),)


class LSTMCell(nn.Module):
    """Long short-term memory, the forget gate open at first (Hochreiter and Schmidhuber 1997; Gers et al. 2000)."""

    gates, states = 4, 2

    def __init__(self, width: int):
        super().__init__()
        self.recurrent = nn.Linear(width, 4 * width)
        _orthogonal_blocks(self.recurrent)
        with torch.no_grad():
            self.recurrent.bias[width : 2 * width] = 1

    def forward(self, inputs: Float[Tensor, "rows gates"], state: CellState) -> CellState:
        hidden, cell = state
        enter, forget, new, leave = (inputs + self.recurrent(hidden)).chunk(4, dim=-1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
        return torch.sigmoid(leave) * torch.tanh(cell), cell


CELLS: dict[str, type[GRUCell] | type[LSTMCell]] = {"gru": GRUCell, "lstm": LSTMCell}
FUSED: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class Bidirectional(nn.Module):
    """Both directions over ragged rows with torch's fused kernels; half the width each (Schuster and Paliwal 1997)."""

    def __init__(self, cell: str, width: int, layers: int, dropout: float):
        super().__init__()
        between = dropout if layers > 1 else 0.0
        self.network = FUSED[cell](width, width // 2, layers, batch_first=True, bidirectional=True, dropout=between)

    def forward(self, inputs: Padded) -> Padded:
        packed = pack_padded_sequence(inputs.values, inputs.lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, _ = self.network(packed)
        values, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.values.shape[1])
        return Padded(values, inputs.lengths)


def _orthogonal_blocks(linear: nn.Linear) -> None:
    """Each gate's recurrent matrix orthogonal, as in Bahdanau et al. 2015, appendix B.1."""
    for block in linear.weight.detach().split(linear.in_features):
        nn.init.orthogonal_(block)
    nn.init.zeros_(linear.bias)
