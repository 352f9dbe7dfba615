"""How long training takes on this machine: a few real steps and answers are timed, and steps fitted to a limit."""

from functools import partial
from itertools import cycle, islice
from typing import NamedTuple

import torch

from regard.data.batching import epoch_batches, sorted_batches
from regard.data.corpus import Corpus
from regard.decoding.search import Search
from regard.evaluation import TOKENS, Judging, judged_rows, predict_rows
from regard.proposals import EVALUATIONS, Reasons
from regard.recipe import Recipe
from regard.runner import answered_rows
from regard.settings import override
from regard.tasks.encoded import Examples
from regard.tasks.task import Task, lengths_of
from regard.training.gradients import Gradients
from regard.training.loop import Training
from regard.training.objective import COPIES_IN_TRAINING, build_objective
from regard.training.optimisation import Optimiser
from regard.training.precision import Precision, seconds_per_call

MEASURED_STEPS = 8
SHARE_FOR_STEPS, SHARE_FOR_EVALUATIONS = 0.9, 0.1
"""Of the time; evaluations get more where even the fewest take longer."""

FEWEST_EVALUATIONS = 4

WORTH_IT = 1.1
"""How many times faster bf16 must be before it is used."""


class Pace(NamedTuple):
    """Seconds of an update and of an evaluation."""

    update: float
    evaluation: float

    def fitting(self, limit: float) -> tuple[int, int]:
        """How many updates, with how many evaluations, fit so many seconds; updates get at least half of them."""
        possible = SHARE_FOR_EVALUATIONS * limit / max(self.evaluation, 1e-9)
        evaluations = int(min(max(possible, FEWEST_EVALUATIONS), EVALUATIONS))
        left = min(SHARE_FOR_STEPS * limit, limit - evaluations * self.evaluation)
        return int(max(left, limit / 2) / self.update), evaluations

    def expected(self, training: Training) -> float:
        """Seconds of a whole training."""
        updates, evaluations = training.steps * self.update, -(-training.steps // training.evaluate_every)
        return max(updates / SHARE_FOR_STEPS, updates + evaluations * self.evaluation)


class Trial:
    """What is timed: updates on real batches, the same ones in every precision, and answers to dev rows."""

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        task: Task,
        examples: Examples,
        device: torch.device,
        reasons: Reasons,
    ):
        training = recipe.training
        self.recipe, self.task = recipe, task
        self.objective = build_objective(self.task, recipe.model, training.seed, COPIES_IN_TRAINING).to(device)
        still = training.optimisation.model_copy(update={"learning_rate": 1e-12})  # nothing may diverge here
        self.optimiser = Optimiser(self.objective.model, still, training.steps)
        self.gradients = Gradients(self.objective, examples, lambda message: reasons.append(("memory", message)))
        batches = [*islice(epoch_batches(examples.lengths, recipe.batching, training.seed, 0), MEASURED_STEPS + 1)]
        self.turns = {"fp32": cycle(batches), "bf16": cycle(batches)}
        self.answered = [self.task.example(row) for row in answered_rows(recipe, corpus)]
        self.batches = sorted_batches(lengths_of(self.answered), TOKENS)

    def step(self, precision: Precision) -> None:
        seed = self.recipe.training.seed
        self.objective.train()
        _, count = self.gradients.add_up([next(self.turns[precision])], precision, seed)
        self.optimiser.update(0, count)

    def answer(self) -> None:
        """One batch of middling length, as long as its references: a model that has learnt nothing would not end."""
        self.objective.eval()
        chosen = [self.answered[row] for row in self.batches[len(self.batches) // 2]]
        if isinstance(self.task, Judging):
            judged_rows(self.task, self.objective.model, chosen)
            return
        longest = max(len(one.target) for one in chosen)
        predict_rows(self.task, self.objective.model, [one.source for one in chosen], Search(max_length=longest))


def measured(trial: Trial, reasons: Reasons) -> tuple[Recipe, Pace]:
    """The recipe with a precision where it leaves it open, and its pace."""
    recipe, precision = trial.recipe, trial.recipe.training.precision
    wanted: list[Precision] = ["bf16", "fp32"] if precision == "measure" else [precision]
    times = seconds_per_call({one: partial(trial.step, one) for one in wanted}, MEASURED_STEPS)
    if precision == "measure":
        ratio = times["fp32"] / times["bf16"]
        precision = "bf16" if ratio > WORTH_IT else "fp32"
        reasons.append(("precision", f"{precision}: bf16 is {ratio:.1f} x as fast as fp32 here, measured"))
        recipe = override(recipe, [f"training.precision={precision}"])
    evaluation = seconds_per_call({"answer": trial.answer}, rounds=1)["answer"] * len(trial.batches)
    return recipe, Pace(times[precision] * recipe.training.accumulate, evaluation)
