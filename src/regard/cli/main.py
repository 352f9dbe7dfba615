"""The command line: one thin file per verb. Nothing heavy is imported before a verb needs it."""

import contextlib
import importlib
import inspect
import io
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType

import click

from regard import __version__
from regard.errors import InputError, RegardError, StoppedError, did_you_mean
from regard.memory import is_out_of_memory

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
        command.help = f"{VERBS[name]}\n\n{inspect.getdoc(command.callback)}"
        return command

    def invoke(self, context: click.Context) -> None:
        with contextlib.suppress(BrokenPipeError):  # `regard predict | head` is no fault
            super().invoke(context)
            sys.stdout.flush()

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
    given = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    _open_streams()
    with _termination():
        fault = _run(given)
    try:
        if fault:
            _tell(fault, given)
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
    return fault.exit_status if fault else 0


def _open_streams() -> None:
    """Output is UTF-8 as input is, whatever the locale says; a stream that was closed before us swallows all."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


class Terminated(BaseException):
    """SIGTERM has arrived: KeyboardInterrupt's like."""


@contextlib.contextmanager
def _termination() -> Iterator[None]:
    """Inside, SIGTERM raises, unless someone who saves first takes it over; only the main thread may ask for that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _run(given: list[str]) -> RegardError | None:
    """Run a command, and whatever went wrong as an error of ours."""
    try:
        regard.main(given, prog_name="regard", standalone_mode=False)
    except RegardError as error:
        return error
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path if context else 'regard'} --help"
        return InputError(error.format_message(), hint=hint)
    except (click.Abort, KeyboardInterrupt):
        return StoppedError(signal.SIGINT, "interrupted")
    except Terminated:
        return StoppedError(signal.SIGTERM, "terminated")
    except OSError as error:
        hint = "is the path right, may it be used, and is there space left?"
        return InputError(error.strerror or str(error), where=error.filename, hint=hint)
    except Exception as error:
        if is_out_of_memory(error):
            hint = "shorter texts, a smaller --beam or a smaller model need less"
            return InputError("memory is full", hint=hint)
        if "--debug" in given:
            raise
        kind = traceback.extract_tb(error.__traceback__)[-1].name
        hint = "this is a fault in regard; --debug shows where, please report it"
        return RegardError(f"{type(error).__name__} in {kind}: {error}", hint=hint)
    return None


def _tell(error: RegardError, given: list[str]) -> None:
    if "--json" in given:
        print(json.dumps(error.to_json(), ensure_ascii=False))
    else:
        print(f"regard: {error}", file=sys.stderr)
    if "--debug" in given:
        traceback.print_exception(error)


if __name__ == "__main__":
    sys.exit(main())
