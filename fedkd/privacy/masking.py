"""Masks that vanish in the sum over parties (Bonawitz et al., CCS 2017).

Each party k turns its weighted answers into whole numbers x_k modulo 2^32 and sends
x_k + s(b_k) + Σ_{j>k} s(a_kj) − Σ_{j<k} s(a_kj): s is a ChaCha20 key stream, b_k a seed of its own
and a_kj one that it shares with party j alone (X25519). In the sum over parties the shared streams
cancel. Every seed b_k, and for a party that fell silent its private key, is held in shares by the
others, who give out for one party the one or the other and never both.

This guards against a server that is curious but relays keys honestly, and against fewer colluding
parties than the threshold. Flower's own SecAgg+ draws its masks from a generator with 32 bits of
state and rounds with numpy's global one, so only its secret sharing is used here.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from fedkd.errors import ReleaseError, expected
from fedkd.intake import FLOOR
from fedkd.methods.weights import Scheme, teacher_weights

Floats = NDArray[np.float64]
Whole = NDArray[np.uint32]
MODULUS = 2**32
SUM = "sum"
FEWEST_PARTIES = 3
_NONCE = 12
# The largest weight that a scheme can give where that is above 1; ln p lies in ln 1e-6..0.
_LARGEST: dict[Scheme, float] = {"bias": math.sqrt(2), "variance": math.log(FLOOR) ** 2 / 4 + 1}


def majority(parties: int) -> int:
    """Return how many holders of shares must work together to open a mask."""
    return parties // 2 + 1


def scale(parties: int, scheme: Scheme) -> float:
    """Return how many whole numbers lie between 0 and 1, so that no sum leaves the modulus."""
    # Shares of all private rows sum to one by themselves.
    largest = 1.0 if scheme == "size" else parties * _LARGEST.get(scheme, 1.0)
    return math.floor((MODULUS - 1 - parties) / largest)


def weighted_rows(probs: Floats, scheme: Scheme, *, share: float, bias: Floats | None) -> Floats:
    """Return (rows, labels + 1) float64: w_k(x) p_k(x), then w_k(x), of one party alone.

    ``probs`` (rows, labels) get the intake's floor first. ``share`` is n_k over the rows of all
    parties, ``bias`` b_k (labels,). The weights are those of
    :func:`fedkd.methods.weights.teacher_weights` before they are made to sum to one, which
    division by Σ_k w_k does afterwards.
    """
    kept = np.asarray(probs, np.float64) + FLOOR
    kept /= kept.sum(axis=1, keepdims=True)
    if scheme == "size":
        weights = np.full(len(kept), share)
    else:
        own = None if bias is None else np.asarray(bias, np.float64)[None]
        weights = teacher_weights(scheme, kept[None], np.ones(1), own, normalise=False)[0]
    return np.concatenate([weights[:, None] * kept, weights[:, None]], axis=1)


def quantise(values: Floats, steps: float) -> Whole:
    """Return values ≥ 0 as whole numbers of 1/``steps``, off by at most half of one."""
    return np.rint(values * steps).astype(np.uint64).astype(np.uint32)


def mixture(total: Whole) -> Floats:
    """Return Σ w p / Σ w (rows, labels) from the bare sum (rows, labels + 1).

    A row on which nobody has any weight gets the uniform distribution: every teacher said just
    that there.
    """
    counted = total[:, :-1].astype(np.float64)
    counted[counted.sum(axis=1) == 0] = 1.0
    return np.asarray(counted / counted.sum(axis=1, keepdims=True), np.float64)


def rounding_error(parties: int, total: Whole) -> float:
    """Return the most by which rounding has moved a probability of these rows.

    Each party rounds each number by at most ½, and the sum by which they are divided is off by at
    most labels·parties/2.
    """
    counted = total[:, :-1].astype(np.float64).sum(axis=1)
    counted = counted[counted > 0]
    return float(parties * total.shape[1] / (2 * counted.min())) if len(counted) else 0.0


def new_secret() -> bytes:
    """Return 32 bytes from the operating system: no seed of a run may lead to a mask."""
    return os.urandom(32)


def public_key(private: bytes) -> bytes:
    """Return the public half of an X25519 key, 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes, purpose: str) -> bytes:
    """Return the 32 bytes that two parties share for one purpose (X25519, HKDF-SHA256).

    Raises :class:`ReleaseError` for bytes that are no public key.
    """
    try:
        other = X25519PublicKey.from_public_bytes(public)
        shared = X25519PrivateKey.from_private_bytes(private).exchange(other)
    except ValueError as error:
        raise ReleaseError(
            expected("public key", len(public), "be 32 bytes of X25519", "the same fedkd version")
        ) from error
    return HKDF(SHA256(), 32, salt=None, info=f"fedkd {purpose}".encode()).derive(shared)


def commitment(secret: bytes) -> str:
    """Return what tells later whether shares gave back the right secret."""
    return hashlib.sha256(b"fedkd mask seed" + secret).hexdigest()


def seal(key: bytes, text: bytes, bound: str) -> bytes:
    """Encrypt for one holder (ChaCha20-Poly1305); it opens only under the same ``bound``."""
    nonce = os.urandom(_NONCE)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, text, bound.encode())


def unseal(key: bytes, sealed: bytes, bound: str) -> bytes:
    """Return what :func:`seal` hid; raises :class:`ReleaseError` where it was changed."""
    try:
        return ChaCha20Poly1305(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], bound.encode())
    except (InvalidTag, ValueError) as error:
        raise ReleaseError(
            expected("mask share", bound, "be what its owner sealed", "a new run")
        ) from error


def stream(seed: bytes, start: int, shape: tuple[int, int]) -> Whole:
    """Return the key stream of the block of rows that begins at ``start``, uint32 of ``shape``."""
    nonce = bytes(4) + start.to_bytes(_NONCE, "little")
    encryptor = Cipher(ChaCha20(seed, nonce), mode=None).encryptor()
    data = encryptor.update(bytes(4 * shape[0] * shape[1]))
    return np.frombuffer(data, "<u4").reshape(shape).astype(np.uint32)


def mask(
    values: Whole, start: int, own: str, self_seed: bytes, pair_seeds: Mapping[str, bytes]
) -> Whole:
    """Return the values with this party's own and all shared streams on them, modulo 2^32."""
    masked = values + stream(self_seed, start, _shape(values))
    for other, seed in pair_seeds.items():
        _apply(masked, stream(seed, start, _shape(values)), plus=own < other)
    return masked


def unmask(
    total: Whole,
    start: int,
    self_seeds: Iterable[bytes],
    silent: Iterable[tuple[str, str, bytes]],
) -> Whole:
    """Return the sum of the values from the sum of masked ones.

    ``self_seeds`` are those of the parties in the sum, ``silent`` lists for every party that is
    not, and every one that is, (in the sum, silent, their shared seed).
    """
    bare = total.copy()
    for seed in self_seeds:
        _apply(bare, stream(seed, start, _shape(total)), plus=False)
    for there, gone, seed in silent:
        _apply(bare, stream(seed, start, _shape(total)), plus=there > gone)
    return bare


def _apply(values: Whole, mask_: Whole, *, plus: bool) -> None:
    (np.add if plus else np.subtract)(values, mask_, out=values)


def _shape(values: Whole) -> tuple[int, int]:
    rows, columns = values.shape
    return rows, columns
