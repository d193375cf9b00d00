"""Engines: start-up, cost of a light party and message beside plain Flower, and 1,000 parties.

python benchmarks/engines.py [--part start|messages|parties] [--json FILE]

Every figure is taken in a process of its own. The echo app is Flower and nothing else, so what
remains between the two is ours. With no --part all three are measured (about ten minutes).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CHILD = ROOT / "benchmarks" / "engine_figures.py"
STARTS = 5
SIZES = (125, 250, 500, 1000)
PARTIES = 100
Figures = dict[str, Any]


def measured(name: str, parties: int = PARTIES) -> Figures:
    """Take a figure in a fresh process and a fresh folder, away from this directory."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryDirectory() as out:
        answer = Path(out) / "answer.json"
        command = [sys.executable, str(CHILD), name, str(parties), out, str(answer)]
        subprocess.run(
            command,
            check=True,
            cwd=out,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=None if "FEDKD_NOISY" in os.environ else subprocess.DEVNULL,
        )
        figures: Figures = json.loads(answer.read_text())
        return figures


def part_start() -> tuple[Figures, str]:
    """Each is started five times, in turn; the least counts, since other work only adds."""
    names = {"inline": ("start_inline", 4), "plain": ("echo_plain", 2), "ours": ("echo_ours", 2)}
    turns = [{key: measured(*what) for key, what in names.items()} for _ in range(STARTS)]
    least = {
        key: min(turn[key].get("first_reply", turn[key]["seconds"]) for turn in turns)
        for key in names
    }
    rows = [
        ("inline, quickstart, to its first request", f"{least['inline']:.1f}", "3"),
        ("plain Flower on Ray, 2 echoes", f"{least['plain']:.1f}", ""),
        ("ours on Ray, the same 2 echoes", f"{least['ours']:.1f}", ""),
        ("ours beyond plain", f"{least['ours'] - least['plain']:+.1f}", "1"),
    ]
    return {"turns": turns, "least": least}, table(("start-up", "seconds", "at most"), rows)


def part_messages() -> tuple[Figures, str]:
    figures = {name: measured(name) for name in ("echo_plain", "echo_ours", "light_ours")}
    figures["inline"] = measured("light_inline")
    plain = figures["echo_plain"]["round"]

    def row(title: str, seconds: float, ratio: bool) -> tuple[str, ...]:
        each = f"{seconds / PARTIES * 1000:.2f}"
        return (title, f"{seconds:.3f}", each, f"{seconds / plain:.2f}" if ratio else "")

    rows = [
        row("plain Flower on Ray, echo", plain, True),
        row("ours on Ray, echo", figures["echo_ours"]["round"], True),
        row("ours on Ray, describe", figures["light_ours"]["round"], True),
        row("inline, echo", figures["inline"]["echo"], False),
        row("inline, describe", figures["inline"]["round"], False),
    ]
    heads = (f"one message to each of {PARTIES}", "s a round", "ms a party", "to plain (≤ 1.2)")
    return figures, table(heads, rows)


def part_parties() -> tuple[Figures, str]:
    runs = [measured("many_inline", size) for size in SIZES]
    # Seconds of the processor: other work on the machine does not count into them.
    exponent = float(np.polyfit(np.log(SIZES), np.log([run["cpu"] for run in runs]), 1)[0])
    rows = [
        (
            str(run["parties"]),
            f"{run['seconds']:.1f}",
            f"{run['cpu']:.1f}",
            f"{run['cpu'] / run['parties'] * 1000:.0f}",
            f"{run['memory']:.2f}",
        )
        for run in runs
    ]
    heads = ("light parties, inline", "s in all", "s of processor", "ms each", "GB at most (≤ 4)")
    text = table(heads, rows) + f"\nprocessor seconds grow with parties^{exponent:.2f}\n"
    return {"runs": runs, "exponent": exponent}, text


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table; all columns but the first are figures."""
    lines = [heads, ("---", *("---:" for _ in heads[1:])), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def environment() -> Figures:
    packages = ("flwr", "ray", "torch", "numpy")
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "packages": {name: metadata.version(name) for name in packages},
    }


PARTS = {"start": part_start, "messages": part_messages, "parties": part_parties}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    result: Figures = {"environment": environment()}
    print(f"load {result['environment']['load']:.1f} on {os.cpu_count()} cores\n")
    for name in [given.part] if given.part else PARTS:
        result[name], text = PARTS[name]()
        print(text, flush=True)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
