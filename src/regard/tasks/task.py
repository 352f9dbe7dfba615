"""Tasks: verbs over fields. What a row means, which head it needs, its loss, its predictions and its scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray

from regard.data.rows import Row
from regard.decoding.search import Search
from regard.layers.embeddings import TokenEmbedding
from regard.models.heads import Head
from regard.models.model import Model
from regard.models.parts import Loss, Widths
from regard.padded import Ids, Padded, pad


class Example(NamedTuple):
    """A row as ids, each side with its end."""

    source: Ids
    target: Ids


class Batch(NamedTuple):
    """Examples side by side."""

    source: Padded
    target: Padded

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(self.source.to(device), self.target.to(device))


@dataclass(frozen=True)
class Prediction:
    """An answer: its text, its length-normalised log-probability, its ids and pieces, and the next best answers."""

    text: str
    score: float
    ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    alternatives: tuple["Prediction", ...] = field(default=())


class Scores(NamedTuple):
    """Scores from 0 to 100 by name, how each was computed, and the reference tokens that BLEU counts."""

    values: dict[str, float]
    signatures: dict[str, str]
    reference_tokens: int


class Scoring(NamedTuple):
    """How written answers are compared: sacreBLEU's tokenizer (None: by the script) and whether case counts."""

    tokenize: str | None = None
    lowercase: bool = False


@runtime_checkable
class Task(Protocol):
    """What the training loop, evaluation and prediction ask of every verb."""

    @property
    def vocabulary(self) -> int:
        """How many tokens the embedding needs."""

    @property
    def fingerprint(self) -> str:
        """What examples depend on beside their row; equal for tasks that encode alike."""

    @property
    def metric(self) -> str:
        """The score by which the best weights are chosen; higher is better."""

    @property
    def redraw(self) -> Callable[[Ids], Ids] | None:
        """The same ids cut into other pieces at random, for training; None: as they are."""

    def head(self, output: TokenEmbedding, widths: Widths) -> Head:
        """What the model ends in; ``output`` has a vector for each token of the vocabulary."""

    def source(self, row: Row) -> Ids:
        """The ids of a row's source, with their end."""

    def example(self, row: Row) -> Example: ...

    def loss(self, model: Model, batch: Batch) -> Loss: ...

    def predict(
        self, model: Model, source: Padded, search: Search, prefix: Padded | None = None
    ) -> list[Prediction]: ...

    def baseline(self, rows: Sequence[Row]) -> list[str]:
        """Answers that need no model."""

    def score(self, predictions: Sequence[str], references: Sequence[str], scoring: Scoring = ...) -> Scores: ...


def collate(examples: Sequence[Example]) -> Batch:
    return Batch(pad([example.source for example in examples]), pad([example.target for example in examples]))


def lengths_of(examples: Sequence[Example]) -> Int[ndarray, "rows 2"]:
    """The lengths of both sides, for batching."""
    return np.array([(len(one.source), len(one.target)) for one in examples], dtype=np.int64).reshape(-1, 2)
