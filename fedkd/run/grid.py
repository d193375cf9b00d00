"""The inline engine: an in-process Grid that calls the unmodified ClientApp."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedkd.run.wire import decode_content, encode_content

UserConfig = dict[str, bool | float | int | str]
Tap = Callable[[str, Message, bytes], None]
_RUN_ID = 1
_SERVER_NODE = 1
_FIRST_NODE = 10
_CLIENT_EXCEPTION = 2


class InlineGrid(Grid):
    """Runs every party in this process, one after the other.

    Contents cross as the bytes that Flower would send, so neither side can reach into the other's
    memory and the bytes counted here are those of the wire. ``tap`` sees each content:
    (direction 'down' or 'up', message, bytes).
    """

    def __init__(
        self, app: ClientApp, parties: int, run_config: UserConfig, tap: Tap | None = None
    ) -> None:
        self._app = app
        self._tap = tap
        self._run: Run | None = None
        self._replies: dict[str, Message] = {}
        self._sent = 0
        _take_identity(_SERVER_NODE)
        self._contexts = {
            _FIRST_NODE + index: Context(
                run_id=_RUN_ID,
                node_id=_FIRST_NODE + index,
                node_config={"partition-id": index, "num-partitions": parties},
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for index in range(parties)
        }

    def set_run(self, run: Run) -> None:
        """Set the run this grid belongs to."""
        self._run = run

    @property
    def run(self) -> Run:
        """Return the run this grid belongs to."""
        if self._run is None:
            raise RuntimeError("The inline grid was given no run")
        return self._run

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
        """Return the nodes, one a party."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand each message to its party and keep the reply."""
        identifiers = []
        for message in messages:
            self._sent += 1
            identifier = f"message-{self._sent}"
            message.metadata.__dict__["_message_id"] = identifier
            self._replies[identifier] = self._deliver(message)
            identifiers.append(identifier)
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to these messages."""
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send the messages and return the replies that came within ``timeout`` seconds.

        Parties take turns here, so each has the whole time to itself.
        """
        replies: list[Message] = []
        for message in messages:
            start = time.monotonic()
            answered = self.pull_messages(self.push_messages([message]))
            if timeout is None or time.monotonic() - start <= timeout:
                replies += answered
        return replies

    def _deliver(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        message.content = self._cross("down", message)
        _take_identity(node)
        try:
            reply = self._app(message, self._contexts[node])
        except Exception as error:  # any fault of a party becomes an error reply
            reply = Message(Error(_CLIENT_EXCEPTION, type(error).__name__), reply_to=message)
        finally:
            _take_identity(_SERVER_NODE)
        if reply.has_content():
            reply.content = self._cross("up", reply)
        reply.metadata.__dict__["_message_id"] = f"{message.metadata.message_id}-reply"
        return reply

    def _cross(self, direction: str, message: Message) -> RecordDict:
        data = encode_content(message.content)
        if self._tap is not None:
            self._tap(direction, message, data)
        return decode_content(data)


def _take_identity(node: int) -> None:
    """Tell Flower who speaks; its Message() refuses to be made by nobody."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, _RUN_ID, node
