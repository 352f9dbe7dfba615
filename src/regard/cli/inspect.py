"""``regard inspect``."""

from pathlib import Path
from typing import Any

import click

from regard.cli.common import answers, emit, say, searches


@click.command()
@click.argument("run")
@click.argument("text")
@click.option("--out", default="attention.html", show_default=True, help="The page to write.")
@click.option("--target", help="Look at this answer instead of the model's own.")
@click.option("--tag", help="Language or locale of the text.")
@searches
@answers
def command(
    run: str,
    text: str,
    out: str,
    target: str | None,
    tag: str | None,
    device: str,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Every layer's and head's cross- and self-attention as one self-contained HTML page."""
    from regard.errors import InputError
    from regard.files import write_whole
    from regard.predictor import load

    row = {"source": text, "tag": tag} if tag else {"source": text}
    maps = load(run, device).inspect(row, target, **options)
    if as_json:
        emit(maps.to_json())
        return
    try:
        write_whole(Path(out), maps.to_html(title=text).encode())
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", where=out, hint="choose another --out") from None
    say(f"{out}: open it in a browser and hover a word", quiet)
