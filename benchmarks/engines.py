"""Engines: start-up, cost of a light party and message beside plain Flower, and 1,000 parties.

python benchmarks/engines.py [--part start|messages|parties] [--json FILE]

Every figure is taken in a process of its own. The echo app is Flower and nothing else, so what
remains between the two is ours. With no --part all three are measured (about ten minutes).
"""

# ruff: noqa: PLC0415  (what is timed includes its imports)
from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SIZES = (125, 250, 500, 1000)
PARTIES = 100
REPEATS = 5
ROWS_OF_A_PARTY = 8
Figures = dict[str, Any]


def scenario(out: str, parties: int, backend: str = "inline") -> Any:
    """Light parties on the generated corpus: bow teachers, 200 transfer rows."""
    from fedkd.scenario_file import parse_scenario

    return parse_scenario(
        {
            "name": "light",
            "data": {"source": "generated:moods", "transfer": {"rows": 200}},
            "parties": {"count": parties, "partition": {"by": "iid"}},
            "teacher": {"epochs": 2, "features": 1024},
            "student": {"epochs": 2},
            "method": [{"name": "cross-entropy", "weights": "uniform"}],
            "run": {"out": out, "backend": backend, "resources": {"cpus": 1}},
        }
    )


def start_inline(out: str, parties: int) -> Figures:
    """Seconds from nothing to the first request of ``fedkd run scenarios/quickstart.toml``."""
    start = time.perf_counter()
    from fedkd.run.engine import run_scenario
    from fedkd.scenario_file import load_scenario

    class ReachedError(Exception):
        pass

    def tap(*_: object) -> None:
        raise ReachedError

    quick = load_scenario(ROOT / "scenarios" / "quickstart.toml", [f'run.out="{out}"'])
    try:
        run_scenario(quick, tap=tap)
    except ReachedError:
        return {"seconds": time.perf_counter() - start}
    raise RuntimeError("no request was sent")


