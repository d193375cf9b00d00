"""Random numbers that protect: a keyed cipher stream instead of a statistical generator."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray
from scipy.special import ndtri

from fedkd.files import write_secret

Floats = NDArray[np.float64]
KEY_FILE = "noise.key"


@dataclass(frozen=True)
class NoiseKey:
    """Who draws noise: the run's seed and the party, and in a deployment a secret of its own.

    In a simulation ``secret`` is empty, so that a run can be repeated bit by bit; whoever knows the
    seed can then subtract the noise, and the guarantee is one of the method, not of that run. A
    deployed party keeps 32 bytes of the operating system's entropy in ``noise.key``.
    """

    seed: int
    party: str
    secret: bytes = b""

    def stream(self, request: str, purpose: str) -> Stream:
        """Return the numbers of one draw; the same names give the same numbers again."""
        text = "\x1f".join((str(self.seed), self.party, request, purpose))
        return Stream(hashlib.sha256(self.secret + b"\x1f" + text.encode()).digest())


@dataclass(frozen=True)
class Stream:
    """A ChaCha20 key stream read as numbers. Every call starts from its beginning.

    The draws are floating-point approximations of the real-valued noise that the proofs speak of
    (Mironov 2012 shows what the difference can give away where a release keeps all its digits).
    """

    key: bytes

    def uniform(self, shape: tuple[int, ...]) -> Floats:
        """Return float64 numbers strictly between 0 and 1, multiples of 2^-53 plus 2^-54."""
        count = int(np.prod(shape))
        encryptor = Cipher(ChaCha20(self.key, bytes(16)), mode=None).encryptor()
        bits = np.frombuffer(encryptor.update(bytes(8 * count)), dtype="<u8")
        return (((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53).reshape(shape)

    def normal(self, shape: tuple[int, ...]) -> Floats:
        """Return standard normal float64 numbers, by inversion."""
        values: Floats = ndtri(self.uniform(shape))
        return values

    def laplace(self, shape: tuple[int, ...]) -> Floats:
        """Return Laplace float64 numbers of scale 1, by inversion."""
        centred = self.uniform(shape) - 0.5
        values: Floats = -np.sign(centred) * np.log1p(-2 * np.abs(centred))
        return values


def own_secret(folder: Path) -> bytes:
    """Return the secret in a deployed party's folder, made on first use for its owner's eyes."""
    file = folder / KEY_FILE
    if not file.is_file():
        write_secret(file, secrets.token_bytes(32))
    return file.read_bytes()
