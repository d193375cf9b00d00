"""A party's side of the secure sum: keys, shares of its secrets, masked answers, unmasking.

What a session fixed once stays fixed: the roster, who is in the sum, what is asked, and for whom
shares were given out. A server that asks again gets the same bytes; one that asks differently gets
a refusal, for two answers under one mask, or both shares of one party, would open it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from clients.gate import gate_of
from clients.party import Party
from fedkd.encoding import decode
from fedkd.errors import ReleaseError, expected
from fedkd.files import write_secret
from fedkd.methods.weights import Scheme
from fedkd.privacy import masking
from fedkd.privacy.secret_shares import split_secret
from fedkd.release import Release

Fields = Mapping[str, int | float | str]
Text = dict[str, int | float | str]
SINGLE = ("answer", "bias", "agree", "further", "evaluate")


@dataclass(frozen=True)
class Session:
    """One secure sum at one party: its secrets and what it has agreed to, on its own disk."""

    party: Party
    name: str

    @classmethod
    def of(cls, party: Party, fields: Fields) -> Session:
        """Return the session that a request names."""
        name = str(fields["session"])
        if not party.card.secure_sum:
            raise ReleaseError(
                expected("secure_sum", False, "be agreed to by this party", "its party.json")
            )
        if not re.fullmatch(r"(transfer|test)-[0-9a-f]{12}", name):
            raise ReleaseError(expected("session", name, "name a sum", "the same fedkd version"))
        return cls(party, name)

    @property
    def own(self) -> str:
        """This party's name."""
        return self.party.card.name

    def secrets(self) -> dict[str, bytes]:
        """Return the private keys ``mask`` and ``seal`` and the seed ``self``, made once."""
        file = self._folder / "secrets.json"
        if not file.is_file():
            _write(file, {name: masking.new_secret().hex() for name in ("mask", "seal", "self")})
        return {name: bytes.fromhex(value) for name, value in _read(file).items()}

    def public(self) -> Text:
        """Return the public keys."""
        own = self.secrets()
        return {name: masking.public_key(own[name]).hex() for name in ("mask", "seal")}

    def fixed(self, name: str, terms: dict[str, Any]) -> dict[str, Any]:
        """Write down what is agreed to; raise :class:`ReleaseError` where it was something else."""
        file = self._folder / f"{name}.json"
        if not file.is_file():
            _write(file, terms)
        known: dict[str, Any] = _read(file)
        if known != terms:
            raise ReleaseError(
                expected(name, "another one", "stay what it was in this session", "a new run")
            )
        return known

    def known(self, name: str) -> dict[str, Any]:
        """Return what was agreed to; raises :class:`ReleaseError` where that is still to come."""
        file = self._folder / f"{name}.json"
        if not file.is_file():
            raise ReleaseError(expected(name, None, "come first", "asking in order"))
        found: dict[str, Any] = _read(file)
        return found

    def keep(self, name: str, make: Any) -> dict[str, Any]:
        """Return what ``make`` gave the first time, from disk ever after."""
        file = self._folder / f"{name}.json"
        if not file.is_file():
            _write(file, make())
        found: dict[str, Any] = _read(file)
        return found

    def bound(self, owner: str, holder: str) -> str:
        """Return what ties a sealed share to session, owner and holder."""
        return json.dumps([self.name, owner, holder])

    def sealing_key(self, other: str) -> bytes:
        """Return the key under which shares go to and come from another party."""
        public = bytes.fromhex(self.known("roster")["keys"][other]["seal"])
        return masking.agree(self.secrets()["seal"], public, f"seal {self.name}")

    @property
    def _folder(self) -> Path:
        return self.party.folder / "secure" / self.name


def refuse_single(party: Party, action: str) -> None:
    """Raise :class:`ReleaseError` for a question whose answer would be this party's alone."""
    if party.card.secure_sum and action in SINGLE:
        raise ReleaseError(
            expected("query", action, "ask for a sum over parties", "secure_sum = false")
        )


def offer_keys(party: Party, fields: Fields) -> Text:
    """Return this party's public keys for a session."""
    return Session.of(party, fields).public()


