"""SIGINT and SIGTERM as a wish: noticed between steps, so that everything can be saved first."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopRequested(Exception):
    """A signal has arrived; raised only where it is safe to stop."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Signals:
    """Inside, the first SIGINT or SIGTERM is remembered until `check`; the second acts as it would have without us."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._put_back()

    def check(self) -> None:
        """Raises StopRequested when a signal has arrived."""
        if self.received is not None:
            raise StopRequested(self.received)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._put_back()

    def _put_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
