"""Releases and requests as Flower records, and how many bytes they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

from fedkd.errors import ReleaseError, expected
from fedkd.privacy.ledger import Account
from fedkd.release import Release, ReleaseKind

Scalar = int | float | str
REQUEST = "request"
REFUSAL = "refusal"
METRICS = "metrics"
DESCRIPTION = "description"
ARRAYS = "release.arrays"
FACTS = "release.facts"
_NO_EPSILON = "none"


def encode_content(content: RecordDict) -> bytes:
    """Return the content of a message as it crosses the wire."""
    data: bytes = recorddict_to_proto(content).SerializeToString(deterministic=True)
    return data


def decode_content(data: bytes) -> RecordDict:
    """Return the content that :func:`encode_content` wrote."""
    return recorddict_from_proto(ProtoRecordDict.FromString(data))


def content_bytes(content: RecordDict) -> int:
    """Return how many bytes a message's content takes on the wire, framing left out."""
    return int(recorddict_to_proto(content).ByteSize())


def request_content(fields: dict[str, Scalar]) -> RecordDict:
    """Return a request: plain scalars by name."""
    return RecordDict({REQUEST: ConfigRecord(dict(fields))})


def request_fields(content: RecordDict) -> dict[str, Scalar]:
    """Return the scalars of a request."""
    return _scalars(_config(content, REQUEST))


def refusal_content(reason: str) -> RecordDict:
    """Return a reply that says why there is no release."""
    return RecordDict({REFUSAL: ConfigRecord({"reason": reason})})


def refusal_reason(content: RecordDict) -> str | None:
    """Return why the party refused, or None where it did not."""
    if REFUSAL not in content.config_records:
        return None
    return str(_config(content, REFUSAL).get("reason", "no reason given"))


def release_content(release: Release, request_id: str) -> RecordDict:
    """Return a release as Flower records, tied to the request that it answers."""
    epsilon = _NO_EPSILON if release.epsilon_spent is None else repr(release.epsilon_spent)
    facts: dict[str, Scalar] = {
        "kind": release.kind,
        "transfer_id": release.transfer_id,
        "label_id": release.label_id,
        "start": release.rows[0],
        "stop": release.rows[1],
        "mechanism": release.mechanism,
        "epsilon_spent": epsilon,
        "account": _account_text(release.account),
        "schema": release.schema,
        "request_id": request_id,
    }
    arrays = {name: Array(array) for name, array in release.arrays.items()}
    return RecordDict({ARRAYS: ArrayRecord(arrays), FACTS: ConfigRecord(dict(facts))})


def content_release(content: RecordDict, request_id: str) -> Release:
    """Return the release in a reply.

    Raises :class:`ReleaseError` where records are missing, unknown or answer another request.
    """
    names = sorted(content.keys())
    if names != sorted((ARRAYS, FACTS)):
        raise ReleaseError(expected("records", names, "be a release", "the same fedkd version"))
    try:
        facts = _config(content, FACTS)
        epsilon = str(facts["epsilon_spent"])
        answered = str(facts["request_id"])
        kind: ReleaseKind = str(facts["kind"])  # type: ignore[assignment]  # intakes check it
        release = Release(
            kind=kind,
            arrays={name: array.numpy() for name, array in content.array_records[ARRAYS].items()},
            transfer_id=str(facts["transfer_id"]),
            label_id=str(facts["label_id"]),
            rows=(int(str(facts["start"])), int(str(facts["stop"]))),
            mechanism=str(facts["mechanism"]),
            epsilon_spent=None if epsilon == _NO_EPSILON else float(epsilon),
            schema=int(str(facts["schema"])),
            account=_account(str(facts["account"])),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ReleaseError(
            expected("release", type(error).__name__, "decode", "the same fedkd version")
        ) from error
    if answered != request_id:
        raise ReleaseError(
            expected("request_id", answered, f"equal {request_id!r}", "answering each request once")
        )
    return release


def _account_text(account: Mapping[str, Any]) -> str:
    """Return a cost as JSON, without what is as in a release that costs and guarantees nothing."""
    usual = Account().values()
    said = {key: value for key, value in account.items() if value != usual.get(key)}
    return json.dumps(said, sort_keys=True)


def _account(text: str) -> dict[str, Any]:
    """Return what a release costs; raises ValueError for anything but known keys."""
    values = json.loads(text)
    if not isinstance(values, dict) or set(values) - set(Account().values()):
        raise ValueError("account")
    return Account().values() | values


def description_content(facts: dict[str, Scalar]) -> RecordDict:
    """Return a reply in which a party describes itself."""
    return RecordDict({DESCRIPTION: ConfigRecord(dict(facts))})


def description_facts(content: RecordDict) -> dict[str, Scalar]:
    """Return what a party said of itself; empty where the reply is no description."""
    if DESCRIPTION not in content.config_records:
        return {}
    return _scalars(_config(content, DESCRIPTION))


def metrics_content(figures: dict[str, int | float]) -> RecordDict:
    """Return a reply of figures about the whole party."""
    return RecordDict({METRICS: MetricRecord(dict(figures))})


def metrics_figures(content: RecordDict) -> dict[str, float]:
    """Return the figures of a reply; raises :class:`ReleaseError` where it holds none."""
    if list(content.keys()) != [METRICS]:
        raise ReleaseError(expected("reply", sorted(content), "be figures", "the same version"))
    try:
        return {key: float(str(value)) for key, value in content.metric_records[METRICS].items()}
    except (KeyError, ValueError) as error:  # records of another kind, or lists of figures
        raise ReleaseError(
            expected("figures", type(error).__name__, "decode", "the same version")
        ) from error


def figure_names(content: RecordDict) -> list[str]:
    """Return the names of the figures in a reply that holds no release."""
    return sorted(
        name
        for records in (content.metric_records, content.config_records)
        for record in records.values()
        for name in record
    )


def _scalars(record: ConfigRecord) -> dict[str, Scalar]:
    return {key: value for key, value in record.items() if isinstance(value, int | float | str)}


def _config(content: RecordDict, name: str) -> ConfigRecord:
    record: ConfigRecord = content.config_records[name]
    return record
