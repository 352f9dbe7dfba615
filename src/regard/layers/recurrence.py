"""Recurrent layers of torch's weights, over all steps of ragged rows at once or a step at a time."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from regard.layers.dropout import Dropout
from regard.layers.precision import as_autocast
from regard.padded import Padded
from regard.randomness import drop
from regard.trees import Nest, children_of, rebuild

CellName = Literal["rnn", "lstm", "gru"]

CellState = tuple[Tensor, ...]
"""(hidden,), or of an LSTM (hidden, cell), each (rows, width)."""


class Cell(NamedTuple):
    """Torch's fused layer, how many tensors its state has, and one step of it.

    The step takes what the inputs add to the gates, what the hidden state adds, both (rows, gates * width), and the
    state.
    """

    fused: type[nn.RNNBase]
    states: int
    step: Callable[[Tensor, Tensor, CellState], CellState]


def _rnn(entering: Tensor, returning: Tensor, state: CellState) -> CellState:
    return (torch.tanh(entering + returning),)


def _lstm(entering: Tensor, returning: Tensor, state: CellState) -> CellState:
    enter, forget, new, leave = (entering + returning).chunk(4, -1)
    cell = torch.addcmul(torch.sigmoid(forget) * state[1], torch.sigmoid(enter), torch.tanh(new))
    return torch.sigmoid(leave) * torch.tanh(cell), cell


def _gru(entering: Tensor, returning: Tensor, state: CellState) -> CellState:
    (hidden,) = state
    width = hidden.shape[-1]
    reset, update = torch.sigmoid(entering[:, : 2 * width] + returning[:, : 2 * width]).chunk(2, -1)
    new = torch.tanh(torch.addcmul(entering[:, 2 * width :], reset, returning[:, 2 * width :]))
    return (torch.lerp(new, hidden, update),)


CELLS: dict[CellName, Cell] = {
    "rnn": Cell(nn.RNN, 1, _rnn),
    "lstm": Cell(nn.LSTM, 2, _lstm),
    "gru": Cell(nn.GRU, 1, _gru),
}
"""tanh (Elman 1990); long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000); gated recurrent unit
(Cho et al. 2014, arXiv 1406.1078, with the reset after the product, as cuDNN has it)."""


class Recurrence(nn.Module):
    """One layer of cells, in one direction or in both, ``width`` features each (Schuster and Paliwal 1997).

    At first the recurrent matrix of each gate is orthogonal and biases are zero, as in appendix B of Bahdanau et al.
    2015, but the LSTM's forget gate is open, its bias 1 (Gers et al. 2000; Jozefowicz et al. 2015), and input matrices
    are Xavier's instead of Gaussian with deviation 0.01, which is made for one width.
    """

    def __init__(self, cell: CellName, inputs: int, width: int, bidirectional: bool = False):
        super().__init__()
        self.cell = CELLS[cell]
        make = cast(Callable[..., nn.RNNBase], self.cell.fused)
        self.network = make(inputs, width, batch_first=True, bidirectional=bidirectional)
        for name, weight in self.network.named_parameters():
            if name.startswith("weight"):
                draw(weight, width, nn.init.orthogonal_ if "_hh_" in name else nn.init.xavier_uniform_)
            else:
                nn.init.zeros_(weight)
            if name.startswith("bias_ih") and cell == "lstm":
                nn.init.ones_(weight.detach().chunk(4)[1])

    @property
    def _weights(self) -> Sequence[Tensor]:
        """For inputs and for the state, and both biases, of the first direction."""
        return self.network.all_weights[0]

    @property
    def gates(self) -> int:
        """Width of all gates of one direction together."""
        return len(self._weights[1])

    def start(self, rows: int) -> CellState:
        """Zeros, in the precision of the steps to come."""
        zeros = as_autocast(self._weights[1].new_zeros(rows, self.network.hidden_size))
        return (zeros,) * self.cell.states

    def forward(
        self, inputs: Padded, state: CellState | None = None
    ) -> tuple[Float[Tensor, "rows time features"], CellState]:
        """All steps by a fused kernel, and the state after each row's last real step; from zeros if none is given."""
        # packing knows no rows without steps: one is taken, and their state put back
        lengths = inputs.lengths.clamp(min=1).cpu()
        packed = pack_padded_sequence(inputs.values, lengths, batch_first=True, enforce_sorted=False)
        given = None if state is None else tuple(one[None] for one in state)
        outputs, after = self.network(packed, given if given is None or len(given) > 1 else given[0])
        values, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.values.shape[1])
        finals = tuple(one[-1] for one in (after if isinstance(after, tuple) else (after,)))
        if state is None:
            return values, finals
        moved = (inputs.lengths > 0)[:, None]
        return values, tuple(torch.where(moved, new, old) for new, old in zip(finals, state, strict=True))

    def entering(self, inputs: Float[Tensor, "*steps inputs"]) -> Float[Tensor, "*steps gates"]:
        """What inputs add to the gates, of one direction; before a loop, for all its steps at once."""
        weight, _, bias, _ = self._weights
        return F.linear(inputs, weight, bias)

    def step(self, entering: Float[Tensor, "rows gates"], state: CellState) -> CellState:
        """One step of one direction."""
        _, weight, _, bias = self._weights
        return self.cell.step(entering, F.linear(state[0], weight, bias), state)


