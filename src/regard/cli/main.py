"""The command line: one thin file per verb. Nothing heavy is imported before a verb needs it."""

import importlib
import json
import os
import sys
import traceback

import click

from regard import __version__
from regard.errors import RegardError, StoppedError, did_you_mean

VERBS = {
    "demo": "Train on dates in many languages and see what the model looks at.",
    "train": "Train on your own pairs; no settings needed.",
    "predict": "Text in, text out.",
    "evaluate": "Scores with their signatures, beside a trivial baseline.",
    "compare": "Is the difference between two runs real?",
    "inspect": "See what the model looks at, as one HTML page.",
    "config": "Show the settings of a run or a recipe.",
    "doctor": "Check the installation and the machine.",
}


class Verbs(click.Group):
    """Loads a verb's file when the verb is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module = importlib.import_module(f"regard.cli.{name}")
        command: click.Command = module.command
        command.help = VERBS[name] + (f"\n\n{command.help}" if command.help else "")
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if arguments and arguments[0] not in VERBS:
            raise click.UsageError(f"no command '{arguments[0]}': {did_you_mean(arguments[0], VERBS)}", context)
        return super().resolve_command(context, arguments)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="regard")
def regard() -> None:
    """Sequence models with attention: train on your own pairs, see what the model looks at, run it anywhere."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit status is 0, 2 for bad input, 1 for our fault, 130 or 143 after a signal."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        regard.main(given, prog_name="regard", standalone_mode=False)
        return 0
    except RegardError as error:
        return _tell(error, error.exit_status, given)
    except click.ClickException as error:
        return _tell(RegardError(error.format_message(), hint="regard --help"), 2, given)
    except (click.Abort, KeyboardInterrupt):
        return _tell(StoppedError(2, "interrupted"), 130, given)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `regard predict | head` is no fault
        return 0
    except Exception as error:
        if "--debug" in given:
            raise
        kind = traceback.extract_tb(error.__traceback__)[-1].name
        hint = "this is a fault in regard; --debug shows where, please report it"
        return _tell(RegardError(f"{type(error).__name__} in {kind}: {error}", hint=hint), 1, given)


def _tell(error: RegardError, status: int, given: list[str]) -> int:
    if "--json" in given:
        print(json.dumps(error.to_json(), ensure_ascii=False))
    else:
        print(f"regard: {error}", file=sys.stderr)
    if "--debug" in given:
        traceback.print_exception(error)
    return status


if __name__ == "__main__":
    sys.exit(main())
