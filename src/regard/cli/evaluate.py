"""``regard evaluate``."""

from typing import Any

import click

from regard.cli.common import answers, emit, say, score_lines, searches

TOKENIZERS = click.Choice(["13a", "intl", "zh", "char", "none"])


def scoring_options(function: Any) -> Any:
    """Which rows, and how answers are compared with them."""
    for option in (
        click.option("--tokenize", type=TOKENIZERS, help="sacreBLEU's tokenizer; by the script by default."),
        click.option("--lowercase", is_flag=True, help="Case does not count."),
        click.option("--tag", help="Column with the tag."),
        click.option("--target", help="Column with the references."),
        click.option("--source", help="Column to read."),
    ):
        function = option(function)
    return function


@click.command()
@click.argument("run")
@click.argument("data", nargs=-1, required=True)
@scoring_options
@searches
@answers
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
    debug: bool,
    **options: Any,
) -> None:
    """DATA as for train. For a paper that scores tokenised lower-cased text: --lowercase --tokenize none."""
    import time

    from regard.data.pairs import read_as
    from regard.predictor import load
    from regard.tasks.task import Scoring

    model = load(run, device)
    rows, notes = read_as(model.recipe.data, data, source, target, tag)
    for note in notes:
        say(note, quiet)
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
