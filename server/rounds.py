"""Rounds of questions: ask, check, ask again, and go on with a quorum."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedkd.errors import QuorumError, ReleaseError, expected
from fedkd.privacy.ledger import FILE, figures_entry, open_ledger, release_entry
from fedkd.run.folder import RunFolder
from fedkd.run.wire import (
    FACTS,
    Scalar,
    content_bytes,
    content_release,
    description_facts,
    encode_content,
    figure_names,
    refusal_reason,
    request_content,
)

NODE_WAIT_SECONDS = 120.0
SPENDING = ("query.answer", "query.bias", "query.further", "query.masked")
_SPENT = "refused: BudgetError"
_FINAL = (_SPENT, "refused: PolicyError")
Accept = Callable[["Request", RecordDict], None]


@dataclass(frozen=True)
class Request:
    """One question to one party.

    ``identifier`` names it across repetitions and restarts; ``limit`` is the most bytes that its
    reply may have.
    """

    party: str
    kind: str
    identifier: str
    fields: dict[str, Scalar] = field(default_factory=dict)
    limit: int = 65_536


@dataclass
class Rounds:
    """The server's side of the wire for one run.

    ``nodes`` maps a party to its Flower node. Every content that goes out or comes in is counted
    in the run folder's ``wire.jsonl``.
    """

    grid: Grid
    folder: RunFolder
    retries: int
    deadline: float
    backoff: float = 0.0
    nodes: dict[str, int] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)
    entered: set[str] = field(default_factory=set)

    def ask(self, requests: Sequence[Request], accept: Accept) -> list[Request]:
        """Send the requests, hand each usable reply to ``accept``; return those without one.

        A reply is unusable where Flower reports an error, the party refuses, or ``accept`` raises
        :class:`ReleaseError`; the reason is recorded in ``events.jsonl``, told to the party with
        the next attempt, and after ``retries`` further attempts the request is given up. What a
        party's policy forbids is not asked again, and a party whose budget is spent is asked for no
        further release.
        """
        given_up: list[Request] = []
        open_requests: list[Request] = []
        for one in requests:
            spent = one.party in self.spent and one.kind in SPENDING
            (given_up if spent else open_requests).append(one)
        reasons: dict[str, str] = {}
        for attempt in range(self.retries + 1):
            if not open_requests:
                break
            if attempt:
                time.sleep(self.backoff * 2 ** (attempt - 1))
            reasons = self._attempt(open_requests, reasons, attempt, accept)
            left = [r for r in open_requests if r.identifier in reasons]
            open_requests = []
            for one in left:
                final = self._final(one, reasons[one.identifier])
                (given_up if final else open_requests).append(one)
        return given_up + open_requests

    def enter(self, request: Request, content: RecordDict) -> None:
        """Repeat in the server's ledger what the party has written about this reply.

        Called before a release is stored, so that nothing is stored that the ledger lacks.
        """
        # Who describes itself is not known by name before.
        party = str(description_facts(content).get("party", request.party))
        size = content_bytes(content)
        if FACTS in content.config_records:
            release = content_release(content, request.identifier)
            account = dict(release.account)
            entry = release_entry(party, request.identifier, release, account, size)
        else:
            category, _, action = request.kind.partition(".")
            kind = category if action in ("teacher", "topics") else action
            names, data = figure_names(content), encode_content(content)
            entry = figures_entry(party, request.identifier, kind, names, data)
        open_ledger((self.folder.root / FILE).resolve()).append(entry)
        self.entered.add(request.identifier)

    def _final(self, request: Request, reason: str) -> bool:
        if reason.startswith(_SPENT) and request.party not in self.spent:
            self.spent.add(request.party)
            self.folder.log(
                "events",
                {
                    "event": "party asked for no more releases",
                    "party": request.party,
                    "request": request.identifier,
                    "reason": reason,
                },
            )
            self.folder.warn(f"{request.party}: {reason.removeprefix('refused: ')}")
        return reason.startswith(_FINAL)

    def _attempt(
        self, requests: Sequence[Request], last: dict[str, str], attempt: int, accept: Accept
    ) -> dict[str, str]:
        messages = [self._message(r, attempt, last.get(r.identifier)) for r in requests]
        reasons = {request.identifier: "no reply within the deadline" for request in requests}
        replies = self.grid.send_and_receive(messages, timeout=self.deadline)
        # An error made by the SuperLink bears no node: only the message tells whose it is.
        pairs = zip(messages, requests, strict=True)
        sent = {message.metadata.message_id: request for message, request in pairs}
        for reply in replies:
            request = sent.pop(reply.metadata.reply_to_message_id, None)
            if request is None:
                self.folder.log("events", {"event": "stray or repeated reply dropped"})
                continue
            reason = self._take(request, reply, accept)
            if reason is None:
                del reasons[request.identifier]
            else:
                reasons[request.identifier] = reason
        for request in requests:
            if request.identifier in reasons:
                self._record(request, attempt, reasons[request.identifier])
        return reasons

    def _take(self, request: Request, reply: Message, accept: Accept) -> str | None:
        if reply.has_error():
            return f"Flower error {reply.error.code}: {reply.error.reason}"
        size = content_bytes(reply.content)
        self._count(request, "up", size)
        if size > request.limit:
            return f"rejected: {expected('bytes', size, f'be at most {request.limit}', 'less')}"
        refusal = refusal_reason(reply.content)
        if refusal is not None:
            return f"refused: {refusal}"
        try:
            accept(request, reply.content)
            if request.identifier not in self.entered:
                self.enter(request, reply.content)
        except ReleaseError as error:
            return f"rejected: {error}"
        return None

    def _message(self, request: Request, attempt: int, reason: str | None) -> Message:
        fields: dict[str, Scalar] = {
            "request_id": request.identifier,
            "attempt": attempt,
            "limit": request.limit,
        }
        if reason is not None:
            fields["rejected"] = reason
        content = request_content(fields | request.fields)
        self._count(request, "down", content_bytes(content))
        return Message(content, self.nodes[request.party], request.kind)

    def _count(self, request: Request, direction: str, count: int) -> None:
        self.folder.log(
            "wire",
            {
                "party": request.party,
                "direction": direction,
                "kind": request.kind,
                "request": request.identifier,
                "bytes": count,
            },
        )

    def _record(self, request: Request, attempt: int, reason: str) -> None:
        self.folder.log(
            "events",
            {
                "event": "unusable reply",
                "party": request.party,
                "request": request.identifier,
                "attempt": attempt,
                "reason": reason,
            },
        )


def wait_for_nodes(grid: Grid, count: int, quorum: int) -> list[int]:
    """Return the node ids once ``count`` nodes are there; in a simulation they come late.

    After two minutes it goes on with ``quorum`` of them, or raises :class:`QuorumError`.
    """
    end = time.monotonic() + NODE_WAIT_SECONDS
    while len(nodes := sorted(grid.get_node_ids())) < count and time.monotonic() < end:
        time.sleep(0.2)
    if len(nodes) < quorum:
        raise QuorumError(
            expected("nodes", len(nodes), f"be at least {quorum}", "starting the missing ones")
        )
    return nodes


def require_quorum(stage: str, present: int, quorum: int) -> None:
    """Raise :class:`QuorumError` where too few parties are left."""
    if present < quorum:
        raise QuorumError(
            expected(
                f"parties that completed {stage!r}",
                present,
                f"be at least quorum={quorum}",
                "reading events.jsonl, or a smaller parties.quorum",
            )
        )
