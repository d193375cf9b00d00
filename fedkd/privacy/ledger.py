"""The ledger: one entry for every release, written by the party and again by the server."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from fedkd.release import Release


def ledger_entry(party: str, release: Release, request_id: str) -> dict[str, Any]:
    """Return one line of the ledger: what left, for which rows, how large, at what cost."""
    arrays = {
        name: {"shape": list(array.shape), "dtype": array.dtype.name}
        for name, array in release.arrays.items()
    }
    return {
        "party": party,
        "request": request_id,
        "kind": release.kind,
        "arrays": arrays,
        "rows": list(release.rows),
        "payload_bytes": release.payload_bytes,
        "sha256": release_digest(release),
        "mechanism": release.mechanism,
        "epsilon_spent": release.epsilon_spent,
    }


def release_digest(release: Release) -> str:
    """Return the sha256 of the arrays' names and bytes, in name order."""
    digest = hashlib.sha256()
    for name in sorted(release.arrays):
        digest.update(name.encode() + b"\0")
        digest.update(np.ascontiguousarray(release.arrays[name]).tobytes())
    return digest.hexdigest()
