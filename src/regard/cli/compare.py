"""``regard compare``."""

from typing import Any

import click

from regard.cli.common import answers, emit, searches
from regard.cli.evaluate import scoring_options


@click.command()
@click.argument("one")
@click.argument("other")
@click.argument("data", nargs=-1, required=True)
@scoring_options
@searches
@answers
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
    debug: bool,
    **options: Any,
) -> None:
    """Paired bootstrap over the rows of DATA: how likely is it that a difference this large comes from chance?"""
    from regard.data.corpus import read_rows
    from regard.errors import InputError
    from regard.metrics.text import bleu_tokenizer, paired_bootstrap
    from regard.predictor import load

    models = [load(run, device) for run in (one, other)]
    for model in models:
        if model.recipe.task.kind != "generate":
            hint = "score each with regard evaluate"
            raise InputError(f"a run to {model.recipe.task.kind}: only written text is compared", hint=hint)
    rows = read_rows(data, source, target, tag)
    references = [row["target"] for row in rows]
    first, second = ([answer.text for answer in model.predict(rows, **options)] for model in models)
    tokenizer = tokenize or bleu_tokenizer(references)
    results = paired_bootstrap(first, second, references, tokenize=tokenizer, lowercase=lowercase)
    if as_json:
        emit({"runs": [one, other], "rows": len(rows), **{name: found._asdict() for name, found in results.items()}})
        return
    for name, found in results.items():
        verdict = "a real difference" if found.p_value < 0.05 else "within chance"
        print(f"{name:5} {found.one:6.2f}  {found.other:6.2f}  p = {found.p_value:.4f}  {verdict}")
        print(f"      {found.signature}")
