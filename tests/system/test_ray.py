"""The Ray engine: the same bytes, a clear end, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from ray.thirdparty_files import psutil

from clients.app import app
from fedkd.errors import EngineError, ScenarioError
from fedkd.files import read_json, write_json
from fedkd.run import ray_cluster
from fedkd.run.devices import Machine, place, this_machine
from fedkd.run.engine import run_scenario
from fedkd.run.folder import RunFolder
from fedkd.run.ray import RayGrid, heaviest_first
from fedkd.run.ray_party import CODE_DIFFERS, Origin, agree
from fedkd.scenario import Scenario
from tests.system.small import COMMAND, small, write_scenario

TEACHER = {"model": "bow", "epochs": 4, "override": [{"parties": [1], "hidden": 8}]}
RAY = ("raylet", "gcs_server", "ray::")


def on_ray(out: Path, *, actors: int = 2, **changes: object) -> Scenario:
    cores = this_machine().cores
    cpus = cores / actors if cores < actors else cores // actors
    run = {"out": str(out), "block_rows": 64, "backend": "ray", "resources": {"cpus": cpus}}
    return small(out, teacher=TEACHER, run=run, **changes)


def of_ray(processes: list[psutil.Process]) -> list[str]:
    found = []
    for process in processes:
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        found += [word for word in words[:1] if any(name in word for name in RAY)]
    return found


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def variables() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"}


@pytest.fixture
def nothing_left():
    """No process of Ray, no folder and no changed environment stay behind."""
    folders = set(Path(tempfile.gettempdir()).glob("fedkd-ray-*"))
    environment = variables()
    yield
    assert of_ray(children()) == []
    assert set(Path(tempfile.gettempdir()).glob("fedkd-ray-*")) <= folders
    assert variables() == environment


@pytest.fixture(scope="module")
def inline(tmp_path_factory) -> RunFolder:
    return run_scenario(small(tmp_path_factory.mktemp("inline"), teacher=TEACHER)).seeds[0]


def same(one: RunFolder, two: RunFolder) -> None:
    assert one.root.name == two.root.name
    assert one.root.parent.name == two.root.parent.name, "the engine changed the configuration"
    first, second = read_json(one.result), read_json(two.result)
    for key in ("hashes", "methods", "references"):
        assert first[key] == second[key]
    sent = [{p: count["up"] for p, count in r["bytes"].items()} for r in (first, second)]
    assert sent[0] == sent[1]
    for file in sorted(one.intake.rglob("*.npy")):
        assert file.read_bytes() == (two.intake / file.relative_to(one.intake)).read_bytes()


def test_two_actors_give_the_same_bytes_whatever_lies_around(
    inline, tmp_path, monkeypatch, nothing_left
):
    """Another project's `clients` here, a stale cluster file, an address of a Ray long gone."""
    for package in ("clients", "fedkd"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('the wrong one')\n")
    stale = tmp_path / "t" / "ray"
    stale.mkdir(parents=True)
    (stale / "ray_current_cluster").write_text("127.0.0.1:9")
    with monkeypatch.context() as here:
        here.chdir(tmp_path)
        here.setenv("RAY_TMPDIR", str(stale.parent))
        here.setenv("RAY_ADDRESS", "127.0.0.1:9")
        folder = run_scenario(on_ray(tmp_path / "runs")).seeds[0]
    same(inline, folder)


def test_one_actor_gives_the_same_bytes(inline, tmp_path, nothing_left):
    same(inline, run_scenario(on_ray(tmp_path, actors=1)).seeds[0])


class Mortal(ClientApp):
    """The real app, in a process that dies as for want of memory."""

    def __call__(self, message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 2 and message.metadata.message_type != "query":
            os._exit(1)
        return app(message, context)


def test_dead_actor_ends_the_run_at_once(tmp_path, nothing_left):
    scenario = on_ray(tmp_path)
    start = time.monotonic()
    with pytest.raises(EngineError, match=r"died.*Try fewer parties"):
        run_scenario(scenario, client_app=Mortal())
    assert time.monotonic() - start < scenario.run.deadline
    assert not RunFolder(scenario.folder(0)).done


def test_nothing_outlives_an_interrupted_run(tmp_path):
    data = {"source": "generated:moods", "domain": "domain", "transfer": {"rows": 1000}}
    scenario = on_ray(tmp_path / "runs", data=data)
    file = tmp_path / "scenario.toml"
    write_scenario(file, scenario)
    command = [sys.executable, "-c", COMMAND, "run", str(file), "--backend", "ray"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        family = wait_for_actors(run)
        os.killpg(run.pid, signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    _, left = psutil.wait_procs(family, timeout=10)
    assert of_ray(left) == []
    assert run.returncode == 130
    assert "Traceback" not in errors


def wait_for_actors(run: subprocess.Popen[str]) -> list[psutil.Process]:
    parent = psutil.Process(run.pid)
    end = time.monotonic() + 60
    while time.monotonic() < end and run.poll() is None:
        family = parent.children(recursive=True)
        if any("ClientAppActor" in name for name in of_ray(family)):
            return family
        time.sleep(0.1)
    raise AssertionError(f"no actor came up: {run.stderr.read() if run.stderr else ''}")


def test_address_that_does_not_answer(tmp_path, monkeypatch, nothing_left):
    monkeypatch.setattr(ray_cluster, "CLUSTER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(EngineError, match="be a Ray cluster"):
            run_scenario(at(tmp_path, address))
    with pytest.raises(EngineError, match=r"answer .*ray start"):
        run_scenario(at(tmp_path, address))
    with pytest.raises(EngineError, match="host:port"):
        run_scenario(at(tmp_path, "ray://head"))


def at(out: Path, address: str) -> Scenario:
    return small(out, run={"out": str(out), "backend": "ray", "resources": {"address": address}})


def placed(machine: Machine, backend: str = "ray", parties: int = 4, **resources: float):
    run = {"backend": backend, "resources": resources}
    partition = {"count": parties, "partition": {"by": "iid"}}
    return place(small(Path("runs"), run=run, parties=partition), machine)


BIG = Machine(cores=16, gpus=("A", "A"), memory=64e9)


@pytest.mark.parametrize(
    ("resources", "at_once"),
    [
        ({"cpus": 4}, 4),
        ({"cpus": 1, "gpus": 0.5}, 4),
        ({"cpus": 0.1, "gpus": 1}, 2),
        ({"cpus": 1, "memory": 20}, 3),
        ({"cpus": 8}, 2),
    ],
)
def test_parties_at_once_by_the_scarcest_resource(resources, at_once):
    placement = placed(BIG, parties=9, **resources)
    assert placement.at_once == at_once
    assert f"{at_once} of 9 parties at once" in placement.text


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ({"gpus": 3}, "GPUs here"),
        ({"cpus": 17}, "16 cores here"),
        ({"memory": 65}, "64 GB of memory here"),
        ({"cpus": 1.5}, r"be whole .*cpus = 2"),
        ({"gpus": 1.5}, r"be whole .*gpus = 2"),
    ],
)
def test_more_than_there_is_is_an_error(resources, told):
    with pytest.raises(ScenarioError, match=told):
        placed(BIG, **resources)


def test_inline_is_one_after_the_other():
    assert placed(BIG, "inline").at_once == 1
    assert "GPU 0 (A)" in placed(BIG, "inline").text
    assert "CPU" in placed(Machine(1, (), 1e9), "inline").text


def test_heaviest_party_comes_first(tmp_path):
    teachers = {"a": ("bow", 9), "b": ("transformer", 1), "c": ("bow", 30), "d": ("encoder", 2)}
    parties = {name: {"teacher": kind, "rows": rows} for name, (kind, rows) in teachers.items()}
    write_json(tmp_path / "federation.json", {"parties": parties})
    assert heaviest_first(RunFolder(tmp_path)) == (1, 3, 2, 0)


def test_actor_with_other_code_refuses():
    with pytest.raises(RuntimeError, match=CODE_DIFFERS):
        agree(Origin("clients.app:app", "elsewhere:/x", "0" * 64, "."))


class Failing:
    """A grid whose only reply is an error."""

    def __init__(self, code: int, reason: str) -> None:
        self.error = Error(code, reason)

    def pull_messages(self, identifiers: list[str]) -> list[Failing]:
        return [self]

    def has_error(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        (0, "<class 'ray.exceptions.ActorDiedError'>:<'…'>", "died"),
        (0, "ModuleNotFoundError: clients", "run the party's app"),
        (2, f"Message: {CODE_DIFFERS} node:/x'>", "'node:/x' to be that of"),
    ],
)
def test_what_ray_does_wrong_ends_the_run(code, reason, told):
    with pytest.raises(EngineError, match=told):
        RayGrid(Failing(code, reason), lambda: None).pull_messages(["x"])


def test_what_a_party_does_wrong_does_not():
    grid = RayGrid(Failing(2, "ValueError"), lambda: None)
    assert len(list(grid.pull_messages(["x"]))) == 1
