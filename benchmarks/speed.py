"""Speed of this machine with both model families: training by precision, and decoding by batch and beam.

The data is that of ``regard demo``; weights are random: speed does not depend on what was learnt.

    python benchmarks/speed.py [--rounds 5]
"""

import argparse
from collections.abc import Callable
from itertools import islice

from side_by_side import compare, describe_machine, training_step

from regard.data.batching import Batching, epoch_batches
from regard.data.dates import Dates
from regard.decoding.search import Search
from regard.evaluation import predict_rows
from regard.models.model import ModelSettings
from regard.recipes.dates import dates
from regard.runner import learn_task
from regard.tasks.generate import Generate
from regard.tasks.task import Example, collate, lengths_of
from regard.training.objective import Objective, build_objective

SIDE = {"layers": 4, "heads": 4, "feedforward": 1024}
MODELS = {
    "transformer": {"kind": "transformer", "width": 256, "encoder": SIDE, "decoder": SIDE},
    "rnn": {"kind": "rnn", "width": 256},
}


def decoding(task: Generate, objective: Objective, examples: list[Example], beam: int) -> Callable[[], int]:
    """A call that answers every example in exactly 12 tokens each and returns how many that is."""
    search = Search(beam=beam, min_length=12, max_length=12)
    sources = [example.source for example in examples]

    def run() -> int:
        objective.eval()
        predict_rows(task, objective.model, sources, search)
        return 12 * len(sources)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    describe_machine()
    recipe = dates()
    corpus = Dates(train=4000, dev=10, test=64).load()
    task = learn_task(recipe, corpus)
    examples = [task.example(row) for row in corpus.train]
    rows = islice(epoch_batches(lengths_of(examples), Batching(tokens=2048), seed=1, epoch=0), 3)
    batches = [collate([examples[row] for row in batch]) for batch in rows]
    tests = [task.example(row) for row in corpus.test]
    contenders: dict[str, Callable[[], int]] = {}
    for name, model in MODELS.items():
        objective = build_objective(task, ModelSettings.model_validate(model), seed=1)
        for precision in ("fp32", "bf16"):
            contenders[f"{name} train {precision}"] = training_step(objective, batches, precision)
        for beam in (1, 5):
            contenders[f"{name} decode 1 row, beam {beam}"] = decoding(task, objective, tests[:1], beam)
            contenders[f"{name} decode 64 rows, beam {beam}"] = decoding(task, objective, tests, beam)
    for name, rate in compare(contenders, rounds).items():
        print(f"{name:36} {rate:10,.0f} tokens/s")


if __name__ == "__main__":
    main()
