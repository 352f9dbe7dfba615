"""Translation quality on Multi30k by a fixed protocol, as rows of a table; what was trained is not trained again.

Text is that of ``tok/``: normalised, lower-cased, tokenised, and scored as it is (sacreBLEU without tokenizer), as
papers do. Settings are chosen on val; test2016 and test2017 are only reported.

    python benchmarks/quality.py ablation --data DIR --out runs/quality [--updates 2400] [--seeds 1]
    python benchmarks/quality.py seeds    --data DIR --out runs/quality [--updates 2400] [--seeds 1 2 3]
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import regard
from regard.api import Run
from regard.data.pairs import read_rows
from regard.tasks.task import Scoring

SETS = {"val": "val", "test2016": "test_2016_flickr", "test2017": "test_2017_flickr"}
TOKENISED = Scoring(tokenize="none")


class Change(NamedTuple):
    """One change to the recipe, and how many times as long an update takes with it."""

    settings: list[str]
    cost: float = 1.0


TRAINED = {
    "as the recipe has it": Change([]),
    "no label smoothing": Change(["task.label_smoothing=0"]),
    "last weights instead of the average": Change(["training.optimisation.ema_decay=0"]),
    "faster average: 0.99": Change(["training.optimisation.ema_decay=0.99"]),
    "dropout 0.1": Change(["model.dropout=0.1"]),
    "dropout 0.2": Change(["model.dropout=0.2"]),
    "subword regularisation, alpha 0.5": Change(["vocabulary.sampling=0.5"], 1.1),
    "R-Drop, alpha 5": Change(["task.consistency=5"], 2.5),
}
SEARCHED = {
    "greedy": {"beam": 1},
    "beam 5, no length penalty": {"length_penalty": 0.0},
    "beam 5, length penalty 0.6": {"length_penalty": 0.6},
    "beam 10": {"beam": 10},
}


def trained(options: argparse.Namespace, name: str, change: Change, seed: int) -> Run:
    """A run of so many updates' worth of time; warm-up is a quarter of it."""
    updates = int(options.updates / change.cost)
    times = {"steps": updates, "optimisation.warmup": min(updates // 4, 2000), "evaluate_every": updates // 8}
    settings = [*change.settings, *(f"training.{key}={value}" for key, value in times.items())]
    out = options.out / f"{name.replace(' ', '-').replace(',', '').replace(':', '')}-{seed}"
    return regard.train(
        recipe="multi30k-en-de-tok",
        data_folder=str(options.data),
        out=out,
        seed=seed,
        settings=settings,
    )


def scores(run: Run, data: Path, **search: float) -> list[float]:
    found = []
    for name in SETS.values():
        files = [str(data / "tok" / f"{name}.lc.norm.tok.{side}") for side in ("en", "de")]
        rows = read_rows(files, None, None, None).rows
        found.append(run.predictor.evaluate(rows, scoring=TOKENISED, **search).scores.values["bleu"])
    return found


def tell(*cells: object) -> None:
    print(
        "| " + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=["ablation", "seeds"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    parser.add_argument("--updates", type=int, default=2400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    changes = TRAINED if options.table == "ablation" else {"as the recipe has it": Change([])}
    tell("change", "seed", "updates", "minutes", *SETS)
    for name, change in changes.items():
        for seed in options.seeds:
            run = trained(options, name, change, seed)
            spent = run.trained.seconds / 60
            tell(name, seed, run.trained.steps, spent, *scores(run, options.data))
            if name == "as the recipe has it" and options.table == "ablation":
                for how, search in SEARCHED.items():
                    tell(how, seed, "the same", 0, *scores(run, options.data, **search))


if __name__ == "__main__":
    main()
