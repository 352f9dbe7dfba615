"""Recurrent decoders that attend before a step, after it, or not at all; the encoders are beside them."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from regard import trees
from regard.attention import Lengths
from regard.attention.settings import SteppingPart
from regard.attention.stepping import Looked, SteppingAttention
from regard.layers.recurrence import CellState, LayersAbove, Recurrence, after_last_step, draw, dropout_of
from regard.models.parts import Decoded, Encoded, Widths
from regard.models.recurrent_encoder import RecurrentPart
from regard.padded import Padded
from regard.trees import Nest


class RecurrentDecoderPart(RecurrentPart):
    """A recurrent decoder; its states have the model's width unless given another.

    What has nothing to act on is not used: ``attend`` without attention, attention without an encoder.

    ``attend``: ``before`` a step, with the state it begins in, and the context enters the cells (Bahdanau et al. 2015,
    arXiv 1409.0473); or ``after``, with the state it ends in (Luong et al. 2015, arXiv 1508.04025), where by
    ``input_feeding`` what was made of the step before enters as well. Without attention the source is in the first
    state alone (Sutskever et al. 2014, arXiv 1409.3215); without an encoder there is nothing to attend to, and the
    decoder is a language model.
    """

    width: int | None = Field(default=None, ge=1, le=16384, description="of its states")
    attention: SteppingPart | None = SteppingPart()
    attend: Literal["before", "after"] = "before"
    input_feeding: bool = Field(default=True, description="where it attends after a step")
    readout: Literal["tanh", "maxout"] = "tanh"

    def build(self, widths: Widths, dropout: float) -> "RecurrentDecoder":
        if self.attention is None or not widths.memory or (self.attend == "after" and not self.input_feeding):
            return AttendAfter(self, widths, dropout)
        return (AttendBefore if self.attend == "before" else InputFeeding)(self, widths, dropout)

    def describe(self) -> str:
        how = self.attention.score.kind.replace("_", " ") if self.attention else "no"
        layers = f"{self.layers}-layer " if self.layers > 1 else ""
        return f"{layers}{self.cell.upper()} with {how} attention"


class RecurrentMemory(NamedTuple):
    """Keys of the score and encoder states, unless there is no attention; their lengths; all layers' first states."""

    source: Nest
    lengths: Int[Tensor, "batch"]
    first: Float[Tensor, "batch states"]


class RecurrentState(NamedTuple):
    """Every layer's, what is fed to the next step, what attention keeps, and how many steps each row took."""

    cells: tuple[CellState, ...]
    fed: Float[Tensor, "rows output"] | None
    looked: Looked
    lengths: Int[Tensor, "rows"]


class Readout(nn.Module):
    """A step's features: tanh of a projection, or the greater of each two (maxout, Goodfellow et al. 2013)."""

    def __init__(self, kind: Literal["tanh", "maxout"], inputs: int, outputs: int):
        super().__init__()
        self.maxout = kind == "maxout"
        self.projection = nn.Linear(inputs, 2 * outputs if self.maxout else outputs)

    def forward(self, *inputs: Float[Tensor, "*steps _"]) -> Float[Tensor, "*steps output"]:
        projected = self.projection(torch.cat(inputs, -1))
        return torch.maximum(*projected.chunk(2, -1)) if self.maxout else torch.tanh(projected)


