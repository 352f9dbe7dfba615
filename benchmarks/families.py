"""Families of models on Multi30k, German to English: the same text, vocabulary and time, and about as many weights.

Text is that of ``tok/``: normalised, lower-cased, tokenised, and scored as it is (sacreBLEU without tokenizer). Rates
of learning are the best of a few on val after 250 to 400 updates; the Transformer with its norms after each part warms
up as slowly as published. What was trained is not trained again.

    python benchmarks/families.py train   --data DIR --out runs/families [--minutes 12] [--families rnn luong]
    python benchmarks/families.py speed   --data DIR [--rounds 5]
    python benchmarks/families.py lengths --data DIR --out runs/families --figure FILE.png [--families rnn seq2seq]
"""

import argparse
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from side_by_side import compare, describe_machine, training_step

import regard
from regard.api import Run
from regard.data.batching import epoch_batches
from regard.data.pairs import read_rows
from regard.data.rows import Row
from regard.decoding.search import Search
from regard.evaluation import predict_rows
from regard.metrics.text import bleu
from regard.recipe import Recipe
from regard.recipes import named_recipe
from regard.runner import learn_task
from regard.settings import override
from regard.tasks.encoded import encode
from regard.tasks.generate import Generate
from regard.tasks.task import Scoring
from regard.training.objective import Objective, build_objective

RECIPE = "multi30k-de-en-tok"
TESTS = {"test2016": "test_2016_flickr", "test2017": "test_2017_flickr"}
BUCKET, LONGEST = 4, 28
"""Words of a source sentence: scores by length are for sentences of up to 4 words, of 5 to 8 and so on."""


def settings(kind: str, width: int, rate: float, dropout: float, tokens: int, **sizes: int) -> list[str]:
    sides = [f"model.{side}.{name}={size}" for side in ("encoder", "decoder") for name, size in sizes.items()]
    training = [f"training.optimisation.learning_rate={rate}", f"batching.tokens={tokens}"]
    return [f"model.kind={kind}", f"model.width={width}", f"model.dropout={dropout}", *sides, *training]


FAMILIES = {
    "seq2seq": settings("seq2seq", 264, 0.004, 0.2, 2048),
    "rnn": settings("rnn", 264, 0.004, 0.2, 2048),
    "luong": settings("luong", 256, 0.004, 0.2, 2048),
    "convolutional": settings("convolutional", 176, 0.004, 0.1, 2048, layers=4),
    "transformer_2017": settings("transformer_2017", 160, 0.002, 0.1, 4096, layers=4, feedforward=320),
    "transformer_today": settings("transformer_today", 160, 0.006, 0.1, 4096, layers=4, feedforward=213),
    "hybrid": settings("hybrid", 160, 0.006, 0.1, 4096, layers=4, feedforward=213),
}
FAMILIES["transformer_2017"].append("training.optimisation.warmup=600")
"""Settings of each, as for ``regard train --recipe multi30k-de-en-tok --set ...``."""


def recipe_of(family: str, data: Path) -> Recipe:
    return override(named_recipe(RECIPE, str(data)), FAMILIES[family])


def rows_of(data: Path, name: str) -> list[Row]:
    files = [str(data / "tok" / f"{name}.lc.norm.tok.{side}") for side in ("de", "en")]
    return list(read_rows(files, None, None, None).rows)


def trained(family: str, options: argparse.Namespace) -> Run:
    return regard.train(
        recipe=RECIPE,
        data_folder=str(options.data),
        out=options.out / f"{family}-{options.minutes}",
        seed=1,
        time_limit=f"{options.minutes}m",
        settings=FAMILIES[family],
    )


def tell(*cells: object) -> None:
    shown = (
        f"{cell:,.2f}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else cell for cell in cells
    )
    print("| " + " | ".join(map(str, shown)) + " |", flush=True)


def train(options: argparse.Namespace) -> None:
    tell("family", "weights", "updates", "minutes", "val, greedy", *TESTS)
    for family in options.families:
        run = trained(family, options)
        weights = sum(weight.numel() for weight in run.predictor.model.parameters())
        scores = [
            run.predictor.evaluate(rows_of(options.data, name), scoring=Scoring(tokenize="none")).scores.values["bleu"]
            for name in TESTS.values()
        ]
        tell(family, weights, run.trained.steps, run.trained.seconds / 60, run.scores["bleu"], *scores)


def decoding(task: Generate, objective: Objective, sources: list[list[int]]) -> Callable[[], int]:
    """A call that answers every source in exactly 12 tokens, greedily, and returns how many that is."""
    search = Search(beam=1, min_length=12, max_length=12)

    def run() -> int:
        predict_rows(task, objective.model.eval(), sources, search)
        return 12 * len(sources)

    return run


def speed(options: argparse.Namespace) -> None:
    describe_machine()
    recipe = named_recipe(RECIPE, str(options.data))
    corpus = recipe.data.load()
    task = learn_task(recipe, corpus)
    examples = encode(task, corpus.train)
    batches = [examples.batch(rows) for rows in islice(epoch_batches(examples.lengths, recipe.batching, 1, 0), 3)]
    sources = [task.source(row) for row in rows_of(options.data, "val")[:64]]
    contenders: dict[str, Callable[[], int]] = {}
    for family in options.families:
        objective = build_objective(task, recipe_of(family, options.data).model, seed=1)
        for precision in ("fp32", "bf16"):
            contenders[f"{family} train {precision}"] = training_step(objective, batches, precision)
        contenders[f"{family} decode 64 rows"] = decoding(task, objective, sources)
    for name, rate in compare(contenders, options.rounds).items():
        print(f"{name:32} {rate:10,.0f} tokens/s")


def lengths(options: argparse.Namespace) -> None:
    """BLEU by the length of the source, of both tests together."""
    rows = [row for name in TESTS.values() for row in rows_of(options.data, name)]
    buckets = [min((len(row["source"].split()) - 1) // BUCKET, LONGEST // BUCKET) for row in rows]
    kinds = sorted(set(buckets))
    names = [f"up to {BUCKET * (bucket + 1)}" for bucket in kinds[:-1]] + ["longer"]
    sentences = [buckets.count(bucket) for bucket in kinds]
    tell("family", *names)
    tell("sentences", *sentences)
    found = dict[str, list[float]]()
    for family in options.families:
        answers = [answer.text for answer in trained(family, options).predictor.predict(rows)]
        found[family] = [_bleu_in(bucket, buckets, answers, rows) for bucket in kinds]
        tell(family, *found[family])
    draw([f"{name}\n({count})" for name, count in zip(names, sentences, strict=True)], found, options.figure)


def draw(names: list[str], found: dict[str, list[float]], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for family, scores in found.items():
        axes.plot(names, scores, marker="o", label=family)
    axes.set(xlabel="words of the source sentence (sentences of the tests)", ylabel="BLEU", ylim=(0, None))
    axes.legend()
    figure.savefig(file, dpi=120)


def _bleu_in(bucket: int, buckets: list[int], answers: list[str], rows: list[Row]) -> float:
    inside = [place for place, other in enumerate(buckets) if other == bucket]
    return bleu(
        [answers[place] for place in inside], [rows[place]["target"] for place in inside], tokenize="none"
    ).score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "speed", "lengths"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/families"))
    parser.add_argument("--minutes", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--figure", type=Path, default=Path("quality_by_length.png"))
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=[*FAMILIES])
    options = parser.parse_args()
    {"train": train, "speed": speed, "lengths": lengths}[options.what](options)


if __name__ == "__main__":
    main()
