"""What is proposed where nothing was asked for: a function from the data to a recipe, and the reason in words."""

import math
import re
from collections import Counter

import numpy as np

from regard.data.batching import Batching, first_pool, padding
from regard.data.corpus import Corpus
from regard.data.scaling import season_of
from regard.data.series import Borders
from regard.data.series_files import SeriesFiles
from regard.data.splitting import tags_of
from regard.data.tokenisers import HAN
from regard.recipe import Recipe
from regard.tasks.encoded import Examples
from regard.tasks.forecast import ForecastSettings
from regard.tasks.sources import ReadsSource

Reasons = list[tuple[str, str]]
"""What was decided, and why, in the order of decisions."""

EPOCHS = 40
EVALUATIONS = 20
FEWEST_PASSES = 5
"""Over the data, below which a smaller model learns more in the same time."""

SAMPLED = 1_000_000
MOST_REACH = 512


def propose_vocabulary(recipe: Recipe, corpus: Corpus) -> tuple[Recipe, str]:
    roles = _text_roles(recipe, corpus)
    if not roles:
        return recipe, "none: what is read is no text, and what is answered has units or labels of its own"
    found = Counter[str]()
    for side in roles:
        for text in corpus.train.texts(side, SAMPLED):
            found.update(text)
    characters, distinct = found.total() * max(len(corpus.train) // SAMPLED, 1), len(found)
    if recipe.vocabulary.kind == "characters":
        return recipe, f"{distinct:,} different characters, all others as bytes"
    growth = 16 if recipe.vocabulary.kind == "merges" else 1 if recipe.task.kind == "continue" else 4
    size = min(max(growth * math.isqrt(characters), 500), 32_000)
    size = min(max(round(size, -2), 300 + 2 * distinct + len(tags_of(corpus.train))), 32_000)
    han = any(re.match(f"[{HAN}]", character) for character in found)
    apart = ", Han characters apart (Li et al. 2019, arXiv 1905.05526)" if han else ""
    reason = f"at most {size:,} joint subword pieces with byte fallback{apart}, for {characters:,} characters of text"
    vocabulary = recipe.vocabulary.model_copy(update={"size": size, "split_han": han})
    return recipe.model_copy(update={"vocabulary": vocabulary}), reason


def _text_roles(recipe: Recipe, corpus: Corpus) -> list[str]:
    """What a vocabulary is learnt from."""
    reads_text = not isinstance(recipe.task, ReadsSource) or recipe.task.source.kind == "text"
    written = ("target",) if recipe.task.kind == "generate" else ()
    return [role for role in (("source", "passage", "target") if reads_text else written) if role in corpus.train.roles]


def propose_windows(recipe: Recipe) -> tuple[Recipe, str]:
    """How far a forecast looks back: four horizons, two seasons at least, and not beyond what the series has."""
    assert isinstance(recipe.data, SeriesFiles) and isinstance(recipe.task, ForecastSettings)
    series, horizon = recipe.data.read()[0], recipe.task.horizon
    given = Borders(*recipe.data.borders) if recipe.data.borders else None
    trained = [one[: max((given or Borders.of(len(one), horizon)).train, 0)] for one in series]
    longest = max(trained, key=len)
    changing = [one.values / one.values.std(0).clip(min=1e-300) for one in trained if len(one)]
    season = season_of(changing, longest.clock, len(longest) // 2) if changing else 1
    wanted = max(4 * horizon, 2 * season)
    reach = max(min(wanted, MOST_REACH, (len(longest) - horizon) // 2), 1)
    again = f"changes come again every {season} steps" if season > 1 else "no season was found"
    reason = f"look back {reach} steps and ahead {horizon} (--horizon): {again}"
    return recipe.model_copy(update={"task": recipe.task.model_copy(update={"input": reach})}), reason


def propose_model(recipe: Recipe, examples: Examples) -> tuple[Recipe, str]:
    tokens = int(examples.lengths[np.arange(len(examples))].sum(axis=0).max())
    model = recipe.model.sized_for(tokens)
    reason = f"{model.describe()}: fits {tokens:,} tokens; a larger one would learn them by heart"
    return recipe.model_copy(update={"model": model}), reason


def propose_smaller(recipe: Recipe, passes: float) -> tuple[Recipe, str] | None:
    """What a time limit makes better than the model that fits the data; none below the smallest."""
    model = recipe.model.smaller()
    if model is None or passes >= FEWEST_PASSES:
        return None
    reason = f"{model.describe()}: width {recipe.model.width} would see the data {passes:.1f} times within the limit"
    return recipe.model_copy(update={"model": model}), reason


def updates_a_pass(recipe: Recipe, examples: Examples) -> int:
    """How many updates see all of the data once."""
    batches, parts = first_pool(examples.lengths, recipe.batching, recipe.training.seed)
    return max(round(len(batches) * parts) // recipe.training.accumulate, 1)


def propose_batch(recipe: Recipe, examples: Examples) -> tuple[Recipe, str]:
    """About a hundred updates an epoch, within what keeps the processor busy and the memory free."""
    longest = examples.lengths[np.arange(len(examples))].max(axis=1)
    tokens = min(max(2 ** round(math.log2(max(int(longest.sum()) / 100, 1))), 512), 4096)
    batching = Batching(tokens=tokens)
    share = padding(examples.lengths, first_pool(examples.lengths, batching, recipe.training.seed)[0]).share
    reason = f"{tokens:,} tokens a side, rows of like length together: {share:.1%} padding"
    return recipe.model_copy(update={"batching": batching}), reason


def propose_steps(recipe: Recipe, examples: Examples) -> tuple[Recipe, str]:
    epoch = updates_a_pass(recipe, examples)
    steps = min(max(EPOCHS * epoch, 2000), 100_000)
    recipe = with_steps(recipe, steps, patience=8)
    rate = 0.4 / recipe.model.width  # the wider, the smaller (Yang et al. 2022, arXiv 2203.03466)
    optimisation = recipe.training.optimisation.model_copy(update={"learning_rate": rate})
    training = recipe.training.model_copy(update={"optimisation": optimisation})
    reason = (
        f"{steps:,} updates, {steps / epoch:.0f} times over the data, stopping when dev no longer improves; "
        f"learning rate up to {rate:.4f}"
    )
    return recipe.model_copy(update={"training": training}), reason


def with_steps(recipe: Recipe, steps: int, evaluations: int = EVALUATIONS, **more: int) -> Recipe:
    """A number of steps, with a schedule and evaluations to match."""
    warmup = min(max(steps // 8, 20), 2000)
    every = max(steps // evaluations, 50)
    optimisation = recipe.training.optimisation.model_copy(update={"warmup": warmup})
    changes = {"steps": steps, "evaluate_every": every, "checkpoint_every": every, "optimisation": optimisation}
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=changes | more)})