def rounds(grid: Any, parties: int, kind: str, first: float) -> Figures:
    """Seconds to the first reply of all, and of a later round with one light message each."""
    from flwr.app import ConfigRecord, Message, RecordDict

    while len(nodes := list(grid.get_node_ids())) < parties:
        time.sleep(0.01)

    def once() -> float:
        content = [RecordDict({"request": ConfigRecord({"request_id": "x"})}) for _ in nodes]
        messages = [Message(c, n, kind) for c, n in zip(content, nodes, strict=True)]
        begin = time.perf_counter()
        replies = list(grid.send_and_receive(messages))
        if len(replies) != parties or any(reply.has_error() for reply in replies):
            raise RuntimeError("a reply is missing")
        return time.perf_counter() - begin

    once()
    reached = time.perf_counter() - first
    once()  # Flower's actors import the app with their first message
    seconds = sorted(once() for _ in range(REPEATS))
    return {"first_reply": reached, "round": seconds[REPEATS // 2], "rounds": seconds}


def echo_plain(out: str, parties: int) -> Figures:
    """Plain Flower on Ray: run_simulation with an app that echoes."""
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    from benchmarks.echo import app

    start = time.perf_counter()
    figures: Figures = {}
    server = ServerApp()

    @server.main()
    def main(grid: Any, context: Any) -> None:
        figures.update(rounds(grid, parties, "query.echo", start))

    resources: Any = {"num_cpus": 1.0, "num_gpus": 0.0}
    quiet: Any = {"log_to_driver": False, "logging_level": "ERROR"}
    run_simulation(
        server, app, parties, backend_config={"client_resources": resources, "init_args": quiet}
    )
    return figures | {"seconds": time.perf_counter() - start}


def echo_ours(out: str, parties: int) -> Figures:
    """The same echo app on our Ray engine."""
    from benchmarks.echo import app

    return on_ray(out, parties, app, "query.echo")


def light_ours(out: str, parties: int) -> Figures:
    """Our own app on our Ray engine: parties say who they are."""
    return on_ray(out, parties, None, "query.describe")


def on_ray(out: str, parties: int, app: Any, kind: str) -> Figures:
    from fedkd.run.engine import CLIENT_APP
    from fedkd.run.prepare import prepare_run
    from fedkd.run.ray import open_ray

    ours = scenario(out, parties, "ray")
    folder = prepare_run(ours, 0)
    start = time.perf_counter()
    with open_ray(ours, CLIENT_APP, app) as grid_for:
        grid = grid_for(folder, {"seed": 0, "run-folder": str(folder.root.resolve())})
        figures = rounds(grid, parties, kind, start)
    return figures | {"seconds": time.perf_counter() - start}


def light_inline(out: str, parties: int) -> Figures:
    """A round of light messages on the inline engine, and of the echo app."""
    from benchmarks.echo import app as echo
    from clients.app import app
    from fedkd.run.grid import InlineGrid
    from fedkd.run.prepare import prepare_run

    folder = prepare_run(scenario(out, parties), 0)
    config: Any = {"seed": 0, "run-folder": str(folder.root.resolve())}
    start = time.perf_counter()
    ours = rounds(InlineGrid(app, parties, config), parties, "query.describe", start)
    plain = rounds(InlineGrid(echo, parties, config), parties, "query.echo", start)
    return {"round": ours["round"], "echo": plain["round"]}


def many_inline(out: str, parties: int) -> Figures:
    """A whole run with this many parties: seconds by stage, and the most memory in GB."""
    from fedkd.files import read_json
    from fedkd.progress import silent
    from fedkd.run.engine import run_scenario

    light = scenario(out, parties)
    data = light.data.model_copy(update={"source": corpus(out, parties)})
    light = light.model_copy(update={"data": data})
    start, used = time.perf_counter(), time.process_time()
    with silent():
        finished = run_scenario(light)
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    stages = read_json(finished.seeds[0].result)["seconds"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"parties": parties, "seconds": seconds, "cpu": cpu, "stages": stages, "memory": peak}


def corpus(out: str, parties: int) -> dict[str, str]:
    """Write eight rows for each party and the transfer set; the test set has 200 rows for all.

    Every party answers the whole test set, so one that grew with the parties would be quadratic.
    """
    draw = np.random.default_rng(0)
    moods = ("angry", "calm", "glad", "sad")
    files = {}
    for split, rows in (("train", parties * ROWS_OF_A_PARTY + 200), ("test", 200)):
        file = Path(out) / f"{split}.jsonl"
        with file.open("w", encoding="utf-8") as target:
            for _ in range(rows):
                mood = int(draw.integers(len(moods)))
                picked = draw.integers(0, 500, 12) + 400 * mood * draw.integers(0, 2, 12)
                text = " ".join(f"word{i}" for i in picked)
                target.write(json.dumps({"text": text, "label": moods[mood]}) + "\n")
        files[split] = str(file)
    return files


MEASURES: dict[str, Callable[[str, int], Figures]] = {
    function.__name__: function
    for function in (start_inline, echo_plain, echo_ours, light_ours, light_inline, many_inline)
}


def measured(name: str, parties: int = PARTIES) -> Figures:
    """Take a figure in a fresh process and a fresh folder, away from this directory."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryDirectory() as out:
        answer = Path(out) / "answer.json"
        command = [sys.executable, __file__, "--measure", name, str(parties), out, str(answer)]
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
    inline = measured("start_inline")["seconds"]
    plain, ours = measured("echo_plain", 2), measured("echo_ours", 2)
    rows = [
        ("inline, quickstart, to its first request", f"{inline:.1f}", "3"),
        ("plain Flower on Ray, 2 echoes", f"{plain['first_reply']:.1f}", ""),
        ("ours on Ray, the same 2 echoes", f"{ours['first_reply']:.1f}", ""),
        ("ours beyond plain", f"{ours['first_reply'] - plain['first_reply']:+.1f}", "1"),
    ]
    return (
        {"inline": inline, "plain": plain, "ours": ours},
        table(("start-up", "seconds", "at most"), rows),
    )


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
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        name, parties, out, answer = given.measure
        figures = MEASURES[name](out, int(parties))
        Path(answer).write_text(json.dumps(figures))
        return
    result: Figures = {"environment": environment()}
    print(f"load {result['environment']['load']:.1f} on {os.cpu_count()} cores\n")
    for name in [given.part] if given.part else PARTS:
        result[name], text = PARTS[name]()
        print(text, flush=True)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
