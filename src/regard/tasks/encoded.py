"""Rows as examples: encoded once into flat arrays, or when they are asked for."""

import hashlib
from itertools import islice
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from regard.data.arrays import CHUNK, Arrays, Ragged, kept
from regard.data.batching import Lengths
from regard.data.rows import MadeRows, Rows
from regard.padded import Record
from regard.tasks.task import Batch, Example, Redraw, Task, collate, lengths_of


@runtime_checkable
class Examples(Protocol):
    """Examples by number."""

    @property
    def lengths(self) -> Lengths:
        """How long both sides of any of them are."""

    def __len__(self) -> int: ...

    def batch(self, rows: Int[ndarray, "rows"]) -> Batch:
        """Some of them side by side; what is drawn at random follows torch's generator."""


@runtime_checkable
class Packing(Protocol):
    """A task that learns from examples other than one a row."""

    def pack(self, rows: "Encoded") -> Examples: ...


class Made:
    """Examples of rows that are made when they are asked for, each once in advance to know its lengths."""

    def __init__(self, task: Task, rows: MadeRows):
        self.task, self.rows = task, rows
        self.lengths = np.concatenate([lengths_of([task.example(row)]) for row in rows])

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Int[ndarray, "rows"]) -> Batch:
        return _drawn([self.task.example(self.rows[row]) for row in rows.tolist()], self.task.redraw)


class Encoded:
    """Examples that were encoded once."""

    def __init__(self, source: Ragged, target: Ragged, redraw: Redraw | None = None):
        self.source, self.target, self.redraw = source, target, redraw

    @property
    def lengths(self) -> "SideLengths":
        return SideLengths(self)

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, rows: Int[ndarray, "rows"]) -> Batch:
        """Rows side by side."""
        return _drawn([Example(self.source[row], self.target[row]) for row in rows.tolist()], self.redraw)


def _drawn(examples: list[Example], redraw: Redraw | None) -> Batch:
    """Side by side, in other pieces each time if the task redraws them."""
    return collate([redraw(example) for example in examples] if redraw else examples)


class SideLengths:
    """The lengths of both sides of the rows asked for, found out when they are."""

    def __init__(self, encoded: Encoded):
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, rows: Int[ndarray, "rows"]) -> Int[ndarray, "rows 2"]:
        return np.stack([self.encoded.source.lengths(rows), self.encoded.target.lengths(rows)], axis=1)


def encode(task: Task, rows: Rows) -> Examples:
    """All rows as examples; those of a corpus on disk lie beside it and are encoded once for each vocabulary.

    Raises:
        DataError: a row cannot be encoded, or there is no room for them.
    """
    if isinstance(rows, MadeRows) and not rows.kept:
        return Made(task, rows)
    folder = rows.folder
    if folder:
        name = hashlib.blake2b(f"{task.fingerprint} {rows.digest()}".encode(), digest_size=16).hexdigest()
        folder = folder / name
    with kept(folder) as arrays:
        if not arrays.done:
            _fill(arrays, task, rows)
    encoded = Encoded(arrays.ragged("source"), arrays.ragged("target"), task.redraw)
    return task.pack(encoded) if isinstance(task, Packing) else encoded


def _fill(arrays: Arrays, task: Task, rows: Rows) -> None:
    """What was added before an interruption is not added again."""
    few = task.vocabulary <= 1 << 16 and not task.source_builder  # whose ids may be any
    kind = np.uint16 if few else np.int32
    waiting = map(rows.__getitem__, range(len(arrays["source.ends"]), len(rows)))
    while chunk := [task.example(row) for row in islice(waiting, CHUNK)]:
        sides = {name: [_compact(getattr(one, name), kind) for one in chunk] for name in Example._fields}
        arrays.append(arrays.records("source", sides["source"]) | arrays.records("target", sides["target"]))
    arrays.finish()


def _compact(record: Record, kind: type) -> ndarray:
    """Ids in as few bytes as hold them; features as they are."""
    return np.asarray(record) if np.ndim(record) > 1 else np.array(record, kind)
