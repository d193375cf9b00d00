"""What a party may reply in a secure sum, checked before anything is read from it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping

from fedkd.errors import ReleaseError, expected

Facts = Mapping[str, str]
Check = Callable[[str, Facts], None]
_KEY = re.compile(r"[0-9a-f]{64}")
_HEX = re.compile(r"(?:[0-9a-f]{2})+")


def check_keys(party: str, facts: Facts) -> None:
    """Raise :class:`ReleaseError` unless a reply holds two public keys."""
    _named(facts, ("mask", "seal"))
    if not all(_KEY.fullmatch(key) for key in facts.values()):
        raise ReleaseError(expected("public keys", "no keys", "be 32 bytes each", "X25519"))


def check_sealed(roster: Collection[str], party: str, facts: Facts) -> None:
    """Raise unless a reply holds a sealed share for everybody else, and a commitment."""
    _named(facts, ("commitment", "sealed"))
    if not _KEY.fullmatch(facts["commitment"]):
        raise ReleaseError(expected("commitment", "none", "be 32 bytes", "the same version"))
    _table(facts["sealed"], set(roster) - {party})


def check_given(sharers: Collection[str], party: str, facts: Facts) -> None:
    """Raise unless a reply holds one opened share of everybody whose mask is in the sum."""
    _named(facts, ("shares",))
    _table(facts["shares"], set(sharers))


def _named(facts: Facts, names: tuple[str, ...]) -> None:
    if tuple(sorted(facts)) != names:
        raise ReleaseError(expected("reply", sorted(facts), f"hold {names}", "the same version"))


def _table(text: str, names: set[str]) -> None:
    try:
        table = json.loads(text)
    except ValueError:
        table = None
    if not isinstance(table, dict) or set(table) != names:
        missing = sorted(names - set(table)) if isinstance(table, dict) else sorted(names)
        raise ReleaseError(expected("shares", missing, "be there for every party", "a new run"))
    if not all(isinstance(v, str) and _HEX.fullmatch(v) for v in table.values()):
        raise ReleaseError(expected("shares", "other text", "be bytes", "the same version"))
