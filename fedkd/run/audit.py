"""The audit of finished runs: reads what was released, asks the suspects, writes ``audit.json``.

Membership can only be measured where somebody knows who the members are, so the harness of a
simulation asks each teacher about private and held-out rows, through the same path as a release.
These answers lie under ``audit/`` in the run folder. They never crossed the wire, are no part of
the intake, and stand for a server that smuggles suspects into the transfer set.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.encoding import decode
from fedkd.errors import AuditError, DataError, expected
from fedkd.files import read_json, read_json_lines, read_rows, write_arrays, write_json, write_text
from fedkd.privacy.attacks.identification import identification
from fedkd.privacy.attacks.label_distribution import label_inference
from fedkd.privacy.audit import (
    DELTA,
    Questioned,
    bounds,
    broken_promises,
    membership,
    membership_json,
)
from fedkd.privacy.epsilon import mechanisms, promised
from fedkd.privacy.shadows import shadow_answers
from fedkd.privacy.suspects import Suspects, choose_suspects
from fedkd.run.audit_embeddings import embedding_attack
from fedkd.run.folder import RunFolder
from fedkd.scenario import Scenario
from fedkd.scenario_file import load_scenario

PROBE = "clients.probe"
FILE = "audit.json"
SUM = "sum"
MOST = 2000
SCHEMA = 1
Floats = NDArray[np.float64]
Note = Callable[[str], None]
_README = """Made by `fedkd audit` after the run, for the audit alone.

probes.npz holds row numbers of private (member/…) and held-out (nonmember/…) rows of each party
and what the teachers would have released for them (answer/…). None of it crossed the wire, and no
server has it: it stands for suspects that a server smuggles into the transfer set.
"""


@dataclass(frozen=True)
class Release:
    """What the server holds of one party: ``probs`` (rows, labels), the rows it delivered."""

    probs: Floats
    rows: NDArray[np.int64]


def audit_run(
    run: Path, *, most: int = MOST, note: Note = lambda line: None
) -> list[tuple[RunFolder, dict[str, Any]]]:
    """Audit every finished seed at or below ``run``, write ``audit.json``, return what was found.

    ``most`` is how many members, and how many others, each party is tried on. Raises
    :class:`DataError` where no seed has finished.
    """
    audited = []
    for folder in finished_seeds(run):
        note(f"auditing {folder.root}")
        found = audit_seed(folder, most)
        write_json(folder.root / FILE, found)
        audited.append((folder, found))
    return audited


def require_kept_promises(audits: Iterable[Mapping[str, Any]]) -> None:
    """Raise :class:`AuditError` where an attack shows a larger epsilon than was promised."""
    broken = [f"seed {a['seed']}, {line}" for a in audits for line in a["broken_promises"]]
    if broken:
        raise AuditError(
            f"{'; '.join(broken)}. A promise is broken: a mechanism or an accountant is wrong."
        )


def finished_seeds(run: Path) -> list[RunFolder]:
    """Return the finished seeds: of a seed's folder itself, a configuration's or a scenario's."""
    # A sweep has a folder for each of its settings between the configuration and the seeds.
    patterns = ("*/" * depth + "DONE" for depth in range(5))
    found = next((files for p in patterns if (files := sorted(run.glob(p)))), [])
    if not found:
        raise DataError(
            expected("run", str(run), "hold a finished run", "runs/NAME, after fedkd run")
        )
    return [RunFolder(file.parent) for file in found]


def audit_seed(folder: RunFolder, most: int = MOST) -> dict[str, Any]:
    """Return everything that the attacks find in one seed's folder, as plain values."""
    scenario = load_scenario(folder.scenario)
    federation = read_json(folder.root / "federation.json")
    parties: dict[str, Any] = federation["parties"]
    seed = int(read_json(folder.result)["seed"])
    entries = list(folder.records("ledger"))
    upper, done = promised(entries), mechanisms(entries)
    counts = {
        name: np.asarray(own["label_counts"], np.float64)
        for name, own in parties.items()
        if own.get("label_counts")
    }
    released, summed = read_releases(folder, list(parties), len(federation["labels"]))
    notes = [_SUMMED] if summed else []
    if not released:
        notes.append("No party's probabilities are in the intake; nothing could be attacked.")
    known = {name: r.probs for name, r in released.items() if name in counts}
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "seed": seed,
        "delta": DELTA,
        "seen": "sum" if summed else "parties",
        "label_inference": label_inference(known, counts, done),
        "identification": _identify(released, counts, seed, summed),
    }
    questioned: dict[str, Questioned] = {}
    if all(folder.party(i).joinpath("private.jsonl").is_file() for i in range(len(parties))):
        questioned = ask_suspects(
            folder, scenario, list(parties), released, most=most, seed=seed, summed=summed
        )
        found["embeddings"] = embedding_attack(folder, scenario, list(parties), seed)
    else:
        notes.append("The parties' folders are not here, so membership cannot be measured.")
        found["embeddings"] = {}
    verdicts, pooled = membership(questioned, DELTA, seed)
    epsilon = bounds(verdicts, upper)
    return found | {
        "membership": membership_json(verdicts, upper),
        "membership_pooled": {name: verdict.as_json() for name, verdict in pooled.items()},
        "epsilon": epsilon,
        "broken_promises": broken_promises(epsilon),
        "notes": notes,
    }


