"""What is proposed where nothing was asked for: a function from the data to a recipe, and the reason in words."""

import math
from collections import Counter

import numpy as np

from regard.data.batching import Batching, first_pool, padding
from regard.data.corpus import Corpus
from regard.data.tokenisers import Vocabulary
from regard.recipe import Recipe
from regard.tasks.encoded import Encoded

EPOCHS = 40
EVALUATIONS = 20
SAMPLED = 1_000_000


def propose_vocabulary(recipe: Recipe, corpus: Corpus) -> tuple[Recipe, str]:
    found = Counter[str]()
    for side in ("source", "target"):
        for text in corpus.train.texts(side, SAMPLED):
            found.update(text)
    characters, distinct = found.total() * max(len(corpus.train) // SAMPLED, 1), len(found)
    size = min(max(4 * math.isqrt(characters), 500), 32_000)
    size = min(max(round(size, -2), 300 + 2 * distinct), 32_000)
    reason = f"at most {size:,} joint subword pieces with byte fallback, for {characters:,} characters of text"
    return recipe.model_copy(update={"vocabulary": Vocabulary(size=size)}), reason


def propose_model(recipe: Recipe, examples: Encoded) -> tuple[Recipe, str]:
    tokens = len(examples.target.values)
    model = recipe.model.sized_for(tokens)
    reason = f"{model.describe()}: fits {tokens:,} target tokens; a larger one would learn them by heart"
    return recipe.model_copy(update={"model": model}), reason


def propose_batch(recipe: Recipe, examples: Encoded) -> tuple[Recipe, str]:
    """About a hundred updates an epoch, within what keeps the processor busy and the memory free."""
    longest = examples.lengths[np.arange(len(examples))].max(axis=1)
    tokens = min(max(2 ** round(math.log2(max(int(longest.sum()) / 100, 1))), 512), 4096)
    batching = Batching(tokens=tokens)
    share = padding(examples.lengths, first_pool(examples.lengths, batching, recipe.training.seed)[0]).share
    reason = f"{tokens:,} tokens a side, rows of like length together: {share:.1%} padding"
    return recipe.model_copy(update={"batching": batching}), reason


def propose_steps(recipe: Recipe, examples: Encoded) -> tuple[Recipe, str]:
    batches, parts = first_pool(examples.lengths, recipe.batching, recipe.training.seed)
    epoch = round(len(batches) * parts)
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


def with_steps(recipe: Recipe, steps: int, **more: int) -> Recipe:
    """A number of steps, with a schedule and evaluations to match."""
    warmup = min(max(steps // 8, 20), 2000)
    every = max(steps // EVALUATIONS, 50)
    optimisation = recipe.training.optimisation.model_copy(update={"warmup": warmup})
    changes = {"steps": steps, "evaluate_every": every, "checkpoint_every": every, "optimisation": optimisation}
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=changes | more)})
