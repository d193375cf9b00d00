"""Private rows dealt by a partitioner of flwr-datasets."""

from __future__ import annotations

import warnings

import datasets
import numpy as np
from flwr_datasets.partitioner import (
    DirichletPartitioner,
    IidPartitioner,
    LinearPartitioner,
    Partitioner,
    ShardPartitioner,
)

from fedkd import scenario
from fedkd.data.rows import Index, Rows, hash_order
from fedkd.errors import DataError, expected
from fedkd.seeds import seed_for


def deal(private: Rows, parties: scenario.Parties, seed: int) -> list[Index]:
    """Return the rows of each party, ascending indices; raise DataError where one has none."""
    # The partitioners cut runs of neighbouring rows, so the rows are mixed first.
    order = hash_order(private, seed, "partition")
    partitioner = _partitioner(parties, seed)
    partitioner.dataset = datasets.Dataset.from_dict(
        {"row": range(len(order)), "label": private.label[order].tolist()}
    )
    by = parties.partition.by
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts = [
                np.sort(order[partitioner.load_partition(party)["row"]])
                for party in range(parties.count)
            ]
    except (ValueError, ZeroDivisionError) as error:
        knob = {"dirichlet": "a larger alpha or ", "shards": "fewer shards or "}.get(by, "")
        raise DataError(
            expected(
                "parties.partition.by",
                by,
                f"give each of {parties.count} parties a row out of {len(private)}",
                f"{knob}fewer parties",
            )
        ) from error
    return parts


def _partitioner(parties: scenario.Parties, seed: int) -> Partitioner:
    number = seed_for(seed, "", 0, "partition")
    match parties.partition.by:
        case "dirichlet":
            return DirichletPartitioner(
                num_partitions=parties.count,
                partition_by="label",
                alpha=parties.partition.alpha,
                min_partition_size=1,
                seed=number,
            )
        case "shards":
            return ShardPartitioner(
                num_partitions=parties.count,
                partition_by="label",
                num_shards_per_partition=parties.partition.shards,
                seed=number,
            )
        case "quantity":
            return LinearPartitioner(num_partitions=parties.count)
        case _:
            return IidPartitioner(num_partitions=parties.count)
