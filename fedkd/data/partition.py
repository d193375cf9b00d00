"""How private rows are dealt to parties: by domain, or by a partitioner of flwr-datasets."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from fedkd import scenario
from fedkd.data.rows import Index, Rows, hash_order, largest_remainder
from fedkd.errors import DataError, expected

_UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


@dataclass(frozen=True)
class Share:
    """The rows of one party: ascending indices into the private and the test rows."""

    name: str
    train: Index
    test: Index


def partition(private: Rows, test: Rows, parties: scenario.Parties, seed: int) -> tuple[Share, ...]:
    """Deal private and test rows to ``parties.count`` parties, disjoint shares each.

    A share's rows depend on content and seed alone, never on the order of rows, sources or
    ``parties.names``. Raises :class:`DataError` where some party would be empty.
    """
    if parties.count > len(private):
        raise DataError(
            expected(
                "parties.count",
                parties.count,
                f"be at most the number of private rows, {len(private)}",
                "fewer parties, or fewer data.transfer.rows",
            )
        )
    if parties.partition.by == "domain":
        return _by_domain(private, test, parties, seed)
    from fedkd.data.partitioners import deal  # noqa: PLC0415  # imports datasets

    trains = deal(private, parties, seed)
    width = len(str(parties.count - 1))
    names = [f"party-{number:0{width}d}" for number in range(parties.count)]
    everything = np.arange(len(test), dtype=np.int64)
    tests = deal_test_rows(private, trains, test, everything, seed)
    return tuple(Share(*share) for share in zip(names, trains, tests, strict=True))


def deal_test_rows(
    private: Rows, trains: list[Index], test: Rows, pool: Index, seed: int
) -> list[Index]:
    """Deal the test rows in ``pool`` so that a party's test mix follows its training mix.

    The rows of each label are split in proportion to the parties' training counts of it (largest
    remainder), or to their sizes where no party has it.
    """
    dealt: list[list[int]] = [[] for _ in trains]
    order = pool[hash_order(test.take(pool), seed, "partition-test")]
    classes = 1 + max(private.label.max(initial=0), test.label.max(initial=0))
    held = np.array([np.bincount(private.label[train], minlength=classes) for train in trains])
    for label in np.unique(test.label[pool]):
        rows = order[test.label[order] == label]
        counts = held[:, label].tolist()
        quota = largest_remainder(len(rows), counts if sum(counts) else [len(t) for t in trains])
        start = 0
        for party, size in enumerate(quota):
            dealt[party].extend(rows[start : start + size].tolist())
            start += size
    return [np.array(sorted(rows), dtype=np.int64) for rows in dealt]


def _by_domain(
    private: Rows, test: Rows, parties: scenario.Parties, seed: int
) -> tuple[Share, ...]:
    sizes = Counter(private.domain)
    if "" in sizes:
        raise DataError(
            expected(
                "data.domain", f"'' in {sizes['']} rows", "be given for every row", "filling it in"
            )
        )
    if parties.names is not None:
        _check_names(parties.names, sizes)
        groups: list[tuple[tuple[str, ...], int]] = [((name,), 1) for name in parties.names]
    elif parties.count <= len(sizes):
        groups = [(group, 1) for group in _merge(sizes, parties.count)]
    else:
        groups = [((name,), pieces) for name, pieces in _pieces(sizes, parties.count).items()]
    shares = [
        share
        for members, pieces in groups
        for share in _group_shares(private, test, members, pieces, seed)
    ]
    repeated = [name for name, times in Counter(s.name for s in shares).items() if times > 1]
    if repeated:
        raise DataError(
            expected("party names", repeated, "differ", "renaming these domains in the source")
        )
    return tuple(shares)


def _group_shares(
    private: Rows, test: Rows, members: tuple[str, ...], pieces: int, seed: int
) -> list[Share]:
    train = np.flatnonzero([domain in members for domain in private.domain])
    pool = np.flatnonzero([domain in members for domain in test.domain])
    # Parties name folders, so what a file system forbids is replaced.
    name = _UNSAFE.sub("-", "+".join(members)).strip(" .") or "domain"
    if pieces == 1:
        return [Share(name, train, pool)]
    mixed = train[hash_order(private.take(train), seed, "partition")]
    trains = [np.sort(part) for part in np.array_split(mixed, pieces)]
    tests = deal_test_rows(private, trains, test, pool, seed)
    width = len(str(pieces - 1))
    return [
        Share(f"{name}-{number:0{width}d}", *rows)
        for number, rows in enumerate(zip(trains, tests, strict=True))
    ]


def _check_names(names: tuple[str, ...], sizes: Counter[str]) -> None:
    for name in names:
        if name not in sizes:
            known = ", ".join(sorted(sizes))
            raise DataError(
                expected("parties.names", name, "be a domain with private rows", f"one of {known}")
            )


def _merge(sizes: Counter[str], count: int) -> list[tuple[str, ...]]:
    """Put domains, largest first, into the smallest of ``count`` groups."""
    groups: list[list[str]] = [[] for _ in range(count)]
    for name in sorted(sizes, key=lambda n: (-sizes[n], n)):
        # An empty group comes first even where a domain is tiny.
        smallest = min(groups, key=lambda group: (sum(sizes[n] for n in group), len(group)))
        smallest.append(name)
    return sorted(tuple(sorted(group)) for group in groups)


def _pieces(sizes: Counter[str], count: int) -> dict[str, int]:
    """Return how many parties each domain is cut into: the largest piece is cut until enough."""
    pieces = dict.fromkeys(sorted(sizes), 1)
    for _ in range(count - len(pieces)):
        largest = max(pieces, key=lambda name: sizes[name] / pieces[name])
        pieces[largest] += 1
    return pieces
