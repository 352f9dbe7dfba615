"""``regard doctor``."""

import click

from regard.cli.common import emit, output_options


@click.command()
@output_options
def command(as_json: bool, quiet: bool) -> None:
    """Versions, devices, and how fast this machine multiplies matrices."""
    from regard.machine import examine

    found = examine()
    if as_json:
        emit(found)
        return
    for name, value in found.items():
        print(f"{name:22}  {value}")
