"""Up, status and down: one folder, one process, whether it is the server's or a party's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedkd.deploy.control import Control, control_of
from fedkd.deploy.layout import WORK, agreed_scenario, lay_out_party, lay_out_server
from fedkd.deploy.probe import check_port_free, check_server
from fedkd.deploy.processes import Daemon
from fedkd.deploy.settings import (
    check_flower,
    is_server,
    join_address,
    read_party,
    read_server,
)
from fedkd.errors import DeployError
from fedkd.files import read_json, write_json
from fedkd.run.folder import RunFolder

Note = Callable[[str], None]
_START_SECONDS = 180.0
_ONLINE = "SuperNode ID:"


def check(folder: Path, note: Note) -> None:
    """Check and lay out a folder without starting or sending anything."""
    server = is_server(folder)
    check_flower(read_server(folder) if server else read_party(folder))
    for line in lay_out_server(folder) if server else lay_out_party(folder):
        note(line)


def up(folder: Path, note: Note) -> None:
    """Start what belongs to this folder and return once it works.

    Run again, it starts nothing twice; at the server it makes the accepted keys equal to the files
    in ``nodes``. Raises a :class:`~fedkd.errors.FedkdError`; nothing is left running then.
    """
    if is_server(folder):
        _up_server(folder, note)
    else:
        _up_party(folder, note)


def down(folder: Path, note: Note) -> None:
    """End what ``up`` has started, with all its children."""
    daemon = daemon_of(folder)
    note(f"{daemon.name}: {'stopped' if daemon.stop() else 'was not running'}")


def status(folder: Path, note: Note) -> bool:
    """Tell what runs; return whether this folder's process does and its server answers."""
    daemon = daemon_of(folder)
    process = daemon.process()
    note(f"{daemon.name}: {f'running (process {process.pid})' if process else 'not running'}")
    if process is None:
        for line in daemon.tail(3):
            note(f"  {line}")
    server = is_server(folder)
    address = local_address(folder) if server else read_party(folder).server
    try:
        check_server(address, folder / "ca.crt")
        note(f"server {address}: answers")
        if server:
            _tell_nodes(folder, address, note)
    except DeployError as error:
        note(f"server: {error}")
        return False
    finally:
        if server:
            _tell_runs(folder, note)
    return process is not None


def daemon_of(folder: Path) -> Daemon:
    """Return the background process of a folder."""
    return Daemon(folder, "superlink" if is_server(folder) else "supernode")


def local_address(folder: Path) -> str:
    """Return where the server is reached on its own machine."""
    settings = read_server(folder)
    return join_address("::1" if ":" in settings.host else "127.0.0.1", settings.port)


def register_nodes(folder: Path, control: Control, note: Note) -> None:
    """Make the nodes that the SuperLink lets in those with a key in ``nodes``."""
    record = folder / "state" / "nodes.json"
    known: dict[str, dict[str, object]] = read_json(record) if record.is_file() else {}
    there = {node.identifier for node in control.nodes()}
    keys = {file.stem: file for file in sorted((folder / "nodes").glob("*.pub"))}
    kept: dict[str, dict[str, object]] = {}
    for name, entry in known.items():
        line = keys[name].read_text(encoding="utf-8") if name in keys else None
        if entry["node"] not in there:
            continue
        if entry["key"] == line:
            kept[name] = entry
        else:
            control.unregister(int(str(entry["node"])))
            note(f"{name}: key removed")
    for name, file in keys.items():
        if name not in kept:
            kept[name] = {"node": control.register(file), "key": file.read_text(encoding="utf-8")}
            note(f"{name}: key accepted")
        write_json(record, kept)
    write_json(record, kept)


def _up_server(folder: Path, note: Note) -> None:
    check(folder, note)
    settings, daemon, address = read_server(folder), daemon_of(folder), local_address(folder)
    ca = folder / "ca.crt"
    answers = _answers(address, ca)
    if not answers:
        host = address.rpartition(":")[0].strip("[]")
        check_port_free(host, settings.port, "another --port, or ending what listens there")
        daemon.start(folder / "superlink.sh", lambda: _answers(address, ca), _START_SECONDS)
    with control_of(address, ca) as control:
        register_nodes(folder, control, note)
    told = join_address(settings.host, settings.port)
    note(f"server {told}: {'was running already' if answers else 'started'}; log {daemon.log}")


def _up_party(folder: Path, note: Note) -> None:
    settings, daemon = read_party(folder), daemon_of(folder)
    running = daemon.process()
    if running is not None:
        note(f"{settings.name}: was running already (process {running.pid})")
        return
    check(folder, note)
    check_server(settings.server, folder / "ca.crt")
    check_port_free("127.0.0.1", settings.port, "another port in party.toml")
    try:
        daemon.start(folder / "supernode.sh", lambda: daemon.says(_ONLINE), _START_SECONDS)
    except DeployError as error:
        raise DeployError(
            f"Expected the server to accept node {settings.name!r}. Try `fedkd deploy up` at the "
            "server with this party's node.pub in its folder nodes/; after a crash, wait 75 s "
            f"until the server has marked this node offline.\n{error}"
        ) from error
    note(f"{settings.name}: node is online at {settings.server}; log {daemon.log}")


def _answers(address: str, ca: Path) -> bool:
    try:
        check_server(address, ca)
    except DeployError:
        return False
    return True


def _tell_nodes(folder: Path, address: str, note: Note) -> None:
    record = folder / "state" / "nodes.json"
    names = {e["node"]: n for n, e in read_json(record).items()} if record.is_file() else {}
    with control_of(address, folder / "ca.crt") as control:
        for node in control.nodes():
            note(f"  {names.get(node.identifier, node.identifier)}: {node.status}")


def _tell_runs(folder: Path, note: Note) -> None:
    scenario = agreed_scenario(folder)
    for seed in scenario.seeds:
        home = RunFolder(folder / WORK / scenario.folder(seed))
        if home.done:
            note(f"seed {seed} complete: {home.root.resolve()} (student in student/)")
            note(f"  for the table and report.html: fedkd report {home.root.resolve().parent}")
        else:
            note(f"seed {seed} not complete: {home.root.resolve()}")
