"""``regard predict``."""

import sys
from typing import Any

import click

from regard.cli.common import answers, emit, lines_of, searches


@click.command()
@click.argument("run")
@click.argument("input_", metavar="[INPUT|-]", default="-")
@click.option("--tag", help="Language or locale of every line; or write TEXT<tab>TAG on each.")
@click.option("--prefix", help="Begin every answer with this.")
@click.option("--n-best", type=int, help="Answers per line, best first.")
@searches
@answers
def command(
    run: str,
    input_: str,
    tag: str | None,
    prefix: str | None,
    device: str,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """One line in, one line out, in order; a blank line stays blank."""
    from regard.predictor import load

    model = load(run, device)
    wanted = options["n_best"]
    if wanted and options["beam"] is None:
        options["beam"] = max(wanted, model.recipe.search.beam)
    rows = (_row(line, tag, bool(model.task.tags)) for line in lines_of(input_))
    typed = input_ == "-" and sys.stdin.isatty()  # whoever types a line waits for its answer
    for answer in model.stream(rows, prefix=prefix, at_once=1 if typed else None, **options):
        if as_json:
            emit(answer.to_json())
        else:
            texts = [answer.text, *(other.text for other in answer.alternatives)]
            print("\t".join(map(_flat, texts[: wanted or 1])), flush=typed)


def _flat(text: str) -> str:
    """A line break in an answer must not shift the lines after it."""
    return text.replace("\n", " ")


def _row(line: str, tag: str | None, tagged: bool) -> dict[str, str]:
    text, _, own = line.partition("\t") if tagged else (line, "", "")
    chosen = own.strip() or tag
    return {"source": text, "tag": chosen} if chosen else {"source": text}
