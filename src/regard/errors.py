"""Every error a user can meet.

::

    RegardError                  exit status 1: ours is at fault
    |-- InputError               exit status 2: what was given is at fault
    |   |-- DataError            a data file: missing, unreadable, not pairs, nothing left
    |   |-- SettingsError        a setting: unknown, of the wrong type, out of range
    |   |-- AttentionError       arguments of an attention that do not fit each other; a ValueError too
    |   `-- RunError             a run folder: missing, damaged, in use, or made by another command
    |-- DivergedError            the loss is not finite; the last good weights are kept
    `-- StoppedError             SIGINT or SIGTERM arrived and everything was saved: exit status 130 or 143

A message names the thing, what was found and what was allowed; ``where`` points at it (file:line, a setting's path) and
``hint`` is one fix.
"""

import difflib
import signal
from collections.abc import Collection, Iterable
from itertools import islice

MOST_LISTED = 20


class RegardError(Exception):
    """The root: catch this one to catch all of them."""

    exit_status = 1

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None):
        super().__init__(message)
        self.message, self.where, self.hint = message, where, hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  {self.hint}" if self.hint else text

    def to_json(self) -> dict[str, dict[str, str | None]]:
        return {"error": {"message": self.message, "where": self.where, "hint": self.hint}}


class InputError(RegardError):
    """What the user gave cannot be used."""

    exit_status = 2


class DataError(InputError):
    """A data file cannot be used."""


class SettingsError(InputError):
    """A setting is unknown, of the wrong type or out of range."""


class AttentionError(InputError, ValueError):
    """Arguments of an attention do not fit each other, or a kernel was asked for what it cannot do."""


class RunError(InputError):
    """A run folder is missing, damaged, in use, or belongs to another command."""


class DivergedError(RegardError):
    """The loss or its gradient is not finite."""


class StoppedError(RegardError):
    """A signal asked us to stop, and everything was saved first."""

    def __init__(self, number: int, message: str, *, hint: str | None = None):
        super().__init__(message, hint=hint)
        self.exit_status = 128 + number
        self.signal_name = signal.Signals(number).name


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean 'steps'?`` when something known is close, otherwise what is known, or the first of it."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known: {listed(known, MOST_LISTED)}"


def listed(names: Collection[str], most: int) -> str:
    """The first of some names, so many at most."""
    return ", ".join(islice(names, most)) + (", ..." if len(names) > most else "")
