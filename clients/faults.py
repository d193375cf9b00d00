"""Faults committed on purpose, for tests and studies: which reply is hit, and how."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedkd.fault_scenario import FaultKind, Faults
from fedkd.party_card import PartyCard
from fedkd.run.wire import ARRAYS, FACTS, Scalar, decode_content, encode_content
from fedkd.seeds import numpy_generator

OVERSIZE_BYTES = 1_000_000


class PartyCrashError(RuntimeError):
    """A simulated death of the party's process, before or after its work."""


def draw_fault(card: PartyCard, action: str, fields: dict[str, Scalar]) -> FaultKind | None:
    """Return the fault that hits this reply, or None.

    The draw belongs to seed, party, request and attempt alone, so it is the same on every engine
    and a repeated attempt draws anew.
    """
    faults: Faults = card.faults
    spared = faults.parties is not None and card.name not in faults.parties
    if not faults.rate or spared or action not in faults.stages:
        return None
    purpose = f"fault {faults.seed} in {fields.get('request_id')}"
    generator = numpy_generator(card.seed, card.name, int(fields.get("attempt", 0)), purpose)
    if generator.random() >= faults.rate:
        return None
    return faults.kinds[int(generator.integers(len(faults.kinds)))]


def spoil(content: RecordDict, fault: FaultKind, delay: float, memory: Path) -> RecordDict:
    """Return the reply as this fault leaves it; raise :class:`PartyCrashError` where none gets out.

    ``memory`` is a file of the party that keeps its last honest reply, for replaying it.
    """
    honest = encode_content(content)
    if fault in ("drop", "crash-after"):
        raise PartyCrashError(fault)
    if fault == "delay":
        time.sleep(delay)
    elif fault == "replay":
        if memory.is_file():
            content = decode_content(memory.read_bytes())
        elif FACTS in content.config_records:
            content.config_records[FACTS]["request_id"] = "an older request"
    elif fault == "oversize":
        content["padding"] = ArrayRecord({"zeros": Array(np.zeros(OVERSIZE_BYTES, np.uint8))})
    elif fault == "nan" and ARRAYS in content.array_records:
        arrays = {
            name: Array(np.full(array.shape, np.nan, np.result_type(array.dtype, np.float16)))
            for name, array in content.array_records[ARRAYS].items()
        }
        content[ARRAYS] = ArrayRecord(arrays)
    else:
        content = RecordDict({"garbage": ConfigRecord({"noise": "\0"})})
    memory.write_bytes(honest)
    return content