def share_secrets(party: Party, fields: Fields) -> Text:
    """Return a sealed share of this party's secrets for every other one, and a commitment."""
    session = Session.of(party, fields)
    keys: dict[str, dict[str, str]] = json.loads(str(fields["keys"]))
    names = sorted(keys)
    if keys.get(session.own) != session.public() or len(names) < masking.FEWEST_PARTIES:
        raise ReleaseError(
            expected("keys", names, "hold this party's own and at least two others", "all keys")
        )
    if len({key for own in keys.values() for key in own.values()}) != 2 * len(names):
        raise ReleaseError(expected("keys", names, "differ from each other", "fresh ones"))
    threshold = masking.majority(len(names))
    session.fixed("roster", {"keys": keys})
    own = session.secrets()

    def make() -> dict[str, Any]:
        cuts = {name: split_secret(own[name], threshold, names) for name in ("mask", "self")}
        sealed, kept = {}, {}
        for name in names:
            share = {what: cut[name].hex() for what, cut in cuts.items()}
            if name == session.own:
                kept = share
                continue
            text = json.dumps(share, sort_keys=True).encode()
            bound = session.bound(session.own, name)
            sealed[name] = masking.seal(session.sealing_key(name), text, bound).hex()
        return {"sealed": sealed, "own": kept}

    made = session.keep("shares", make)
    sealed = json.dumps(made["sealed"], sort_keys=True)
    return {"sealed": sealed, "commitment": masking.commitment(own["self"])}


def masked_answer(party: Party, fields: Fields) -> Release:
    """Return this party's weighted answers on a block of rows, masked."""
    session = Session.of(party, fields)
    set_name, transfer_id = str(fields["set"]), str(fields["transfer_id"])
    if session.name != f"{set_name}-{transfer_id[:12]}":
        raise ReleaseError(expected("session", session.name, "belong to the set", "its own"))
    names: list[str] = json.loads(str(fields["sharers"]))
    roster: dict[str, Any] = session.known("roster")["keys"]
    least = max(masking.majority(len(roster)), masking.FEWEST_PARTIES)
    if session.own not in names or not set(names) <= set(roster) or len(names) < least:
        raise ReleaseError(
            expected("sharers", names, f"be at least {least} of the roster, this one too", "them")
        )
    scheme = _scheme(str(fields["weights"]))
    share = party.rows / int(fields["total"])
    if not 0 < share <= 1:
        raise ReleaseError(expected("total", fields["total"], "hold this party's rows", "the sum"))
    session.fixed("sum", {"sharers": names, "weights": scheme, "total": int(fields["total"])})
    if scheme == "bias" and party.terms.mechanism.per_release:
        raise ReleaseError(
            expected("weights", "bias", "be others: no noise covers the bias vector", "'norm'")
        )
    rows = (int(fields["start"]), int(fields["stop"]))
    plain = gate_of(party).made(party.answer(set_name, rows, transfer_id))
    bias = party.bias(transfer_id).arrays["bias"] if scheme == "bias" else None
    weighted = masking.weighted_rows(
        decode(plain.arrays["probs"], len(party.card.labels)).astype(np.float64),
        scheme,
        share=share,
        bias=None if bias is None else np.asarray(bias, np.float64),
    )
    own = session.secrets()
    seeds = {
        name: masking.agree(own["mask"], bytes.fromhex(roster[name]["mask"]), session.name)
        for name in names
        if name != session.own
    }
    whole = masking.quantise(weighted, masking.scale(len(names), scheme))
    masked = masking.mask(whole, plain.rows[0], session.own, own["self"], seeds)
    return Release(
        "masked",
        {"masked": masked},
        transfer_id=plain.transfer_id,
        label_id=plain.label_id,
        rows=plain.rows,
        mechanism=f"{plain.mechanism}, masked for a sum over {len(names)}, weights {scheme}",
        epsilon_spent=plain.epsilon_spent,
    )


def give_shares(party: Party, fields: Fields) -> Text:
    """Return the shares that open the sum: of seeds of those in it, of keys of those that fell out.

    ``sealed`` holds what the others sealed for this party.
    """
    session = Session.of(party, fields)
    names: list[str] = session.known("sum")["sharers"]
    alive: list[str] = json.loads(str(fields["alive"]))
    least = max(masking.majority(len(session.known("roster")["keys"])), 2)
    if not set(alive) <= set(names) or len(alive) < least:
        raise ReleaseError(
            expected("alive", alive, f"be at least {least} of those in the sum", "a new run")
        )
    session.fixed("opened", {"alive": sorted(alive)})
    sealed: dict[str, str] = json.loads(str(fields["sealed"]))
    given = {}
    for name in names:
        if name == session.own:
            share = session.known("shares")["own"]
        else:
            if name not in sealed:
                raise ReleaseError(expected("sealed share of", name, "be there", "sending it"))
            bound = session.bound(name, session.own)
            data = bytes.fromhex(sealed[name])
            share = json.loads(masking.unseal(session.sealing_key(name), data, bound))
        given[name] = share["self" if name in alive else "mask"]
    return {"shares": json.dumps(given, sort_keys=True)}


def _scheme(name: str) -> Scheme:
    for scheme in get_args(Scheme):
        if scheme == name:
            found: Scheme = scheme
            return found
    raise ReleaseError(expected("weights", name, f"be one of {get_args(Scheme)}", "'size'"))


def _write(file: Path, values: dict[str, Any]) -> None:
    write_secret(file, json.dumps(values, sort_keys=True).encode())


def _read(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return values
