"""The server's side of the secure sum: what the parties say together, and nothing of one alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import RecordDict

from fedkd.errors import QuorumError, ReleaseError, expected
from fedkd.files import append_json, read_json, write_array, write_json
from fedkd.intake import FLOOR
from fedkd.methods.weights import Scheme
from fedkd.privacy import masking
from fedkd.privacy.masking import SUM
from fedkd.privacy.secret_shares import join_shares
from fedkd.release import check_release
from fedkd.run.wire import Scalar, content_release, description_facts
from server.intake import FRAMING, Receiver
from server.protocol import Answers, Terms, ask_each, prepare_parties
from server.received import RECEIVED, Received, Rows
from server.rounds import Request, Rounds, require_quorum
from server.secure_replies import Check, check_given, check_keys, check_sealed

SHARE_BYTES = 1024
WHOLE_BYTES = 4


def run_secure(
    rounds: Rounds, terms: Terms, transfer: Sequence[str], test: Sequence[str], weights: Scheme
) -> Answers:
    """Carry out one round in which no answer of a single party reaches the server.

    The intake holds the one pseudo-party ``sum``. On the test set teachers count alike. Raises
    :class:`~fedkd.errors.QuorumError` where too few parties are left to open the sum.
    """
    ready = prepare_parties(rounds, terms, transfer, test)
    quorum = terms.quorum
    sizes = ready.sizes
    sittings = (
        Sitting(rounds, "transfer", ready.answering, weights, sizes, quorum),
        Sitting(rounds, "test", ready.measuring, "uniform", sizes, quorum),
    )
    total = sittings[0].run(ready.active)
    with suppress(QuorumError):
        # It serves a reference alone, and policies may keep the test set to themselves.
        sittings[1].run(ready.active)
    return Answers(
        transfer=ready.answering.close([SUM], {SUM: total}, bias=False),
        test=ready.measuring.close([SUM], {SUM: total}, bias=False),
        teachers={},
        sizes={SUM: total},
    )


@dataclass(frozen=True)
class Sitting:
    """One secure sum over all rows of a public set, kept on disk stage by stage until it is open.

    Stages are ``keys``, ``shares``, ``masked`` blocks, ``alive`` and ``opened``; each is written
    down once it is over, so that a server that was stopped goes on with the same parties.
    """

    rounds: Rounds
    set_name: str
    receiver: Receiver
    weights: Scheme
    sizes: Mapping[str, int]
    quorum: int

    @property
    def name(self) -> str:
        """The session's name on both sides."""
        return f"{self.set_name}-{self.receiver.transfer_id[:12]}"

    @property
    def home(self) -> Path:
        """Where this server keeps the session."""
        return self.rounds.folder.root / "secure" / self.name

    def run(self, parties: Sequence[str]) -> int:
        """Bring the sum into the intake unless it is there; return the rows of those in it."""
        if SUM in parties:
            raise ReleaseError(expected("party", SUM, "have another name", "renaming it"))
        if not (self.home / "opened.json").is_file():
            keys = self._stage("keys", lambda: self._keys(parties))
            shares = self._stage("shares", lambda: self._shares(keys))
            alive = self._stage("alive", lambda: self._masked(sorted(shares), len(keys)))["parties"]
            self._open(keys, shares, alive)
        opened = read_json(self.home / "opened.json")
        shutil.rmtree(self.home / "masked", ignore_errors=True)
        return int(sum(self.sizes[party] for party in opened["parties"]))

    def _stage(self, name: str, make: Any) -> Any:
        file = self.home / f"{name}.json"
        if not file.is_file():
            write_json(file, make())
        return read_json(file)

    def _keys(self, parties: Sequence[str]) -> dict[str, dict[str, str]]:
        found = self._ask("keys", {party: {} for party in parties}, check_keys)
        self._enough("keys", found, masking.FEWEST_PARTIES)
        return found

    def _shares(self, keys: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        fields: dict[str, Scalar] = {"keys": json.dumps(keys, sort_keys=True)}
        found = self._ask("shares", dict.fromkeys(keys, fields), partial(check_sealed, keys))
        self._enough("shares", found, max(masking.majority(len(keys)), masking.FEWEST_PARTIES))
        return found

    def _masked(self, sharers: Sequence[str], roster: int) -> dict[str, list[str]]:
        """Collect masked blocks; a party that fails on one is out of the whole sum."""
        total = sum(self.sizes[party] for party in sharers)
        alive = list(sharers)
        for block in self.receiver.blocks:
            waiting = [party for party in alive if block not in self._received.of(party)]
            fields: dict[str, Scalar] = {
                "session": self.name,
                "set": self.set_name,
                "start": block[0],
                "stop": block[1],
                "transfer_id": self.receiver.transfer_id,
                "weights": self.weights,
                "total": total,
                "sharers": json.dumps(sharers),
            }
            size = (block[1] - block[0]) * (self.receiver.labels + 1) * WHOLE_BYTES + FRAMING
            requests = [
                Request(
                    party,
                    "query.masked",
                    f"masked/{self.name}/{party}/{block[0]}-{block[1]}",
                    fields,
                    limit=size + 2 * FRAMING,
                )
                for party in waiting
            ]
            title = f"masked answers for {self.set_name} rows {block[0]}–{block[1]}"
            ask_each(self.rounds, requests, self._storing(block), title)
            alive = [party for party in alive if block in self._received.of(party)]
        self._enough("masked answers", alive, masking.majority(roster))
        return {"parties": alive}

    def _storing(self, block: Rows) -> Callable[[Request, RecordDict], None]:
        def accept(request: Request, content: RecordDict) -> None:
            release = content_release(content, request.identifier)
            check_release(
                release,
                kind="masked",
                transfer_id=self.receiver.transfer_id,
                label_id=self.receiver.label_id,
                rows=block,
                labels=self.receiver.labels,
            )
            self._received.check_missing(request.party, block)
            self.rounds.enter(request, content)
            folder = self._received.folder / request.party
            write_array(folder / f"{block[0]:012d}.npy", release.arrays["masked"])
            self._received.add(request.party, block, release)

        return accept

    @cached_property
    def _received(self) -> Received:
        return Received(self.home / "masked", self.receiver.blocks)

    def _open(
        self, keys: Mapping[str, Any], shares: Mapping[str, Any], alive: Sequence[str]
    ) -> None:
        """Ask for what opens the sum, take the masks off it and put it into the intake."""
        asked: dict[str, dict[str, Scalar]] = {
            party: {
                "alive": json.dumps(sorted(alive)),
                "sealed": json.dumps(_sealed_for(party, shares), sort_keys=True),
            }
            for party in alive
        }
        given = {
            party: json.loads(str(facts["shares"]))
            for party, facts in self._ask("unmask", asked, partial(check_given, shares)).items()
        }
        threshold = masking.majority(len(keys))
        secrets = {
            owner: self._joined(owner, given, threshold, keys[owner], shares[owner], owner in alive)
            for owner in sorted(shares)
        }
        silent = [
            (
                there,
                gone,
                masking.agree(secrets[gone], bytes.fromhex(keys[there]["mask"]), self.name),
            )
            for gone in sorted(set(shares) - set(alive))
            for there in alive
        ]
        labels = self.receiver.labels
        probs = np.empty((self.receiver.rows, labels), np.float32)
        error = 0.0
        for start, stop in self.receiver.blocks:
            total = np.zeros((stop - start, labels + 1), np.uint32)
            for party in alive:
                total += np.load(self._received.folder / party / f"{start:012d}.npy")
            bare = masking.unmask(total, start, [secrets[p] for p in alive], silent)
            mixed = masking.mixture(bare)
            # So that the intake's own floor gives back what the parties' floors made.
            probs[start:stop] = np.maximum(mixed * (1 + labels * FLOOR) - FLOOR, 0)
            error = max(error, masking.rounding_error(len(alive), bare))
        self._deliver(probs, alive, sorted(set(shares) - set(alive)), error)

    def _deliver(
        self, probs: np.ndarray[Any, Any], alive: Sequence[str], gone: Sequence[str], error: float
    ) -> None:
        folder = self.receiver.folder / SUM
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_array(folder / "probs.npy", probs)
        for block in self.receiver.blocks:
            append_json(folder / RECEIVED, {"rows": list(block)})
        self.receiver.delivered(SUM).update(self.receiver.blocks)
        facts = {"parties": list(alive), "left_out": list(gone), "rounding_error": error}
        self.rounds.folder.log("events", {"event": "secure sum", "set": self.set_name, **facts})
        if gone:
            said = f"the secure sum over the {self.set_name} set is without {', '.join(gone)}"
            self.rounds.folder.warn(said)
        write_json(self.home / "opened.json", facts)

    def _joined(  # noqa: PLR0917
        self,
        owner: str,
        given: Mapping[str, Mapping[str, str]],
        threshold: int,
        keys: Mapping[str, str],
        shares: Mapping[str, str],
        alive: bool,
    ) -> bytes:
        cuts = {holder: bytes.fromhex(own[owner]) for holder, own in given.items()}
        secret = join_shares(cuts, threshold, owner)
        if alive:
            fits = masking.commitment(secret) == shares["commitment"]
        else:
            fits = len(secret) == 32 and masking.public_key(secret).hex() == keys["mask"]
        if not fits:
            raise ReleaseError(
                expected(f"mask of {owner}", "another", "be what it announced", "a new run")
            )
        return secret

    def _ask(
        self, action: str, asked: Mapping[str, Mapping[str, Scalar]], check: Check
    ) -> dict[str, dict[str, Any]]:
        """Return the plain facts that each party replied, checked, by party in name order."""
        found: dict[str, dict[str, Any]] = {}

        def accept(request: Request, content: RecordDict) -> None:
            facts = {name: str(value) for name, value in description_facts(content).items()}
            check(request.party, facts)
            found[request.party] = facts

        requests = [
            Request(
                party,
                f"query.{action}",
                f"{action}/{self.name}/{party}",
                {"session": self.name, **fields},
                limit=FRAMING + SHARE_BYTES * max(len(asked), 1),
            )
            for party, fields in asked.items()
        ]
        ask_each(self.rounds, requests, accept, f"{action} of the secure sum")
        return dict(sorted(found.items()))

    def _enough(self, what: str, found: Any, least: int) -> None:
        require_quorum(f"{what} of the secure sum", len(found), max(least, self.quorum))


def _sealed_for(holder: str, shares: Mapping[str, Any]) -> dict[str, str]:
    return {
        owner: json.loads(own["sealed"])[holder] for owner, own in shares.items() if owner != holder
    }