class LayersAbove(nn.Module):
    """What stands on a first recurrent layer; ``residual``: each adds what it is given (Wu et al. 2016, 1609.08144).

    Dropout is between layers. All may be given something ``beside`` the features of the layer below, such as a context.
    """

    def __init__(self, layers: Iterable[Recurrence], dropout: nn.Module, residual: bool):
        super().__init__()
        self.layers, self.dropout, self.residual = nn.ModuleList(layers), dropout, residual

    def forward(
        self,
        features: Padded,
        states: tuple[CellState, ...] | None = None,
        beside: Float[Tensor, "rows time context"] | None = None,
    ) -> tuple[Float[Tensor, "rows time features"], tuple[CellState, ...]]:
        """All steps, layer after layer, and every layer's state after each row's last real step."""
        values, finals = features.values, []
        for layer, state in zip(self.layers, states or [None] * len(self.layers), strict=True):
            inputs = self.dropout(values)
            inputs = inputs if beside is None else torch.cat([inputs, beside], -1)
            found, final = layer(features._replace(values=inputs), state)
            values = found + values if self.residual else found
            finals.append(final)
        return values, tuple(finals)

    def masks(self, features: Float[Tensor, "rows time width"]) -> list[Float[Tensor, "rows time width"]]:
        """What `step` multiplies by between layers, drawn for all steps at once."""
        return [self.dropout(torch.ones_like(features)) for _ in self.layers]

    def step(
        self,
        values: Float[Tensor, "rows width"],
        states: tuple[CellState, ...],
        masks: list[Float[Tensor, "rows width"]],
    ) -> tuple[Float[Tensor, "rows width"], tuple[CellState, ...]]:
        """One step of every layer."""
        after = []
        for layer, state, mask in zip(cast(Iterable[Recurrence], self.layers), states, masks, strict=True):
            state = layer.step(layer.entering(values * mask), state)
            values = state[0] + values if self.residual else state[0]
            after.append(state)
        return values, tuple(after)


class VariationalDropout(nn.Module):
    """Dropout with one mask for all steps of a row (Gal and Ghahramani 2016, arXiv 1512.05287).

    For what enters and leaves a recurrent layer; what returns into it is not dropped, so that fused kernels can run it.
    """

    def __init__(self, drop: float):
        super().__init__()
        self.drop = drop

    def forward(self, inputs: Float[Tensor, "rows time width"]) -> Float[Tensor, "rows time width"]:
        if not self.training:
            return inputs
        return inputs * drop(inputs.new_ones(len(inputs), 1, inputs.shape[2]), self.drop)


def dropout_of(share: float, variational: bool) -> Dropout | VariationalDropout:
    return VariationalDropout(share) if variational else Dropout(share)


def draw(weight: Float[Tensor, "gates inputs"], width: int, initialise: Callable[[Tensor], Tensor]) -> None:
    """The matrix of each gate, of ``width`` features, on its own."""
    for gate in weight.detach().split(width):
        initialise(gate)


def after_last_step(history: list[Nest], lengths: Int[Tensor, "rows"]) -> Nest:
    """Of nests before the first step and after each, what rows have after the first ``lengths[r]`` of the steps."""
    first = history[0]
    if isinstance(first, Tensor):
        return torch.stack(history)[lengths, torch.arange(len(lengths), device=lengths.device)]
    of_children = zip(*(children_of(nest).values() for nest in history), strict=True)
    return rebuild(first, [after_last_step(list(children), lengths) for children in of_children])
