"""Every random draw of a run, named by who draws it and what for."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_for(run_seed: int, party: str, round_: int, purpose: str) -> int:
    """Return the 63-bit seed of one draw.

    Hashing the four names instead of advancing a shared generator makes a draw independent of the
    order, the process and the machine in which parties happen to run.
    """
    text = "\x1f".join((str(run_seed), party, str(round_), purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(run_seed: int, party: str, round_: int, purpose: str) -> np.random.Generator:
    """Return a numpy generator seeded by :func:`seed_for`."""
    return np.random.default_rng(seed_for(run_seed, party, round_, purpose))
