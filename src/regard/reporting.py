"""What a run ends with: a page with its curve, scores, samples and what the model looked at; and a model card."""

import os
import shlex
import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regard.data.corpus import Corpus, FromFiles
from regard.data.rows import Row
from regard.files import write_whole
from regard.inspection.report import Group, Report, Sample, training_report
from regard.metrics.names import shown
from regard.predictor import Predictor
from regard.runner import Trained, answered_rows, spread
from regard.tasks.task import Prediction
from regard.training.loop import read_journal

MOST_GROUPED = 5000
"""Rows answered again to score groups by themselves."""


def write_report(predictor: Predictor, corpus: Corpus, trained: Trained) -> None:
    """``report.html`` and ``README.md`` in the run folder."""
    folder, journal = predictor.folder, read_journal(predictor.folder.metrics_file)
    rows = spread(answered_rows(predictor.recipe, corpus))
    answers = predictor.predict(rows)
    report = Report(
        title=f"{folder.path.name}: {predictor.recipe.model.describe()}",
        summary={
            "Weights": f"{sum(weight.numel() for weight in predictor.model.parameters()):,}",
            "Steps": f"{trained.steps:,}",
            "Training time": f"{trained.seconds:.0f} s",
            "Training rows": f"{len(corpus.train):,}",
            "Scored on": f"{len(corpus.test or corpus.dev):,} {trained.scored_on} rows",
        },
        data_note=" ".join(corpus.notes),
        curve=journal,
        loss_unit=predictor.task.loss_unit,
        scores=trained.scores,
        baseline=trained.baseline,
        signatures=trained.signatures,
        groups=_by_tag(predictor, (corpus.test or corpus.dev)[:MOST_GROUPED]) if predictor.task.tags else {},
        samples=[
            _sample(row, predictor.task.shown(row), answer, journal, index)
            for index, (row, answer) in enumerate(zip(rows, answers, strict=True))
        ],
        attention=[answer.attention for answer in answers],
        next_commands=next_commands(predictor, corpus.dev[0]),
    )
    write_whole(folder.report_file, _bytes(training_report(report)))
    write_whole(folder.path / "README.md", _bytes(_card(predictor, corpus, trained)))


def _bytes(text: str) -> bytes:
    """A file's name need not be UTF-8."""
    return text.encode(errors="backslashreplace")


def next_commands(predictor: Predictor, row: Row) -> list[str]:
    """What to try with a trained model."""
    program, run = _program(), shlex.quote(str(predictor.folder.path))
    first, looked_at = _answering(predictor, row, program, run)
    return [first, f"{program} inspect {run} {looked_at} --out attention.html", f"{program} config {run}"]


def _answering(predictor: Predictor, row: Row, program: str, run: str) -> tuple[str, str]:
    """A command that answers, and what the command that looks is given."""
    data = predictor.recipe.data
    if not isinstance(row["source"], str) and isinstance(data, FromFiles):
        file = shlex.quote(data.train[0])
        return f"{program} predict {run} {file}", file
    tag = f" --tag {shlex.quote(row['tag'])}" if "tag" in row else ""
    given = row["source"] or row["target"].partition("\n")[0] if isinstance(row["source"], str) else "SOURCE"
    source = shlex.quote(f"{given}\t{row['passage']}" if "passage" in row else given)
    return f"echo {source} | {program} predict {run}{tag}", f"{source}{tag}"


def _program() -> str:
    """How this installation is called: by name where the shell finds it, otherwise by its path."""
    beside = Path(sys.executable).with_name("regard")
    return os.path.relpath(beside) if beside.exists() and not shutil.which("regard") else "regard"


def _by_tag(predictor: Predictor, rows: Sequence[Row]) -> dict[str, Group]:
    """Exact match, rows and an example for every tag."""
    right: dict[str, list[bool]] = defaultdict(list)
    for row, answer in zip(rows, predictor.predict(rows), strict=True):
        right[row["tag"]].append(answer.text == row["target"])
    examples = {row["tag"]: predictor.task.shown(row)[0] for row in reversed(rows)}
    return {tag: Group(100 * sum(marks) / len(marks), len(marks), examples[tag]) for tag, marks in right.items()}


def _sample(row: Row, shown: tuple[str, str], answer: Prediction, journal: list[dict[str, Any]], index: int) -> Sample:
    history = [(line["step"], line["samples"][index]) for line in journal if index < len(line.get("samples", ()))]
    sample = Sample(source=shown[0], reference=shown[1], prediction=answer.text, history=history)
    return sample | {"tag": row["tag"]} if "tag" in row else sample


def _card(predictor: Predictor, corpus: Corpus, trained: Trained) -> str:
    scores = "\n".join(
        f"| {name} | {shown(name, score)} | {shown(name, trained.baseline[name])} | `{trained.signatures[name]}` |"
        for name, score in trained.scores.items()
    )
    notes = "\n".join(f"* {note}" for note in corpus.notes)
    return f"""# {predictor.folder.path.name}

A model made by regard: {predictor.recipe.model.describe()}; {trained.steps:,} steps, {trained.seconds:.0f} seconds.

{notes}

| on {trained.scored_on} | model | {predictor.task.baseline_name} | signature |
|---|---|---|---|
{scores}

`regard predict {predictor.folder.path} FILE` uses it; `recipe.yaml` holds every setting.
"""
