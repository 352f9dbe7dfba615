"""What the verbs share: options, and the two ways of answering."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from regard.data.lines import opened, streamed_lines
from regard.errors import DataError
from regard.metrics.names import shown

if TYPE_CHECKING:
    from regard.data.rows import Read, Row

TOKENIZERS = click.Choice(["13a", "intl", "zh", "char", "none"])

Command = TypeVar("Command", bound=Callable[..., Any])


def output_options(function: Command) -> Command:
    """--json, --quiet and --debug."""
    for option in (
        click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks."),  # seen by main
        click.option("--quiet", is_flag=True, help="No progress."),
        click.option("--json", "as_json", is_flag=True, help="Only JSON on standard output, one object a line."),
    ):
        function = option(function)
    return function


def search_options(function: Command) -> Command:
    """How to search for answers; the run's recipe decides what is not given."""
    for option in (
        click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
        click.option("--no-repeat-ngram", type=int, help="No n-gram of this size twice."),
        click.option("--max-length", type=int, help="Most tokens of an answer."),
        click.option("--min-length", type=int, help="Least tokens of an answer."),
        click.option("--length-penalty", type=float, help="0 prefers short answers, 1 is neutral."),
        click.option("--seed", type=int, help="Of what is drawn: equal texts with equal seeds have equal answers."),
        click.option("--top-p", type=float, help="Draw from the likeliest tokens that make up this probability."),
        click.option("--top-k", type=int, help="Draw from so many likeliest tokens."),
        click.option("--temperature", type=float, help="Draw; below 1 the likely gets likelier."),
        click.option("--sample", is_flag=True, help="Draw answers at random instead of searching for the best."),
        click.option("--beam", type=int, help="Width of the beam; 1 is greedy."),
    ):
        function = option(function)
    return function


def scoring_options(function: Command) -> Command:
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


def emit(value: Any) -> None:
    """One JSON object on one line of standard output."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def say(text: str, quiet: bool = False) -> None:
    """A line for people, on standard error."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def told(read: "Read", quiet: bool) -> "list[Row]":
    """Rows of files, after what there is to say of them."""
    for note in read.notes:
        say(note, quiet)
    return read.rows


def lines_of(name: str) -> Iterator[str]:
    """The lines of a UTF-8 file, or of standard input for ``-``, as they come; only a newline ends one.

    Raises:
        DataError: the file cannot be read, or a line is not UTF-8.
    """
    if name == "-":
        yield from streamed_lines("standard input", sys.stdin.buffer)
        return
    try:
        stream = opened(Path(name))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=name, hint="is the path right?") from None
    with stream:
        yield from streamed_lines(name, stream)


def score_lines(scores: dict[str, float], baseline: dict[str, float], names: tuple[str, str]) -> list[str]:
    """Scores beside the baseline's, in columns."""
    width = max(len(name) for name in scores)
    lines = [f"{'':{width}}  {names[0]:>10}  {names[1]:>12}"]
    return lines + [
        f"{name:{width}}  {shown(name, score):>10}  {shown(name, baseline[name]):>12}" for name, score in scores.items()
    ]
