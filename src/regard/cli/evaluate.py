"""``regard evaluate``."""

from typing import Any

import click

from regard.cli.common import emit, output_options, score_lines, scoring_options, search_options, told


@click.command()
@click.argument("run")
@click.argument("data", nargs=-1, required=True)
@scoring_options
@search_options
@output_options
def command(
    run: str,
    data: tuple[str, ...],
    source: str | None,
    target: str | None,
    tag: str | None,
    tokenize: str | None,
    lowercase: bool,
    device: str,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """DATA as for train. For a paper that scores tokenised lower-cased text: --lowercase --tokenize none."""
    import time

    from regard.data.pairs import read_as
    from regard.predictor import load
    from regard.tasks.task import Scoring

    model = load(run, device)
    rows = told(read_as(model.recipe.data, data, source, target, tag), quiet)
    started = time.perf_counter()
    found = model.evaluate(rows, scoring=Scoring(tokenize, lowercase), **options)
    took = time.perf_counter() - started
    if as_json:
        emit(
            {
                "run": run,
                "scores": found.scores.values,
                "baseline": found.baseline.values,
                "signatures": found.scores.signatures,
                "reference_tokens": found.scores.reference_tokens,
                "rows": len(found.predictions),
                "seconds": round(took, 2),
            }
        )
        return
    print("\n".join(score_lines(found.scores.values, found.baseline.values, ("model", model.task.baseline_name))))
    print(f"{len(found.predictions)} rows, {found.scores.reference_tokens:,} reference tokens, {took:.1f} s")
    print("\n".join(found.scores.signatures.values()))
