"""``regard doctor``."""

import click

from regard.cli.common import answers, emit


@click.command()
@answers
def command(as_json: bool, quiet: bool, debug: bool) -> None:
    """Versions, devices, and how fast this machine multiplies matrices."""
    from regard.machine import examine

    found = examine()
    if as_json:
        emit(found)
        return
    for name, value in found.items():
        print(f"{name:22}  {value}")
