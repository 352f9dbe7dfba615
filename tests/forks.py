"""Commands in processes of their own that signals can end, forked from one process that has imported everything once.

Run as a program it reads a line of JSON for each command and answers with a line of JSON.
"""

import functools
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import regard


class Ended(NamedTuple):
    """How a command ended (negative: by which signal) and all that it printed."""

    status: int
    said: str


class Forks:
    """The process that forks, as tests see it."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(Path(regard.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, __file__], env=environment, **pipes)

    def run(self, words: list[str], **when: Any) -> Ended:
        """Run a command; it is killed ``after`` so many seconds, or gets ``signals`` at a call of a function.

        The function is ``at`` "module:name", and the signals arrive just before it is called for the ``call``-th time.
        """
        assert self.process.stdin and self.process.stdout
        print(json.dumps({"words": words} | when), file=self.process.stdin, flush=True)
        return Ended(*json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.communicate()


def answer(words: list[str], after: float | None = None, **strike: Any) -> Ended:
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            obey(words, strike, said.fileno())
        if after is not None:
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return Ended(os.waitstatus_to_exitcode(status), said.read().decode())


def obey(words: list[str], strike: dict[str, Any], said: int) -> None:
    """The life of a child."""
    from regard.cli.main import main

    status = 70
    try:
        os.dup2(said, 1)
        os.dup2(said, 2)
        if strike:
            arm(**strike)
        status = main(words)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def arm(at: str, call: int, signals: list[int]) -> None:
    module, _, path = at.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    whole, calls = getattr(owner, name), itertools.count(1)

    @functools.wraps(whole)
    def struck(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            for number in signals:
                os.kill(os.getpid(), number)
        return whole(*arguments, **options)

    setattr(owner, name, struck)


def serve() -> None:
    import torch

    for name in ("regard.cli.training", "regard.cli.train", "regard.api", "regard.training.watching", "torch._dynamo"):
        importlib.import_module(name)  # the last at torch's first update anyway
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
