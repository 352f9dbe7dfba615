"""Tasks: verbs over fields. What a row means, which head it needs, its loss, its predictions and its scores."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray
from torch import Tensor

from regard.attention import record
from regard.data.rows import Row
from regard.data.tokenisers import START
from regard.decoding.search import Search
from regard.inspection.alignment import AttentionMaps
from regard.layers.embeddings import TokenEmbedding
from regard.metrics.text import Scored
from regard.models.heads import Head
from regard.models.model import Model, SourceBuilder
from regard.models.parts import Decoded, Loss, Memory, Widths
from regard.padded import Ids, Padded, Record, pad

T = TypeVar("T")


class Example(NamedTuple):
    """A row as the model takes it; text as ids, with their end."""

    source: Record
    target: Record


Redraw = Callable[[Example], Example]
"""A random augmentation, applied whenever an example is drawn for training."""


class Batch(NamedTuple):
    """Examples side by side."""

    source: Padded
    target: Padded

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(self.source.to(device), self.target.to(device))


def _nothing() -> AttentionMaps:
    return AttentionMaps.of((), (), {})


@dataclass(frozen=True)
class Prediction:
    """An answer: its text, its ids and pieces, and the next best answers.

    ``score`` is a log-probability; that of what is searched for token by token is normalised by length, as the search
    says.
    """

    text: str
    score: float
    ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    alternatives: tuple["Prediction", ...] = field(default=())
    look: Callable[[], AttentionMaps] = field(default=_nothing, repr=False, compare=False)

    @staticmethod
    def best_of(ranked: "Iterable[Prediction]") -> "Prediction":
        """The first, with the others as its alternatives."""
        best, *others = ranked
        return replace(best, alternatives=tuple(others))

    @cached_property
    def attention(self) -> AttentionMaps:
        """What every head of every layer looked at while this answer was written; computed when first asked for."""
        return self.look()

    def within(self, row: Row) -> "Prediction":
        """The answer in the terms of its row, such as places in it; most are so already."""
        return self

    def to_json(self) -> dict[str, Any]:
        others = [{"text": one.text, "score": one.score} for one in self.alternatives]
        return {"text": self.text, "score": self.score, "tokens": list(self.tokens), "alternatives": others}


class Scores(NamedTuple):
    """Scores by name (`regard.metrics.names`), how each was computed, and the reference tokens that were counted."""

    values: dict[str, float]
    signatures: dict[str, str]
    reference_tokens: int

    @staticmethod
    def of(scored: Mapping[str, Scored]) -> "Scores":
        return Scores(
            {name: one.score for name, one in scored.items()},
            {name: one.signature for name, one in scored.items()},
            sum(one.reference_tokens or 0 for one in scored.values()),
        )


class Scoring(NamedTuple):
    """How written answers are compared: sacreBLEU's tokenizer (None: by the script) and whether case counts."""

    tokenize: str | None = None
    lowercase: bool = False


@runtime_checkable
class Tabular(Protocol):
    """An answer that is a table."""

    @property
    def header(self) -> tuple[str, ...]:
        """What its columns are called."""

    def cells(self) -> list[tuple[str, ...]]:
        """Its rows."""


@runtime_checkable
class Cutting(Protocol):
    """A task that reads whole files as rows, and is scored on pieces of them."""

    def cut(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The pieces, with their targets."""


@runtime_checkable
class NeedsDecoder(Protocol):
    """Settings of a task whose answer only decoders of some kinds give."""

    decoders: ClassVar[tuple[str, ...]]


@runtime_checkable
class Task(Protocol):
    """What the training loop, evaluation and prediction ask of every verb."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """All it learnt from the training rows, as files by name."""

    @property
    def vocabulary(self) -> int:
        """How many tokens the embedding needs."""

    @property
    def tags(self) -> Collection[str]:
        """Of which each row needs one; none: rows have no tags."""

    @property
    def fingerprint(self) -> str:
        """Identifies how rows become examples: where it is equal, examples that were encoded once can be used again."""

    @property
    def metric(self) -> str:
        """The score by which the best weights are chosen."""

    @property
    def loss_unit(self) -> str:
        """What the mean loss counts, for people."""

    @property
    def blank(self) -> Prediction:
        """The answer to a row that has nothing to answer."""

    @property
    def no_prefix(self) -> str | None:
        """Why its answers cannot go on from a beginning that is given; None: they can."""

    @property
    def baseline_name(self) -> str:
        """What `baseline` does, in two or three words."""

    @property
    def source_builder(self) -> SourceBuilder | None:
        """The embedding of sources that are no tokens."""

    @property
    def redraw(self) -> Redraw | None:
        """An example with its text in other pieces, drawn at random, for training; None: as it is."""

    def head(self, output: TokenEmbedding, widths: Widths) -> Head:
        """What the model ends in; ``output`` has a vector for each token of the vocabulary."""

    def row(self, given: Any, roles: Sequence[str] = ...) -> Row:
        """What a user gave as a row, which must have all these roles.

        Raises:
            DataError: it cannot be one.
        """

    def is_blank(self, row: Row) -> bool:
        """Whether there is nothing to answer."""

    def source(self, row: Row) -> Record:
        """A row's source as the model takes it.

        Raises:
            DataError: the row has none that can be read.
        """

    def written(self, answer: str) -> Ids:
        """The ids of an answer or of its beginning, without an end."""

    def example(self, row: Row) -> Example: ...

    def loss(self, model: Model, batch: Batch) -> Loss: ...

    def predict(self, model: Model, source: Padded, search: Search, prefix: Padded | None = None) -> list[Prediction]:
        """An answer to every row; a prefix is given only where answers can have one."""

    def look(self, model: Model, source: Record, answer: Ids) -> AttentionMaps:
        """What the model looks at on the way to an answer, in a pass of its own; what was answered cannot change."""

    def baseline(self, rows: Sequence[Row]) -> list[Prediction]:
        """Answers that need no model."""

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], scoring: Scoring = ...) -> Scores:
        """Of answers to rows that have their targets."""

    def shown(self, row: Row) -> tuple[str, str]:
        """A row's source and target for people to read."""


@runtime_checkable
class Informing(Protocol):
    """A task that has something better for some weights to begin with than a random draw."""

    def inform(self, model: Model) -> None: ...


def read_off(model: Model, source: Padded, steps: Int[Tensor, "batch"]) -> tuple[Memory, Decoded]:
    """Encodes the source and runs the decoder for ``steps[r]`` steps of row r.

    Every input is the start token, for these answers do not depend on tokens before them.
    """
    memory = model.encode(source)
    starts = torch.full((len(steps), int(steps.max())), START, device=steps.device)
    return memory, model.advance(Padded(starts, steps), memory, model.start(memory, len(steps)))[0]


@torch.inference_mode()
def recorded(model: Model, source: Record, read: Callable[[Padded], T]) -> tuple[dict[str, Tensor], T]:
    """What was looked at while one source was read, (heads, queries, keys) by name, and what was found in it."""
    with record(model) as maps:
        found = read(pad([source]).to(model.device))
    return {name: weights.flatten(0, 1).cpu() for name, weights in maps.items()}, found


def collate(examples: Sequence[Example]) -> Batch:
    return Batch(pad([example.source for example in examples]), pad([example.target for example in examples]))


def lengths_of(examples: Sequence[Example]) -> Int[ndarray, "rows 2"]:
    """The lengths of both sides, for batching."""
    return np.array([(len(one.source), len(one.target)) for one in examples], dtype=np.int64).reshape(-1, 2)
