"""The report of a scenario with topic models, from the files of its finished seeds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from fedkd.files import read_json, write_json, write_text
from fedkd.report.table import aligned
from fedkd.report.topic_figures import Kind, PartyTopics, TopicMeasure, TopicModelRow, TopicReport
from fedkd.report.topic_summary import (
    MEASURES,
    finished_seeds,
    summarise_topics,
    table_lines,
    text_of,
)
from fedkd.report.topics import topic_page
from fedkd.report.wording import byte_text, listed

COLUMNS = (
    TopicMeasure("npmi", "NPMI"),
    TopicMeasure("c_v", "C_V"),
    TopicMeasure("diversity", "Diversity"),
    TopicMeasure("irbo", "IRBO"),
    TopicMeasure("perplexity", "Perplexity", higher_is_better=False, decimals=0),
    TopicMeasure("accuracy", "Accuracy of θ"),
)


def is_topic_run(config_folder: Path) -> bool:
    """Whether the results in this folder are of topic models."""
    return any(
        read_json(file).get("kind") == "topics" for file in config_folder.glob("*/result.json")
    )


def write_topic_report(config_folder: Path) -> Path:
    """Write ``summary.json``, ``summary.md`` and ``report.html``; return the last.

    Raises :class:`~fedkd.errors.DataError` where no seed has finished.
    """
    summary = summarise_topics(config_folder)
    write_json(config_folder / "summary.json", summary)
    write_text(config_folder / "summary.md", "\n".join(table_lines(summary)) + "\n")
    page = _page(config_folder, summary)
    write_text(config_folder / "report.html", page)
    write_text(config_folder.parent / "report.html", page)
    return config_folder / "report.html"


def print_topic_table(config_folder: Path) -> None:
    """Print every row's measures, medians and ranges over the finished seeds.

    What is no terminal gets plain text that is never wrapped or cut.
    """
    summary = summarise_topics(config_folder)
    title = f"{summary['scenario']}, seeds {listed(summary['seeds'])}"
    cells = [
        [name, *(text_of(m, row[m]) for m in MEASURES)] for name, row in summary["rows"].items()
    ]
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        header = ["model", *(column.title for column in COLUMNS)]
        sys.stdout.write(f"{title}\n{aligned([header, *cells])}")
        return
    table = Table(title=title)
    table.add_column("model", overflow="fold")
    for column in COLUMNS:
        table.add_column(column.title, justify="right")
    for line in cells:
        table.add_row(*line)
    console.print(table)


def _page(config_folder: Path, summary: Mapping[str, Any]) -> str:
    seeds = finished_seeds(config_folder)
    folder, first = seeds[0]
    sides = read_json(folder / "topics.json")
    student = str(summary["baseline"])
    report = TopicReport(
        seeds=tuple(summary["seeds"]),
        measures=COLUMNS,
        models=tuple(
            TopicModelRow(name, _kind(name, first), {m: tuple(row[m]["values"]) for m in MEASURES})
            for name, row in summary["rows"].items()
        ),
        student=student,
        shown_seed=int(first["seed"]),
        words=_words(sides["topics"][student]),
        coherence=_numbers(sides["npmi"][student]),
        parties=tuple(
            PartyTopics(
                party,
                _words(sides["topics"][f"teacher/{party}"]),
                np.asarray(one["likeness"], np.float64),
                _numbers(sides["npmi"][f"teacher/{party}"]),
            )
            for party, one in sides["matches"][student].items()
        ),
        baseline=student,
        likeness="1 − Hellinger distance between the words of the documents that use two topics",
    )
    sent = sum(one["up"] for one in first["bytes"].values())
    return topic_page(
        report,
        title=str(summary["scenario"]),
        lead="Topic models of several parties, distilled into one student.",
        facts=[
            ("Seeds", listed(summary["seeds"])),
            ("Parties", str(len(sides["matches"][student]))),
            ("Public documents", f"{first['transfer_rows']:,}"),
            ("Words agreed on", f"{first['words']:,}"),
            ("Parameters", _parameters(first["methods"][student].get("parameters", {}))),
            ("Rounds", str(first.get("rounds", 1))),
            ("Sent by parties", byte_text(sent)),
        ],
        warnings=list(dict.fromkeys(w for _, values in seeds for w in values["warnings"])),
        scenario_text=(folder / "scenario.toml").read_text(encoding="utf-8"),
    )


def _kind(name: str, result: Mapping[str, Any]) -> Kind:
    if name in result["methods"]:
        return "student"
    return "teacher" if name.startswith("teacher/") else "reference"


def _parameters(counts: Mapping[str, int]) -> str:
    names = {"built": "", "collapsed": " collapsed", "with_encoder": " with its encoder"}
    return ", ".join(f"{counts[key]:,}{name}" for key, name in names.items() if key in counts)


def _words(topics: list[list[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(words) for words in topics)


def _numbers(values: list[float | None]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array([np.nan if v is None else v for v in values], np.float64)
