"""A trained model as its users meet it: raw rows in, answers out, and what the model looked at on the way."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from regard.data.rows import Row
from regard.decoding.search import Search
from regard.errors import DataError, InputError, SettingsError
from regard.evaluation import Evaluation, answer_rows, evaluate, nothing_to_look_at
from regard.inspection.alignment import AttentionMaps
from regard.metrics.bootstrap import Comparison, paired_bootstrap
from regard.metrics.text import paired_bootstrap_of_texts
from regard.run_folder import RunFolder
from regard.settings import parse
from regard.tasks.task import Cutting, Prediction, Scoring
from regard.training.objective import build_objective

CHUNK = 1024
"""Lines of a stream that are sorted by length and decoded together."""


class Predictor:
    """A model with its task and fields, ready for raw rows."""

    def __init__(self, folder: RunFolder, device: torch.device):
        self.folder, self.recipe = folder, folder.recipe()
        self.task = folder.task()
        self.model = build_objective(self.task, self.recipe.model, self.recipe.training.seed).model
        folder.load_weights(self.model)
        self.model.to(device).eval()
        self.device = device

    def predict(
        self, rows: Sequence[str | Row], *, prefixes: Sequence[str] | None = None, **options: Any
    ) -> list[Prediction]:
        """Answers in the order of the rows.

        A row is a text, or a mapping with "source" and, for models trained with tags, "tag". ``prefixes`` begin each
        answer. ``options`` override the recipe's search: beam, n_best, length_penalty, min_length, max_length,
        no_repeat_ngram; or sample, temperature, top_k, top_p and seed, by which answers are drawn. A blank row gets a
        blank answer.

        Raises:
            DataError: a row is not one, or its tag is missing or unknown; there are not as many prefixes as rows, or
                answers cannot have any.
            SettingsError: an option is unknown or out of range.
        """
        if isinstance(rows, str):
            raise DataError("one text where rows are wanted", hint="predict([text])")
        return self._answers(rows, 1, prefixes, **options)

    def _answers(
        self, rows: Sequence[str | Row], first: int, prefixes: Sequence[str] | None, **options: Any
    ) -> list[Prediction]:
        """``first`` is the number by which messages call the first row."""
        if prefixes and len(prefixes) != len(rows):
            raise DataError(f"{len(prefixes)} prefixes for {len(rows)} rows", hint="give one for each row, or none")
        if prefixes and self.task.no_prefix:
            raise DataError(self.task.no_prefix, hint="leave the prefix out")
        normal = [self.task.row(row) for row in rows]
        begun = [self.task.written(prefix) for prefix in prefixes] if prefixes else None
        return answer_rows(self.task, self.model, normal, self.search(**options), first=first, prefixes=begun)

    def stream(
        self, rows: Iterable[str | Row], *, prefix: str | None = None, at_once: int | None = None, **options: Any
    ) -> Iterator[Prediction]:
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
        return evaluate(self.task, self.model, self._with_targets(rows), self.search(**options), scoring)

    def compare(
        self, other: "Predictor", rows: Sequence[Row], *, scoring: Scoring = Scoring(), **options: Any
    ) -> dict[str, Comparison]:
        """The scores of both on the same rows, and how likely chance alone would make a difference this large.

        Raises:
            InputError: they do different things, or scores are of windows that overlap.
            DataError: there is no row, or one without source or target.
        """
        verb, others = self.recipe.task.kind, other.recipe.task.kind
        if verb != others:
            raise InputError(f"one run is to {verb}, the other to {others}", hint="compare runs of the same verb")
        if isinstance(self.task, Cutting):
            found = "windows of a series overlap, and drawing them again says nothing about chance"
            raise InputError(found, hint="score each with regard evaluate")
        rows = self._with_targets(rows)
        ours, theirs = (one.evaluate(rows, scoring=scoring, **options) for one in (self, other))
        if "bleu" in ours.scores.values:
            return paired_bootstrap_of_texts(ours.texts, theirs.texts, [row["target"] for row in rows], *scoring)

        def score(answers: Sequence[Prediction], places: Sequence[int]) -> Mapping[str, float]:
            drawn = [answers[place] for place in places], [rows[place] for place in places]
            return self.task.score(*drawn, scoring).values

        scores = partial(score, ours.predictions), partial(score, theirs.predictions)
        return paired_bootstrap(*scores, len(rows), ours.scores.signatures)

    def _with_targets(self, rows: Sequence[Row]) -> list[Row]:
        if not rows:
            raise DataError("there are no rows to score", hint="give rows with a source and a target")
        if isinstance(self.task, Cutting):
            rows = self.task.cut(rows)
        return [self.task.row(row, ("source", "target")) for row in rows]

    def inspect(self, row: str | Row, target: str | None = None, **options: Any) -> AttentionMaps:
        """What the model looks at while it writes its own answer, or the target given."""
        normal = self.task.row(row)
        if self.task.is_blank(normal):
            nothing_to_look_at()
        if target is None:
            return self.predict([normal], **options)[0].attention
        return self.task.look(self.model, self.task.source(normal), self.task.written(target))

    def search(self, **options: Any) -> Search:
        """The recipe's search with some options changed."""
        given = {name: value for name, value in options.items() if value is not None}
        return parse(Search, self.recipe.search.options(**given), "search")


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
