"""The gate: everything that leaves a party passes here, under its policy and into its ledger."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import RecordDict

from clients.party import Party
from clients.private_teacher import spent_in_training
from clients.words import words_account
from fedkd.coding import code, said
from fedkd.errors import BudgetError, PolicyError, expected
from fedkd.privacy.accountant import Event, epsilon_pld, epsilon_rdp
from fedkd.privacy.ledger import (
    FILE,
    Account,
    Entry,
    Ledger,
    figures_entry,
    open_ledger,
    release_digest,
    release_entry,
)
from fedkd.privacy.mechanisms import answer_event, applied
from fedkd.privacy.policy import check_terms, read_policy
from fedkd.privacy.settings import Terms
from fedkd.release import Release
from fedkd.run.wire import (
    Scalar,
    content_bytes,
    encode_content,
    figure_names,
    metrics_content,
    metrics_figures,
    release_content,
)

_CHANGED = ("probs", "bias")
_ASKING = ("answer", "measure", "bias", "further", "masked")
_ABOUT_ROWS = ("rows",)


@dataclass(frozen=True)
class Gate:
    """A party's policy and ledger. ``terms`` is None where the party has written no policy."""

    party: Party
    terms: Terms | None
    ledger: Ledger

    def admit(self, kind: str, fields: dict[str, Scalar]) -> None:
        """Raise :class:`PolicyError` for a request that the policy forbids, before any work."""
        terms = self.terms
        if terms is None:
            return
        if kind not in terms.allowed:
            raise PolicyError(
                expected(
                    "request", kind, f"be one of {', '.join(terms.allowed)}", "another scenario"
                )
            )
        check_terms(terms, self.party.rows)
        if kind == "train" and terms.mechanism.name == "dp-sgd":
            self._afford(spent_in_training(self.party, terms))
        if kind in _ASKING:
            self._check_size(fields)
            if kind != "measure" and terms.near_duplicates is not None:
                self._check_near_duplicates(terms.near_duplicates)

    def let_out(
        self, kind: str, reply: Release | RecordDict, fields: dict[str, Scalar]
    ) -> RecordDict:
        """Apply the mechanism, check the budget, write the ledger, and return what may leave.

        Raises :class:`BudgetError` where the release would spend more than the cap, and
        :class:`PolicyError` for rows that were answered otherwise before.
        """
        request, name = str(fields.get("request_id", "")), self.party.card.name
        if isinstance(reply, Release):
            content, entry = self._released(reply, request)
        else:
            content = self._fewer_figures(kind, reply)
            data = encode_content(content)
            entry = figures_entry(name, request, kind, figure_names(content), data)
        self._check_bytes(int(entry["wire_bytes"]))
        self.ledger.append(entry)
        return content

    def _released(self, release: Release, request: str) -> tuple[RecordDict, Entry]:
        made = self._coded(self.made(release))
        known = self.ledger.known(self.party.card.name, request, release_digest(made))
        account = self._account(made).values() if known is None else _account_in(known)
        epsilon = account["epsilon_rdp"]
        made = replace(made, account=account, epsilon_spent=epsilon)
        content = release_content(made, request)
        size = content_bytes(content)
        return content, release_entry(self.party.card.name, request, made, account, size)

    def made(self, release: Release) -> Release:
        """Return the release with the mechanism applied to its probabilities."""
        terms = self.terms
        if terms is None or terms.mechanism.name in ("none", "dp-sgd"):
            return release
        self._check_repeats(release, terms)
        own = terms.mechanism
        arrays = dict(release.arrays)
        for name in _CHANGED:
            if name in arrays:
                values = np.atleast_2d(np.asarray(arrays[name], np.float64))
                parts = (release.kind, name, release.transfer_id, release.rows, own.parameters)
                stream = self.party.noise_key.stream(repr(parts), own.name)
                changed = applied(own, values, stream).reshape(arrays[name].shape)
                arrays[name] = changed.astype(arrays[name].dtype)
        what = own.name if release.mechanism == "none" else f"{release.mechanism}; {own.name}"
        return replace(release, arrays=arrays, mechanism=what)

    def _coded(self, release: Release) -> Release:
        """Return the release as the party's encoding sends it: last, so that it costs nothing."""
        card = self.party.card
        if release.kind != "probabilities":
            return release
        probs = np.asarray(release.arrays["probs"])
        what = said(release.mechanism, card.encoding, card.top)
        return replace(release, arrays=code(probs, card.encoding, card.top), mechanism=what)

    def _account(self, release: Release) -> Account:
        terms = self.terms
        if release.account:
            left = {entry["sha256"] for entry in self._answered(release).values()}
            repeated = release_digest(release) in left
            return words_account(release.account, self._before(), terms, repeated=repeated)
        if terms is None:
            return Account()
        own = terms.mechanism
        if own.unit is None:
            return Account(own.name, own.parameters)
        event = self._event(release, terms)
        if event is not None:
            self._afford(event)
        spent = (*self._before(), *(() if event is None else (event,)))
        return Account(
            own.name,
            own.parameters,
            own.unit,
            terms.delta,
            None if event is None else event.values(),
            _bounded(epsilon_rdp(spent, terms.delta)),
            epsilon_pld(spent, terms.delta),
        )

    def _event(self, release: Release, terms: Terms) -> Event | None:
        """Return what this release newly spends: nothing for bytes that have left before."""
        if terms.mechanism.name == "dp-sgd":
            event = spent_in_training(self.party, terms)
            return None if replace(event, count=1) in self.ledger.follow().spent else event
        start, stop = release.rows
        if (start, stop) in self._answered(release):
            return None
        rows = 1 if release.kind == "statistic" else stop - start
        return answer_event(terms.mechanism, rows, len(self.party.card.labels))

    def _afford(self, event: Event) -> None:
        terms = self.terms
        if terms is None or terms.epsilon is None:
            return
        if replace(event, count=1) in self.ledger.spent and event.name == "sampled-gaussian":
            return
        before = epsilon_rdp(self._before(), terms.delta)
        after = epsilon_rdp((*self._before(), event), terms.delta)
        if after > terms.epsilon:
            raise BudgetError(
                expected(
                    "epsilon after this release", round(after, 4),
                    f"be at most the party's cap of {terms.epsilon:g} ({before:.4g} is spent)",
                    "going on without this party",
                )
            )  # fmt: skip

    def _before(self) -> tuple[Event, ...]:
        """Return everything spent before; a deployed party adds up all its runs on its data."""
        events = self.ledger.follow().events
        if self.party.card.deployed:
            for path in sorted(self.party.folder.parent.parent.glob(f"*/*/{FILE}")):
                if path != self.ledger.path:
                    events += open_ledger(path).follow().events
        return events

    def _answered(self, release: Release) -> dict[tuple[int, int], Entry]:
        return self.ledger.follow().blocks.get((release.kind, release.transfer_id), {})

    def _check_repeats(self, release: Release, terms: Terms) -> None:
        """Refuse rows that have left in another block or under another mechanism."""
        start, stop = release.rows
        for (first, last), entry in self._answered(release).items():
            apart = last <= start or stop <= first
            same = (first, last) == (start, stop)
            how = (entry["mechanism"], entry["parameters"])
            if not apart and not (
                same and how == (terms.mechanism.name, terms.mechanism.parameters)
            ):
                raise PolicyError(
                    expected("rows", (start, stop), "be asked once, or again exactly as before",
                             f"the rows and mechanism of {entry['request']!r}")
                )  # fmt: skip

    def _check_size(self, fields: dict[str, Scalar]) -> None:
        terms = self.terms
        if terms is None or terms.most_rows is None or "stop" not in fields:
            return
        rows = (int(fields["start"]), int(fields["stop"]))
        asked, place = rows[1] - rows[0], str(fields.get("transfer_id"))
        seen = any(rows in b for (_, s), b in self.ledger.follow().blocks.items() if s == place)
        if not seen and self.ledger.rows_out + asked > terms.most_rows:
            raise PolicyError(
                expected(
                    "rows after this request", self.ledger.rows_out + asked,
                    f"be at most most_rows={terms.most_rows}", "fewer rows",
                )
            )  # fmt: skip

    def _check_bytes(self, size: int) -> None:
        terms = self.terms
        if terms is None or terms.most_bytes is None:
            return
        after = self.ledger.follow().bytes_out + size
        if after > terms.most_bytes:
            raise PolicyError(
                expected("bytes after this reply", after, f"be at most {terms.most_bytes}", "less")
            )

    def _check_near_duplicates(self, most: float) -> None:
        from fedkd.privacy.near_duplicates import (  # noqa: PLC0415  # imports scikit-learn
            share_of_near_duplicates,
        )

        share = share_of_near_duplicates(self.party.folder, self.party.public_texts("transfer"))
        if share > most:
            raise PolicyError(
                expected(
                    "transfer set", "rows that nearly repeat private ones",
                    f"hold at most a share of near_duplicates={most:g} of them",
                    "another transfer set",
                )
            )  # fmt: skip

    def _fewer_figures(self, kind: str, content: RecordDict) -> RecordDict:
        """Keep to the row count where a guarantee is given: epochs tell about the data."""
        terms = self.terms
        if kind != "train" or terms is None or terms.mechanism.unit is None:
            return content
        figures = metrics_figures(content)
        return metrics_content({name: figures[name] for name in _ABOUT_ROWS if name in figures})


def gate_of(party: Party) -> Gate:
    """Return the gate of a party; raises :class:`PolicyError` for a policy that does not parse."""
    ledger = open_ledger((party.folder / FILE).resolve()).follow()
    return Gate(party, read_policy(party.folder), ledger)


def _bounded(epsilon: float) -> float | None:
    """Return epsilon, None where earlier lists of words have left nothing of delta."""
    return epsilon if math.isfinite(epsilon) else None


def _account_in(entry: Entry) -> Entry:
    return {key: entry[key] for key in Account().values()}
