"""The terminal's table of one configuration."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedkd.metrics.scores import MEASURES
from fedkd.report.headline import primary_measure
from fedkd.report.summary import Row, Summary
from fedkd.report.wording import (
    MINUS,
    WORDINGS,
    better,
    interval_text,
    is_control,
    methods_in_order,
    references_in_order,
)

_MOST_TEACHERS = 8


def print_table(summary: Summary, file: TextIO | None = None) -> None:
    """Print references, then methods, one row each, to ``file`` or standard output.

    Mean ± half width of the 95 % interval over seeds; the last column is the paired difference
    from the baseline. A file that is no terminal gets plain text that is never wrapped.
    """
    out = sys.stdout if file is None else file
    console = Console(file=out)
    if console.is_terminal:
        console.print(_rich_table(summary))
    else:
        out.write(plain_table(summary))


def plain_table(summary: Summary) -> str:
    """Return the table as aligned plain text, one line a row, ended by a newline."""
    return aligned([_header(summary), *(_cells(row, summary) for row in _rows(summary))])


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as text, the first column to the left and the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        + "\n"
        for line in lines
    )


def _rich_table(summary: Summary) -> Table:
    name, *titles = _header(summary)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(name, overflow="fold")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    measure = primary_measure(summary)
    for row in _rows(summary):
        cells = [Text(cell) for cell in _cells(row, summary)]
        if row in summary.references or is_control(row):
            for cell in cells:
                cell.stylize("dim")
        difference = row.paired.get(measure)
        verdict = None if difference is None else better(measure, difference)
        if verdict is not None:
            cells[-1].stylize("bold green" if verdict else "bold red")
        table.add_row(*cells)
    return table


def _rows(summary: Summary) -> tuple[Row, ...]:
    return (*references_in_order(summary, _MOST_TEACHERS), *methods_in_order(summary))


def _header(summary: Summary) -> list[str]:
    short = WORDINGS[primary_measure(summary)].short
    return ["", *(WORDINGS[m].short for m in MEASURES), f"Δ{short} to {summary.baseline}"]


def _cells(row: Row, summary: Summary) -> list[str]:
    difference = row.paired.get(primary_measure(summary))
    cells = [interval_text(row.measures[m].interval) for m in MEASURES]
    change = "" if difference is None else interval_text(difference.interval, signed=True)
    return [row.name, *(cell.replace(MINUS, "-") for cell in (*cells, change))]
