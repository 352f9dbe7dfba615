"""What a model is made of: the values that flow between encoder, decoder and head, and what each must do."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from regard.layers.series import Window
from regard.padded import Padded
from regard.settings import Settings
from regard.trees import Nest


class Memory(NamedTuple):
    """What decoder and head keep of the source: nests of tensors, leaves (batch, ...), fixed while decoding."""

    decoder: Nest
    head: Nest


State = Nest
"""A nest of tensors, leaves (batch * beams, ...), that changes from step to step; row r reads memory r // beams."""


class Decoded(NamedTuple):
    """The decoder's features for each step it was advanced over."""

    features: Float[Tensor, "rows time width"]


@dataclass(frozen=True)
class Loss:
    """A sum and what to divide it by, over all micro-batches; ``parts`` are sums over the same count, for show."""

    total: Float[Tensor, ""]
    count: int
    parts: dict[str, Float[Tensor, ""]]


class Size(NamedTuple):
    """What fits less than so many target tokens of training text."""

    tokens: float
    width: int
    layers: int
    heads: int
    feedforward: int
    dropout: float


class Widths(NamedTuple):
    """How many features a step has: embedded, inside of the model, as the head takes it, and encoded in the memory.

    Without an encoder there is no memory, and its width is 0; where the decoder gives the answer itself, output is 0.
    ``window`` is what all sources and answers have alike where they are windows of a series.
    """

    embedded: int
    model: int
    output: int
    memory: int
    window: Window | None = None


class Encoded(NamedTuple):
    """A source as ids, embedded, and as the encoder understood it."""

    tokens: Padded
    embedded: Padded
    states: Padded

    @property
    def stepwise(self) -> bool:
        """Whether there is a state for each token: an encoder that keeps the steps hands on their very lengths."""
        return self.states.lengths is self.embedded.lengths


class Part(Settings):
    """Settings of one side of a model: each kind has ``build(widths, dropout)`` and ``describe()`` of its own."""

    by_variable: ClassVar[bool] = False
    """Whether the states it gives or reads are of the variables of a series and not of steps."""

    def check(self, width: int) -> None:
        """Raises ValueError where its sizes do not fit the model's width."""

    def memory(self, widths: Widths) -> int:
        """How many features a state of this encoder has."""
        return widths.memory

    def sized(self, size: Size) -> "Part":
        """The same kind for so much text; as it is unless it has sizes beside the model's width."""
        return self


@runtime_checkable
class Encoder(Protocol):
    """Embedded source to encoded source."""

    def __call__(self, embedded: Padded) -> Padded: ...


@runtime_checkable
class Decoder(Protocol):
    """Embedded target steps to features, remembering where it is in an explicit state."""

    def remember(self, encoded: Encoded) -> Nest:
        """All that depends on the source alone, computed once; never asked for without an encoder."""

    def start(self, memory: Nest, rows: int, room: int) -> State:
        """The state before the first step, for ``rows`` = batch * beams rows; ``room`` steps are allocated ahead.

        Here and in `advance`, the memory is None without an encoder.
        """

    def advance(self, embedded: Padded, memory: Nest, state: State) -> tuple[Decoded, State]:
        """Over one step or more of one row or more, of different lengths too; the state given is consumed."""

    def __call__(self, *arguments: Any) -> Any: ...
