"""The Ray engine: Flower's Simulation Engine, lent to the ServerApp of each seed.

Flower runs the ServerApp in a thread that nobody can interrupt, and Ray only once a run. So the
simulation has a thread of its own, its ServerApp does nothing but lend the grid, and the
scenario's ServerApp runs in the main thread, as on the inline engine: Ctrl-C reaches it, an error
ends it, and one Ray serves all seeds.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from flwr.supercore import telemetry
from flwr.supercore.run import Run

from fedkd.errors import EngineError, expected
from fedkd.files import read_json
from fedkd.run.devices import place
from fedkd.run.folder import RunFolder
from fedkd.run.grid import UserConfig
from fedkd.run.ray_cluster import (
    Cluster,
    check_cluster,
    open_cluster,
    party_resources,
    uninterrupted,
)
from fedkd.run.ray_party import (
    CODE_DIFFERS,
    ROOT,
    Assignment,
    Origin,
    PartyApp,
    code_digest,
    code_place,
)
from fedkd.scenario import Scenario

IN_FLIGHT = 256
LEND_SECONDS = 60.0
IDLE_SECONDS = 4.0
END_SECONDS = 20.0
_POLL_SECONDS = 0.05
_RAY_FAILED = 0
_APP_NOT_FOUND = 1
_DEATHS = ("ActorDied", "ActorUnavailable", "OutOfMemory", "WorkerCrashed")
_COST = ("bow", "encoder", "transformer")
GridFor = Callable[[RunFolder, UserConfig], Grid]


class RayGrid(Grid):
    """Flower's grid, which stops where a process of Ray has died instead of asking it for ever.

    ``running`` raises where the simulation is gone.
    """

    def __init__(self, grid: Grid, running: Callable[[], None]) -> None:
        self._grid = grid
        self._running = running

    def set_run(self, run: Run) -> None:
        """Set the run this grid belongs to."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """Return the run this grid belongs to."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message to one node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes, one a party, as soon as the simulation has made them."""
        self._running()
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand the messages to the simulation."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies so far; raises :class:`EngineError` where Ray failed."""
        self._running()
        replies = list(self._grid.pull_messages(message_ids))
        for reply in replies:
            if reply.has_error():
                _raise_if_fatal(reply.error.code, str(reply.error.reason))
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send the messages and return the replies.

        It gives up when no reply has come for ``timeout`` seconds, so a request's time does not
        count while it waits for a free actor. No more than 256 messages are under way at once,
        because Flower searches all of them for every node.
        """
        waiting = deque(messages)
        under_way: set[str] = set()
        replies: list[Message] = []
        last = time.monotonic()
        while waiting or under_way:
            room = min(IN_FLIGHT - len(under_way), len(waiting))
            under_way.update(self.push_messages([waiting.popleft() for _ in range(room)]))
            arrived = list(self.pull_messages(under_way))
            under_way.difference_update(r.metadata.reply_to_message_id for r in arrived)
            replies += arrived
            now = time.monotonic()
            if arrived:
                last = now
            elif timeout is not None and now - last > timeout:
                break
            else:
                time.sleep(_POLL_SECONDS)
        return replies


@contextmanager
def open_ray(
    scenario: Scenario, client_app: str, replacement: ClientApp | None = None
) -> Iterator[GridFor]:
    """Start the simulation; what it yields returns the grid for a seed's run folder.

    ``client_app`` is the parties' app as module:attribute, ``replacement`` another one (tests).
    At the end no process is left, whatever ended it.
    """
    resources = scenario.run.resources
    slots = place(scenario).at_once
    telemetry.FLWR_TELEMETRY_ENABLED = "0"  # read at import, perhaps before we were
    origin = Origin(client_app, code_place(), code_digest(), str(Path.cwd()))
    assignment = Assignment(order=tuple(range(scenario.parties.count)))
    app = PartyApp(origin, replacement, assignment)
    with open_cluster(resources, slots) as cluster:
        if resources.address is not None:
            check_cluster(resources)
        with _simulation(cluster, app, scenario.parties.count, party_resources(resources)) as grid:

            def grid_for(folder: RunFolder, config: UserConfig) -> Grid:
                assignment.config = dict(config)
                assignment.order = heaviest_first(folder)
                return grid

            yield grid_for


def heaviest_first(folder: RunFolder) -> tuple[int, ...]:
    """Return the parties by the cost of their teachers, the dearest first.

    Flower serves its nodes in order, so the last actor to finish is not left with a large party.
    """
    parties = list(read_json(folder.root / "federation.json")["parties"].values())

    def cost(index: int) -> tuple[int, int]:
        party = parties[index]
        return _COST.index(party["teacher"]), int(party["rows"])

    return tuple(sorted(range(len(parties)), key=cost, reverse=True))


@contextmanager
def _simulation(
    cluster: Cluster, app: PartyApp, parties: int, resources: dict[str, float]
) -> Iterator[RayGrid]:
    lent: Queue[Grid] = Queue()
    done = threading.Event()
    failures: list[BaseException] = []
    lender = ServerApp()

    @lender.main()
    def lend(grid: Grid, context: Context) -> None:
        lent.put(grid)
        done.wait()

    def simulate() -> None:
        try:
            run_simulation(
                lender, app, parties, backend_config={"client_resources": dict(resources)}
            )
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=simulate, name="flower-simulation", daemon=True)

    def running() -> None:
        if not thread.is_alive():
            reason = str(failures[0].__cause__ or failures[0]) if failures else "it ended"
            raise EngineError(
                expected("Ray", reason, "go on", "the same command again, or backend = 'inline'")
            )

    thread.start()
    try:
        yield RayGrid(_wait_for(lent, running), running)
    finally:
        with uninterrupted():
            cluster.remember()
            done.set()
            thread.join(IDLE_SECONDS)
            if thread.is_alive():
                cluster.stop_parties()
                thread.join(END_SECONDS)


def _wait_for(lent: Queue[Grid], running: Callable[[], None]) -> Grid:
    end = time.monotonic() + LEND_SECONDS
    while time.monotonic() < end:
        try:
            return lent.get(timeout=0.2)
        except Empty:
            running()
    raise EngineError(expected("Ray", "no answer", "start", "backend = 'inline'"))


def _raise_if_fatal(code: int, reason: str) -> None:
    if CODE_DIFFERS in reason:
        other = reason.rpartition(CODE_DIFFERS)[2].split()[0].strip("'>")
        raise EngineError(
            expected("fedkd of an actor", other, f"be that of {ROOT}", "the same version on both")
        )
    if code not in (_RAY_FAILED, _APP_NOT_FOUND):
        return
    if any(name in reason for name in _DEATHS):
        raise EngineError(
            "Expected the process of a party to live, but it died (often for want of memory). "
            "Try fewer parties at once, by a larger run.resources.memory or cpus; "
            "the same command goes on from here."
        )
    raise EngineError(
        expected("Ray", reason.strip()[-300:], "run the party's app", "backend = 'inline'")
    )
