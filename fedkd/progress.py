"""Progress of long work: a bar on a terminal, a line now and then elsewhere, or nothing.

>>> with silent():
...     list(track([1, 2, 3], "Counting"))
[1, 2, 3]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

T = TypeVar("T")

BAR_AFTER = 2.0
LINE_EVERY = 10.0


class _Shared:
    """What all bars of the process share: the display, whether to speak, the last line's time."""

    muted = 0
    last_line = float("-inf")
    display: RichProgress | None = None
    bars = 0


@contextmanager
def silent() -> Iterator[None]:
    """Show no progress inside the ``with`` block, in this thread or any other."""
    _Shared.muted += 1
    try:
        yield
    finally:
        _Shared.muted -= 1


class Progress:
    """A context manager that counts steps and shows them once the work takes over two seconds.

    ``label`` None is silent. ``total`` None is an unknown length. On a terminal a bar appears
    after two seconds and vanishes at the end; elsewhere all bars together write at most one line
    every ten seconds. Everything goes to ``stream`` (stderr when absent), never to stdout.
    """

    def __init__(
        self,
        label: str | None,
        total: int | None = None,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._total = total
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._start = clock()
        self._done = 0
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._start = self._clock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None and _Shared.display is not None:
            _Shared.display.remove_task(self._task)
            self._task = None
            _Shared.bars -= 1
            if not _Shared.bars:
                _Shared.display.stop()
                _Shared.display = None

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count ``steps`` more; ``note`` is shown beside the count."""
        self._done += steps
        now = self._clock()
        if self._label is None or _Shared.muted or now - self._start < BAR_AFTER:
            return
        if self._stream.isatty():
            self._draw(self._label, note)
        elif now - _Shared.last_line >= LINE_EVERY:
            _Shared.last_line = now
            total = "" if self._total is None else f"/{self._total}"
            seconds = f"{now - self._start:.0f} s"
            text = ", ".join(part for part in (f"{self._done}{total}", seconds, note) if part)
            print(f"{self._label}: {text}", file=self._stream, flush=True)

    def _draw(self, label: str, note: str) -> None:
        text = f"{label} {note}".rstrip()
        if _Shared.display is None:
            from rich.console import Console  # noqa: PLC0415  # most work ends before a bar
            from rich.progress import Progress as RichProgress  # noqa: PLC0415

            console = Console(file=self._stream)
            _Shared.display = RichProgress(console=console, transient=True, refresh_per_second=4)
            _Shared.display.start()
        if self._task is None:
            self._task = _Shared.display.add_task(text, total=self._total, completed=self._done)
            _Shared.bars += 1
        else:
            _Shared.display.update(self._task, completed=self._done, description=text)


def track(
    items: Iterable[T],
    label: str | None,
    *,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """Yield ``items`` in order and show how many are done (see :class:`Progress`)."""
    total = len(items) if isinstance(items, Sized) else None
    with Progress(label, total, stream=stream, clock=clock) as progress:
        for item in items:
            yield item
            progress.advance()
