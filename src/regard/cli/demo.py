"""``regard demo``."""

from typing import Any

import click

from regard.cli.common import output_options


@click.command()
@click.option("--out", default="runs/demo", show_default=True, help="Run folder.")
@click.option("--seed", type=int, help="Seed of everything random.")
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Any setting, such as training.steps=500.")
@output_options
def command(**request: Any) -> None:
    """Reads dates as people write them in many languages, writes 2025-04-03. About a minute; offline."""
    from regard.cli.training import run_training

    run_training(recipe="dates", dry_run=False, **request)
