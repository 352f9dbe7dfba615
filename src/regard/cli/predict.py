"""``regard predict``."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from regard.cli.common import emit, lines_of, output_options, search_options, told

if TYPE_CHECKING:
    from regard.data.rows import Row


@click.command()
@click.argument("run")
@click.argument("input_", metavar="[INPUT|-]", default="-")
@click.option("--tag", help="Language or locale of every line; or write TEXT<tab>TAG on each.")
@click.option("--prefix", help="Begin every answer with this.")
@click.option("--whole", is_flag=True, help="The input is one text; line breaks of its answer are kept.")
@click.option("--n-best", type=int, help="Answers per line, best first.")
@search_options
@output_options
def command(
    run: str,
    input_: str,
    tag: str | None,
    prefix: str | None,
    whole: bool,
    device: str,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """One line in, one line out, in order; a blank line stays blank, unless the model goes on from nothing.

    A forecast reads a table of series, and prints what comes after the end of each.
    """
    from regard.data.corpus import ReadsFiles
    from regard.predictor import load
    from regard.tasks.task import Cutting, Tabular

    model = load(run, device)
    wanted = options["n_best"]
    if wanted and options["beam"] is None:
        options["beam"] = max(wanted, model.recipe.search.beam)
    own = model.recipe.data
    texts = ["\n".join(lines_of(input_))] if whole else lines_of(input_)
    rows: Iterable[Row] = (_row(text, tag, bool(model.task.tags)) for text in texts)
    if isinstance(own, ReadsFiles) and isinstance(model.task, Cutting):
        rows = told(own.read_files([input_]), quiet)
    header: tuple[str, ...] = ()
    typed = input_ == "-" and sys.stdin.isatty()  # whoever types a line waits for its answer
    for answer in model.stream(rows, prefix=prefix, at_once=1 if typed else None, **options):
        if as_json:
            emit(answer.to_json())
        elif isinstance(answer, Tabular):
            lines = [*([answer.header] if answer.header != header else []), *answer.cells()]
            header = answer.header
            print("\n".join(map("\t".join, lines)))
        else:
            found = [answer.text, *(other.text for other in answer.alternatives)][: wanted or 1]
            print("\n".join(found) if whole else "\t".join(map(_flat, found)), flush=typed)


def _flat(text: str) -> str:
    """A line break in an answer must not shift the lines after it."""
    return text.replace("\n", " ")


def _row(line: str, tag: str | None, tagged: bool) -> dict[str, str]:
    text, _, own = line.partition("\t") if tagged else (line, "", "")
    chosen = own.strip() or tag
    return {"source": text, "tag": chosen} if chosen else {"source": text}