_SUMMED = (
    "Only the sum over parties reached the server: every attack on a party is made on that sum."
)


def read_releases(
    folder: RunFolder, names: list[str], labels: int
) -> tuple[dict[str, Release], bool]:
    """Return the accepted releases by party, and whether each is the sum over all parties."""
    whole = folder.intake / SUM
    summed = (whole / "probs.npy").is_file() and SUM not in names
    found = {}
    for name in names:
        own = whole if summed else folder.intake / name
        if (own / "probs.npy").is_file():
            blocks = [e["rows"] for e in read_json_lines(own / "received.jsonl")]
            rows = np.concatenate([np.arange(*b) for b in sorted(blocks)] or [np.arange(0)])
            stored = np.load(own / "probs.npy", mmap_mode="r")
            if len(rows):
                found[name] = Release(decode(stored[rows], labels).astype(np.float64), rows)
    return found, summed


def ask_suspects(
    folder: RunFolder,
    scenario: Scenario,
    names: list[str],
    released: Mapping[str, Release],
    *,
    most: int,
    seed: int,
    summed: bool,
) -> dict[str, Questioned]:
    """Ask every teacher about every party's suspects and keep the answers under ``audit/``."""
    transfer = read_rows(folder.public / "transfer.jsonl")["text"]
    suspects: dict[str, Suspects] = {}
    texts: dict[str, list[str]] = {}
    sizes = []
    for index, name in enumerate(names):
        private = read_rows(folder.party(index) / "private.jsonl")
        held_out = read_rows(folder.party(index) / "test.jsonl")
        sizes.append(len(private["text"]))
        own = choose_suspects(private, held_out, transfer, most=most, seed=seed, party=name)
        suspects[name] = own
        texts[name] = [private["text"][i] for i in own.members]
        texts[name] += [held_out["text"][i] for i in own.nonmembers]
    answers = _answers(folder, names, [text for own in texts.values() for text in own])
    _keep(folder, suspects, answers)
    found = {}
    ends = np.cumsum([0, *(len(own) for own in texts.values())])
    for index, name in enumerate(names):
        mine = slice(ends[index], ends[index + 1])
        block = np.stack([answers[other][mine] for other in names])
        shadows = np.empty((0, *block.shape[1:]))
        if name in released and len(suspects[name].label):
            rows = released[name].rows
            shadows = shadow_answers(
                scenario.student,
                [transfer[row] for row in rows],
                released[name].probs,
                texts[name],
                seed=seed,
                party=SUM if summed else name,
            )
        found[name] = Questioned(
            members=len(suspects[name].members),
            label=suspects[name].label,
            target=np.average(block, axis=0, weights=sizes) if summed else block[index],
            others=block[:0] if summed else np.delete(block, index, axis=0),
            shadows=shadows,
        )
    return found


def _answers(folder: RunFolder, names: list[str], texts: list[str]) -> dict[str, Floats]:
    # The parties' side is named by string: this room must not know it.
    probe = importlib.import_module(PROBE).probe
    if not texts:
        return {name: np.empty((0, 0)) for name in names}
    found = {}
    for index, name in enumerate(names):
        stored = probe(folder.party(index), texts)
        labels = len(read_json(folder.root / "federation.json")["labels"])
        found[name] = decode(stored, labels).astype(np.float64)
    return found


def _keep(
    folder: RunFolder, suspects: Mapping[str, Suspects], answers: Mapping[str, Floats]
) -> None:
    home = folder.root / "audit"
    write_text(home / "README.txt", _README)
    arrays: dict[str, NDArray[Any]] = {}
    for name, own in suspects.items():
        arrays |= {f"member/{name}": own.members, f"nonmember/{name}": own.nonmembers}
        arrays[f"answer/{name}"] = answers[name].astype(np.float32)
    write_arrays(home / "probes.npz", arrays)


def _identify(
    released: Mapping[str, Release], counts: Mapping[str, Floats], seed: int, summed: bool
) -> dict[str, Any]:
    if summed or not released:
        return {"parties": 0 if summed else len(released), "reason": _SUMMED if summed else "none"}
    common = np.arange(max(r.rows.max() for r in released.values()) + 1)
    for release in released.values():
        common = np.intersect1d(common, release.rows)
    aligned = {
        name: release.probs[np.searchsorted(release.rows, common)]
        for name, release in released.items()
    }
    truth = counts if set(released) <= set(counts) else {}
    return identification(aligned, truth, seed)
