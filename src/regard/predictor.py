"""A trained model as its users meet it: raw rows in, answers out, and what the model looked at on the way."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from regard.attention import record
from regard.data.rows import Row
from regard.data.tokenisers import END
from regard.decoding.search import Search
from regard.errors import DataError, SettingsError
from regard.evaluation import Evaluation, evaluate, predict_rows, source_of
from regard.inspection.alignment import AttentionMaps, on_axes
from regard.padded import pad
from regard.run_folder import RunFolder
from regard.runner import build_task
from regard.settings import parse
from regard.tasks.generate import delayed
from regard.tasks.task import Prediction, Scoring
from regard.training.objective import build_objective

CHUNK = 1024
"""Lines of a stream that are sorted by length and decoded together."""


@dataclass(frozen=True)
class Answer:
    """An answer to one row; ``attention`` is computed when it is first asked for."""

    text: str
    score: float
    tokens: tuple[str, ...]
    alternatives: tuple[Prediction, ...]
    _look: Callable[[], AttentionMaps] = field(repr=False)

    @cached_property
    def attention(self) -> AttentionMaps:
        """What every head of every layer looked at while this answer was written."""
        return self._look()

    def to_json(self) -> dict[str, Any]:
        others = [{"text": one.text, "score": one.score} for one in self.alternatives]
        return {"text": self.text, "score": self.score, "tokens": list(self.tokens), "alternatives": others}


class Predictor:
    """A model with its task and fields, ready for raw rows."""

    def __init__(self, folder: RunFolder, device: torch.device):
        self.folder, self.recipe = folder, folder.recipe()
        self.field = folder.field()
        self.task = build_task(self.recipe, self.field)
        self.model = build_objective(self.task, self.recipe.model, self.recipe.training.seed).model
        folder.load_weights(self.model)
        self.model.to(device).eval()
        self.device = device

    def predict(
        self, rows: Sequence[str | Row], *, prefixes: Sequence[str] | None = None, **options: Any
    ) -> list[Answer]:
        """Answers in the order of the rows.

        A row is a text, or a mapping with "source" and, for models trained with tags, "tag". ``prefixes`` begin each
        answer. ``options`` override the recipe's search: beam, n_best, length_penalty, min_length, max_length,
        no_repeat_ngram. A blank row gets a blank answer.

        Raises:
            DataError: a row is not one, or its tag is missing or unknown; there are not as many prefixes as rows.
            SettingsError: an option is unknown or out of range.
        """
        if isinstance(rows, str):
            raise DataError("one text where rows are wanted", hint="predict([text])")
        return self._answers(rows, 1, prefixes, **options)

    def _answers(
        self, rows: Sequence[str | Row], first: int, prefixes: Sequence[str] | None, **options: Any
    ) -> list[Answer]:
        """``first`` is the number by which messages call the first row."""
        if prefixes and len(prefixes) != len(rows):
            raise DataError(f"{len(prefixes)} prefixes for {len(rows)} rows", hint="give one for each row, or none")
        normal = [_row(row) for row in rows]
        filled = [index for index, row in enumerate(normal) if row["source"].strip()]
        begun = [self.field.encode(prefixes[index]) for index in filled] if prefixes else None
        sources = [source_of(self.task, normal[index], first + index) for index in filled]
        found = predict_rows(self.task, self.model, sources, self.search(**options), prefixes=begun)
        answers = dict(zip(filled, found, strict=True))
        return [self._answer(row, answers.get(index)) for index, row in enumerate(normal)]

    def stream(
        self, rows: Iterable[str | Row], *, prefix: str | None = None, at_once: int | None = None, **options: Any
    ) -> Iterator[Answer]:
        """Answers in order, as soon as ``at_once`` rows (`CHUNK` unless told) are there; flat memory for any number."""
        rows, first = iter(rows), 1
        while chunk := list(islice(rows, at_once or CHUNK)):
            yield from self._answers(chunk, first, [prefix] * len(chunk) if prefix else None, **options)
            first += len(chunk)

    def evaluate(self, rows: Sequence[Row], *, scoring: Scoring = Scoring(), **options: Any) -> Evaluation:
        """Scores on rows with "source" and "target", beside the trivial baseline.

        Raises:
            DataError: there is no row, or one without source or target.
        """
        if not rows:
            raise DataError("there are no rows to score", hint="give rows with a source and a target")
        rows = [_row(row, ("source", "target")) for row in rows]
        return evaluate(self.task, self.model, rows, self.search(**options), scoring)

    def inspect(self, row: str | Row, target: str | None = None, **options: Any) -> AttentionMaps:
        """What the model looks at while it writes its own answer, or the target given."""
        normal = _row(row)
        if not normal["source"].strip():
            raise DataError("there is nothing to look at in an empty text", hint="give a text of at least one word")
        if target is None:
            return self.predict([normal], **options)[0].attention
        return self._attention(normal, self.field.encode(target))

    def search(self, **options: Any) -> Search:
        """The recipe's search with some options changed."""
        given = {name: value for name, value in options.items() if value is not None}
        if "beam" in given:
            given = {"n_best": 1} | given
        return parse(Search, self.recipe.search.model_dump() | given, "search")

    def _answer(self, row: Row, found: Prediction | None) -> Answer:
        if found is None:
            return Answer("", 0.0, (), (), lambda: self.inspect(row))
        return Answer(
            found.text, found.score, found.tokens, found.alternatives, lambda: self._attention(row, list(found.ids))
        )

    @torch.inference_mode()
    def _attention(self, row: Row, target: list[int]) -> AttentionMaps:
        """One pass over source and answer with every attention recorded; it cannot change the answer any more."""
        source, target = self.field.source(row), [*target, END]
        with record(self.model) as maps:
            memory = self.model.encode(pad([source]).to(self.device))
            steps = delayed(pad([target]).to(self.device))
            decoded, _ = self.model.advance(steps, memory, self.model.start(memory, 1))
            self.model.log_probs(decoded, memory)  # a head that copies looks too
        pieces, seen = self.field.pieces, {name: weights[0].cpu() for name, weights in maps.items()}
        return AttentionMaps.of(pieces(source), pieces(target), on_axes(seen, len(source), len(target)))


def load(folder: str | Path, device: str = "auto") -> Predictor:
    """The model of a run folder. Nothing is ever unpickled.

    Raises:
        RunError: there is no trained model there, or it is damaged.
    """
    return Predictor(RunFolder(folder), find_device(device))


def find_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one.

    Raises:
        SettingsError: there is no such device here.
    """
    gpus = ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    here = ["cpu", *(gpus if torch.cuda.is_available() else ())]
    if name == "auto":
        name = "cuda" if "cuda" in here else "cpu"
    if name not in here:
        raise SettingsError(f"no device '{name}' here", where="device", hint=f"known: auto, {', '.join(here)}")
    return torch.device(name)


def _row(row: str | Row, roles: Sequence[str] = ("source",)) -> Row:
    if isinstance(row, str):
        row = {"source": row}
    if isinstance(row, Mapping) and all(isinstance(row.get(role), str) for role in roles):
        return row
    raise DataError(f"a row is a text or a mapping with {' and '.join(map(repr, roles))}, not {row!r}")
