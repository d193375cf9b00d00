"""What benchmarks/engines.py measures, each figure alone in a process of its own.

python benchmarks/engine_figures.py NAME PARTIES FOLDER ANSWER.json
"""

# ruff: noqa: PLC0415  (what is timed includes its imports)
from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
REPEATS = 15
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
    # The mean: Flower looks for replies every tenth of a second, so single rounds come in steps.
    return {"first_reply": reached, "round": sum(seconds) / REPEATS, "rounds": seconds}


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


if __name__ == "__main__":
    name, parties, out, answer = sys.argv[1:]
    Path(answer).write_text(json.dumps(MEASURES[name](out, int(parties))))
