"""Secrets cut into shares, of which any ``threshold`` give the secret back (Shamir 1979).

The arithmetic is that of Flower's SecAgg+, in GF(2^128).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares

from fedkd.errors import QuorumError, ReleaseError, expected


def split_secret(secret: bytes, threshold: int, holders: Sequence[str]) -> dict[str, bytes]:
    """Return a share for each holder; fewer than ``threshold`` of them tell nothing."""
    if not 2 <= threshold <= len(holders):
        raise ReleaseError(
            expected("threshold", threshold, f"lie in 2..{len(holders)}", "a majority")
        )
    return dict(zip(holders, create_shares(secret, threshold, len(holders)), strict=True))


def join_shares(shares: Mapping[str, bytes], threshold: int, owner: str) -> bytes:
    """Return the secret of ``owner`` from the shares of at least ``threshold`` holders.

    Raises :class:`QuorumError` where there are too few and :class:`ReleaseError` where they do not
    fit together. A secret should be compared with what its owner announced: a forged share of the
    right form gives a wrong one.
    """
    if len(shares) < threshold:
        raise QuorumError(
            expected(
                f"shares of the mask of {owner}",
                len(shares),
                f"be at least {threshold}",
                "starting the parties that fell silent, or a new run",
            )
        )
    chosen = [shares[holder] for holder in sorted(shares)][:threshold]
    try:
        if len({len(share) for share in chosen}) != 1:
            raise ValueError
        return combine_shares(chosen)
    except (ValueError, IndexError) as error:
        raise ReleaseError(
            expected(f"shares of the mask of {owner}", "forged", "fit together", "a new run")
        ) from error
