"""``regard compare``."""

from typing import Any

import click

from regard.cli.common import emit, output_options, scoring_options, search_options, told


@click.command()
@click.argument("one")
@click.argument("other")
@click.argument("data", nargs=-1, required=True)
@scoring_options
@search_options
@output_options
def command(
    one: str,
    other: str,
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
    """Paired bootstrap over the rows of DATA: how likely is it that a difference this large comes from chance?"""
    from regard.data.pairs import read_as
    from regard.metrics.names import metric, shown
    from regard.predictor import load
    from regard.tasks.task import Scoring

    models = load(one, device), load(other, device)
    rows = told(read_as(models[0].recipe.data, data, source, target, tag), quiet)
    results = models[0].compare(models[1], rows, scoring=Scoring(tokenize, lowercase), **options)
    if as_json:
        emit({"runs": [one, other], "rows": len(rows), **{name: found._asdict() for name, found in results.items()}})
        return
    for name, found in results.items():
        verdict = "a real difference" if found.p_value < 0.05 else "within chance"
        first, second = shown(name, found.one), shown(name, found.other)
        print(f"{metric(name).english}  {first}  {second}  p = {found.p_value:.4f}  {verdict}")
        print(f"  {found.signature}")
