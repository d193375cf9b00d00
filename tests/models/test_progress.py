"""Laws of progress: silent when told or quick, lines far apart, bars on terminals only."""

from __future__ import annotations

import io

import pytest

from fedkd import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _no_line_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress._Shared, "last_line", float("-inf"))


def run(label: str | None, seconds: float, stream: io.StringIO, steps: int = 60) -> str:
    clock = Clock()
    seen = []
    for item in progress.track(range(steps), label, stream=stream, clock=clock):
        clock.now += seconds
        seen.append(item)
    assert seen == list(range(steps))
    return stream.getvalue()


def test_quick_work_says_nothing():
    assert run("Quick", 0.03, io.StringIO()) == ""
    assert run("Quick", 0.03, Terminal()) == ""


def test_elsewhere_a_line_comes_every_ten_seconds_at_most():
    lines = run("Slow", 1.0, io.StringIO()).splitlines()
    assert len(lines) == 6
    assert lines[0] == "Slow: 2/60, 2 s"
    assert "\x1b" not in "".join(lines)


def test_bars_one_after_another_share_the_ten_seconds():
    clock, stream = Clock(), io.StringIO()
    for _ in range(10):
        with progress.Progress("Part", 1, stream=stream, clock=clock) as bar:
            clock.now += 3
            bar.advance(note="still going")
    assert stream.getvalue().splitlines() == [
        "Part: 1/1, 3 s, still going",
        "Part: 1/1, 3 s, still going",
        "Part: 1/1, 3 s, still going",
    ]


def test_a_terminal_gets_a_bar():
    assert "Slow" in run("Slow", 1.0, Terminal())


def test_silence_is_kept_and_ends():
    with progress.silent():
        assert run("Slow", 1.0, io.StringIO()) == ""
    assert run(None, 1.0, io.StringIO()) == ""
    assert run("Slow", 1.0, io.StringIO()) != ""


def test_a_bar_ends_with_an_error():
    stream, clock = Terminal(), Clock()
    with (
        pytest.raises(RuntimeError),
        progress.Progress("Doomed", 9, stream=stream, clock=clock) as bar,
    ):
        clock.now = 5
        bar.advance()
        raise RuntimeError
    assert progress._Shared.display is None and progress._Shared.bars == 0


def test_bars_inside_bars_share_one_display():
    stream, clock = Terminal(), Clock()
    with progress.Progress("Outer", 2, stream=stream, clock=clock) as outer:
        clock.now = 5
        outer.advance()
        display = progress._Shared.display
        with progress.Progress("Inner", 3, stream=stream, clock=clock) as inner:
            clock.now = 10
            inner.advance()
            assert progress._Shared.display is display and progress._Shared.bars == 2
        assert progress._Shared.display is display and progress._Shared.bars == 1
    assert progress._Shared.display is None
