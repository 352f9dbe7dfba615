"""``regard train``."""

from typing import Any

import click

from regard.cli.common import output_options


@click.command()
@click.argument("data", nargs=-1)
@click.option("--out", help="Run folder; runs/NAME by default.")
@click.option("--dev", multiple=True, help="Dev file; twice for two line-aligned files.")
@click.option("--test", multiple=True, help="Test file; twice for two line-aligned files.")
@click.option("--source", help="Column to read.")
@click.option("--target", help="Column to write.")
@click.option("--tag", help="Column with a language or locale that goes with the source.")
@click.option("--horizon", type=int, help="How many steps to forecast; 24 by default.")
@click.option(
    "--task",
    type=click.Choice(["generate", "classify", "transcribe", "extract", "continue", "tag", "forecast"]),
    help="The verb, where a file could mean two.",
)
@click.option("--recipe", help="Named recipe or YAML file.")
@click.option("--data", "data_folder", help="Data folder of a named recipe.")
@click.option("--time-limit", help="90s, 30m or 2h.")
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Any setting, such as training.steps=500.")
@click.option("--seed", type=int, help="Seed of everything random.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@output_options
def command(data: tuple[str, ...], **request: Any) -> None:
    """DATA: pairs.tsv, .csv, .jsonl, or two line-aligned files such as train.en train.de; any of them .gz; a folder of
    sounds or pictures with a table of them.

    The same command again goes on with a run that was stopped.
    """
    from regard.cli.training import run_training

    run_training(*data, **request)
