"""Planning: look at the data and the machine, propose a recipe, and say why."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from regard.data.corpus import Corpus
from regard.data.pairs import Files
from regard.data.recognition import medium_in, recognise_files
from regard.data.tables import read_table, table_in
from regard.errors import InputError, SettingsError, did_you_mean
from regard.models.model import count_weights
from regard.proposals import (
    Reasons,
    propose_batch,
    propose_model,
    propose_smaller,
    propose_steps,
    propose_vocabulary,
    propose_windows,
    updates_a_pass,
    with_steps,
)
from regard.recipe import Recipe
from regard.recipes import named_recipe
from regard.recipes.plain import READ_MEDIA, VERBS
from regard.runner import learn_task
from regard.settings import load as load_settings
from regard.settings import override
from regard.tasks.encoded import Examples, encode
from regard.tasks.task import Task
from regard.timing import Pace, Trial, measured

FEWEST_STEPS = 20

OVERRULED_BY = {
    "vocabulary": ("vocabulary",),
    "windows": ("task.input",),
    "model": ("model",),
    "batch": ("batching",),
    "steps": ("training.steps", "training.optimisation", "training.patience"),
    "limit": ("training.steps",),
}
"""For each proposal the settings that overrule it; all inside of them do too, but for kinds, which it keeps."""

Measure = Callable[[Recipe, Reasons], tuple[Recipe, Pace]]
"""From a recipe to one with its precision, and its pace on this machine."""


@dataclass(frozen=True)
class Request:
    """What was asked for; the rest is proposed.

    Files as for ``regard train``; ``source``, ``target`` and ``tag`` are columns, where the file does not say;
    ``horizon`` is how many steps to forecast;
    ``recipe`` is a name or a YAML file, ``data_folder`` the data of a named one; ``time_limit`` is like "90s", "30m" or
    "2h"; ``settings`` are like "training.steps=500".
    """

    train: Sequence[str] = ()
    dev: Sequence[str] = ()
    test: Sequence[str] = ()
    source: str | None = None
    target: str | None = None
    tag: str | None = None
    horizon: int | None = None
    task: str | None = None
    recipe: str | None = None
    data_folder: str | None = None
    time_limit: str | None = None
    seed: int | None = None
    settings: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.time_limit is not None:
            seconds(self.time_limit)


class Plan(NamedTuple):
    """A recipe with all it needs, and the reason for each choice."""

    recipe: Recipe
    corpus: Corpus
    task: Task
    reasons: Reasons


def plan(request: Request, device: torch.device) -> Plan:
    """A recipe for what was asked, sized by the data and the machine; what was set stays as it was set.

    Raises:
        DataError, SettingsError: what was given cannot be used.
    """
    limit = seconds(request.time_limit) if request.time_limit else None
    asked = assignments(request)
    recipe, reasons = override(begin(request), asked), Reasons()
    of_series = recipe.data.kind == "series"
    if of_series and not request.recipe:
        recipe = _accept("windows", propose_windows(recipe), asked, reasons)
    corpus = recipe.corpus()
    reasons += [("data", note) for note in corpus.notes]
    if not of_series and not request.recipe:
        recipe = _accept("vocabulary", propose_vocabulary(recipe, corpus), asked, reasons)
    task = learn_task(recipe, corpus)
    examples = encode(task, corpus.train)

    def measure(recipe: Recipe, reasons: Reasons) -> tuple[Recipe, Pace]:
        return measured(Trial(recipe, corpus, task, examples, device, reasons), reasons)

    if request.recipe:
        recipe, pace = measure(recipe, reasons)
    else:
        recipe, pace = _sized(recipe, examples, asked, limit, measure, reasons)
    recipe = _timed(recipe, pace, limit, asked, reasons)
    reasons.append(("weights", _weights(recipe, task)))
    return Plan(recipe, corpus, task, reasons)


def _weights(recipe: Recipe, task: Task) -> str:
    count = count_weights(recipe.model, task.vocabulary, task.head, task.source_builder)
    tokens = "" if task.source_builder else f"; {task.vocabulary:,} tokens"
    return f"{count:,}: {recipe.model.describe()}{tokens}"


def _sized(
    recipe: Recipe, examples: Examples, asked: list[str], limit: float | None, measure: Measure, reasons: Reasons
) -> tuple[Recipe, Pace]:
    """Model, batches and steps that fit the data, measured; the model a smaller one where a limit asks for it."""
    proposal: tuple[Recipe, str] | None = propose_model(recipe, examples)
    while proposal:
        recipe, told = _accept("model", proposal, asked, reasons), Reasons()
        sized, pace = measure(_with_batches_and_steps(recipe, examples, asked, told), told)
        proposal = None
        if limit and not _overruling("model", asked):
            proposal = propose_smaller(recipe, pace.fitting(limit)[0] / updates_a_pass(sized, examples))
    reasons += told
    return sized, pace


def _with_batches_and_steps(recipe: Recipe, examples: Examples, asked: list[str], reasons: Reasons) -> Recipe:
    for label, proposal in (("batch", propose_batch), ("steps", propose_steps)):
        recipe = _accept(label, proposal(recipe, examples), asked, reasons)
    if _overruling("limit", asked):
        recipe = override(with_steps(recipe, recipe.training.steps), asked)
    return recipe


def assignments(request: Request) -> list[str]:
    """What was set, its last value: outer settings before inner ones, and kinds before what is beside them."""
    seed = [] if request.seed is None else [f"training.seed={request.seed}"]
    horizon = [] if request.horizon is None else [f"task.horizon={request.horizon}"]
    last = {one.partition("=")[0]: one for one in (*request.settings, *horizon, *seed)}
    return [last[path] for path in sorted(last, key=lambda path: (path.count("."), not path.endswith("kind")))]


def seconds(text: str) -> float:
    """``90``, ``90s``, ``30m`` or ``2h`` in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not match or not float(match[1]):
        raise SettingsError(f"'{text}' is not a time", where="--time-limit", hint="write 90s, 30m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def begin(request: Request) -> Recipe:
    """The recipe that was named, or one for the files that were given, before anything is proposed.

    Raises:
        InputError: files and a recipe were given, or neither, or the files are for another verb.
    """
    if request.recipe and (request.train or request.dev or request.test):
        hint = "leave one of them out; --set data.train=[FILE] changes the data of a recipe"
        raise InputError(f"data files, and recipe '{request.recipe}', which names its own", hint=hint)
    if request.data_folder and not request.recipe:
        raise InputError("--data is the data folder of a recipe", hint="give --recipe, or the files alone")
    if request.recipe and request.recipe.endswith((".yaml", ".yml")):
        return load_settings(Recipe, Path(request.recipe))
    if request.recipe:
        return named_recipe(request.recipe, request.data_folder)
    if not request.train:
        raise InputError("no data given", hint="regard train pairs.tsv, or regard train --recipe NAME --data DIR")
    sides = {"train": request.train, "dev": request.dev, "test": request.test}
    files = {side: tuple(map(table_in, paths)) for side, paths in sides.items()}
    paths = [Path(path) for path in files["train"]]
    verb = request.task or recognise_files(paths)
    if verb not in VERBS:
        raise InputError(f"no verb '{verb}'", where="--task", hint=did_you_mean(verb, VERBS))
    columns = {"source": request.source, "target": request.target, "tag": request.tag}
    if verb not in READ_MEDIA:
        return VERBS[verb](**files, **columns)
    table = read_table(paths)
    recipe = VERBS[verb](medium_in(table), **files, **columns)
    return recipe.model_copy(update={"data": recipe.data.found_in(table)}) if isinstance(recipe.data, Files) else recipe


def _accept(label: str, proposal: tuple[Recipe, str], asked: list[str], reasons: Reasons) -> Recipe:
    """A proposal with what was asked for, and its reason with the settings that overrule it."""
    recipe, reason = proposal
    overruling = _overruling(label, asked)
    reasons.append((label, f"{reason}; but as asked, {', '.join(overruling)}" if overruling else reason))
    return override(recipe, asked)


def _overruling(label: str, settings: Sequence[str]) -> list[str]:
    paths = ((one, one.partition("=")[0]) for one in settings)
    inside = tuple(f"{path}." for path in OVERRULED_BY[label])
    return [
        one
        for one, path in paths
        if path in OVERRULED_BY[label] or (path.startswith(inside) and not path.endswith("kind"))
    ]


def _timed(recipe: Recipe, pace: Pace, limit: float | None, asked: list[str], reasons: Reasons) -> Recipe:
    """Steps that fit a time limit, unless they were set, and the time that all of them will take."""
    if limit is not None:
        fitting, evaluations = pace.fitting(limit)
        steps = max(fitting, FEWEST_STEPS)
        told = f"{steps:,} updates fit {_duration(limit)} with their evaluations"
        if steps > fitting:
            told = f"{steps} updates, the fewest that teach anything, need more than {_duration(limit)}"
        recipe = _accept("limit", (with_steps(recipe, steps, evaluations), told), asked, reasons)
    expected = _duration(pace.expected(recipe.training))
    reasons.append(("time", f"about {expected}: {recipe.training.steps:,} updates of {pace.update * 1000:.0f} ms"))
    return recipe


def _duration(seconds: float) -> str:
    if seconds > 100:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
