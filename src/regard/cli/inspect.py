"""``regard inspect``."""

from pathlib import Path
from typing import Any

import click

from regard.cli.common import emit, output_options, say, search_options, told


@click.command()
@click.argument("run")
@click.argument("text")
@click.option("--out", help="The page to write; attention.html by default, none with --json.")
@click.option("--target", help="Look at this answer instead of the model's own.")
@click.option("--tag", help="Language or locale of the text.")
@search_options
@output_options
def command(
    run: str,
    text: str,
    out: str | None,
    target: str | None,
    tag: str | None,
    device: str,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Every layer's and head's cross- and self-attention as one self-contained HTML page."""
    from regard.data.corpus import ReadsFiles
    from regard.data.rows import Row
    from regard.errors import InputError
    from regard.files import write_whole
    from regard.predictor import load
    from regard.tasks.task import Cutting

    model = load(run, device)
    row: Row = {"source": text, "tag": tag} if tag else {"source": text}
    if isinstance(model.recipe.data, ReadsFiles) and isinstance(model.task, Cutting):
        row, *_ = told(model.recipe.data.read_files([text]), quiet)
    maps = model.inspect(row, target, **options)
    page = out if as_json else out or "attention.html"
    if page:
        try:
            write_whole(Path(page), maps.to_html(title=text).encode())
        except OSError as error:
            raise InputError(f"cannot write: {error.strerror}", where=page, hint="choose another --out") from None
        say(f"{page}: open it in a browser and hover a word", quiet)
    if as_json:
        emit(maps.to_json())