class RecurrentDecoder(nn.Module):
    """What all arrangements of cells and attention share.

    The first state of each layer is a projection of the mean encoder state, which any encoder has (Sennrich et al.
    2017, arXiv 1703.04357), where Bahdanau et al. take the backward state at the first word; zeros without an encoder.
    Cells and readout get encoder states as they are, ``context`` features of them (0: no attention); keys are as wide
    as the decoder's states. Layers above the bottom get ``beside`` features more than the states below them.
    """

    feeds: int = 0
    """Width of what was made of a step that enters the next."""

    def __init__(self, part: RecurrentDecoderPart, widths: Widths, dropout: float, context: int, beside: int = 0):
        super().__init__()
        self.width = width = part.width or widths.model
        self.dropout = dropout_of(dropout, part.variational)
        self.first = nn.Linear(widths.memory, part.layers * width) if widths.memory else None
        self.bottom = Recurrence(part.cell, widths.embedded, width)
        above = (Recurrence(part.cell, width + beside, width) for _ in range(part.layers - 1))
        self.above = LayersAbove(above, self.dropout, part.residual)
        self.cross_attention: SteppingAttention | None = None
        if part.attention and context:
            self.where = part.attention.where.build()
            self.cross_attention = part.attention.build(width, context)

    def _walk(self, steps: Padded, memory: Nest, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """What the readout makes of some steps, (rows, time, output), and the state after them."""
        raise NotImplementedError

    def remember(self, encoded: Encoded) -> RecurrentMemory:
        assert self.first is not None  # there is an encoder
        states = encoded.states
        real = states.mask[..., None].to(states.values.dtype)
        mean = (states.values * real).sum(1) / states.lengths.clamp(min=1)[:, None]
        source = self.cross_attention.remember(states.values) if self.cross_attention else None
        return RecurrentMemory(source, states.lengths, torch.tanh(self.first(mean)))

    def start(self, memory: RecurrentMemory | None, rows: int, room: int) -> RecurrentState:
        cells = tuple(layer.start(rows) for layer in (self.bottom, *self.above.layers))
        lengths = torch.zeros(rows, dtype=torch.long, device=cells[0][0].device)
        if memory is None:
            return RecurrentState(cells, None, (), lengths)
        firsts = trees.repeat(memory.first, rows // len(memory.first)).split(self.width, -1)
        cells = tuple((first, *zeros[1:]) for first, zeros in zip(firsts, cells, strict=True))
        looked = self.cross_attention.start(memory.source, rows) if self.cross_attention else ()
        fed = cells[0][0].new_zeros(rows, self.feeds) if self.feeds else None
        return RecurrentState(cells, fed, looked, lengths)

    def advance(self, embedded: Padded, memory: Nest, state: RecurrentState) -> tuple[Decoded, RecurrentState]:
        steps = embedded._replace(values=self.dropout(embedded.values))
        features, state = self._walk(steps, memory, state)
        return Decoded(self.dropout(features)), state

    def _look(
        self,
        states: Float[Tensor, "rows steps width"],
        memory: RecurrentMemory,
        at: Int[Tensor, "rows steps"],
        looked: Looked,
    ) -> tuple[Float[Tensor, "rows steps context"], Looked]:
        assert self.cross_attention is not None
        return self.cross_attention(states, memory.source, Lengths(memory.lengths) & self.where, at, looked)

    def _entering(self, features: int) -> nn.Linear:
        """What is known only within the loop, as it adds to the gates of the bottom layer."""
        entering = nn.Linear(features, self.bottom.gates, bias=False)
        draw(entering.weight, self.width, nn.init.xavier_uniform_)
        return entering


class AttendBefore(RecurrentDecoder):
    """c = attention(s', h), s = cell([y, c], s'), features of s, c and y (Bahdanau et al. 2015, appendix A.2.2).

    Layers above get the same context and run over all steps after the loop of the bottom (GNMT, Wu et al. 2016). The
    readout takes the state after the step, as the paper's text has it; its formula of t has the state before.
    """

    def __init__(self, part: RecurrentDecoderPart, widths: Widths, dropout: float):
        super().__init__(part, widths, dropout, widths.memory, beside=widths.memory)
        self.context = self._entering(widths.memory)
        self.readout = Readout(part.readout, self.width + widths.memory + widths.embedded, widths.output)

    def _walk(self, steps: Padded, memory: Nest, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        history, contexts = [(state.cells[0], state.looked)], []
        for step, entering in enumerate(self.bottom.entering(steps.values).unbind(1)):
            cell, looked = history[-1]
            context, looked = self._look(cell[0][:, None], memory, state.lengths[:, None] + step, looked)
            history.append((self.bottom.step(entering + self.context(context[:, 0]), cell), looked))
            contexts.append(context)
        below, found = torch.stack([cell[0] for cell, _ in history[1:]], 1), torch.cat(contexts, 1)
        top, above = self.above(steps._replace(values=below), state.cells[1:], found)
        cell, looked = after_last_step(history, steps.lengths)
        features = self.readout(top, found, steps.values)
        return features, RecurrentState((cell, *above), None, looked, state.lengths + steps.lengths)


class AttendAfter(RecurrentDecoder):
    """s = cells(y, s'), c = attention(s, h), features of c and s, or of s alone where there is no attention.

    All layers run over all steps at once, and so does an attention that keeps no state.
    """

    def __init__(self, part: RecurrentDecoderPart, widths: Widths, dropout: float):
        context = widths.memory if part.attention else 0
        super().__init__(part, widths, dropout, context)
        self.readout = Readout(part.readout, self.width + context, widths.output)

    def _walk(self, steps: Padded, memory: Nest, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        below, cell = self.bottom(steps, state.cells[0])
        top, above = self.above(steps._replace(values=below), state.cells[1:])
        found, looked = self._contexts(steps._replace(values=top), memory, state)
        return self.readout(top, *found), RecurrentState((cell, *above), None, looked, state.lengths + steps.lengths)

    def _contexts(self, states: Padded, memory: Nest, state: RecurrentState) -> tuple[list[Tensor], Looked]:
        if self.cross_attention is None:
            return [], ()
        at = state.lengths[:, None] + torch.arange(states.values.shape[1], device=states.lengths.device)
        if not self.cross_attention.stateful:
            context, looked = self._look(states.values, memory, at, ())
            return [context], looked
        history, contexts = [state.looked], []
        for query, position in zip(states.values.split(1, 1), at.split(1, 1), strict=True):
            context, looked = self._look(query, memory, position, history[-1])
            history.append(looked)
            contexts.append(context)
        return [torch.cat(contexts, 1)], after_last_step(history, states.lengths)


class InputFeeding(RecurrentDecoder):
    """s = cells([y, h~'], s'), c = attention(s, h), h~ = tanh(W [c; s]) (Luong et al. 2015, section 3.3)."""

    def __init__(self, part: RecurrentDecoderPart, widths: Widths, dropout: float):
        super().__init__(part, widths, dropout, widths.memory)
        self.feeds = widths.output
        self.feed = self._entering(widths.output)
        self.readout = Readout(part.readout, self.width + widths.memory, widths.output)

    def _walk(self, steps: Padded, memory: Nest, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        entering = self.bottom.entering(steps.values)
        masks = self.above.masks(entering[..., : self.width])
        history, features = [(state.cells, state.fed, state.looked)], []
        for step, gates in enumerate(entering.unbind(1)):
            (bottom, *above), fed, looked = history[-1]
            cell = self.bottom.step(gates + self.feed(fed), bottom)
            top, after = self.above.step(cell[0], tuple(above), [mask[:, step] for mask in masks])
            context, looked = self._look(top[:, None], memory, state.lengths[:, None] + step, looked)
            features.append(self.readout(top, context[:, 0]))
            history.append(((cell, *after), features[-1], looked))
        cells, fed, looked = after_last_step(history, steps.lengths)
        return torch.stack(features, 1), RecurrentState(cells, fed, looked, state.lengths + steps.lengths)
