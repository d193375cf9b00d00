"""Finding a student among results, and asking it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedkd.errors import ModelError, expected
from fedkd.files import read_json, slug
from fedkd.models import classifier, training
from fedkd.models.determinism import single_thread
from fedkd.models.topic_files import is_topic_model
from fedkd.run.folder import RunFolder


def label_texts(run: Path, texts: Sequence[str], method: str | None = None) -> list[str]:
    """Return ``label  probability  text`` for each text, by the student of a method.

    A topic student's lines are :func:`fedkd.topics.serving.topic_lines`.
    ``run`` is a student's folder, a seed's, a configuration's (its first seed) or a scenario's
    (its newest configuration). Raises :class:`ModelError` where there is no such student.
    """
    folder = student_folder(run, method)
    if is_topic_model(folder):
        from fedkd.topics.serving import ask_topics, topic_lines  # noqa: PLC0415  # scikit-learn

        return topic_lines(ask_topics(folder, texts), texts)
    student = classifier.load(folder)
    with single_thread():
        probs = training.predict(student, list(texts))
    names = classifier.label_names(folder)
    best = probs.argmax(axis=1)
    width = max(len(names[index]) for index in best)
    pairs = zip(best, probs, texts, strict=True)
    return [f"{names[i]:<{width}}  {row[i]:.3f}  {text}" for i, row, text in pairs]


def student_folder(run: Path, method: str | None) -> Path:
    """Return the folder of a student."""
    if (run / "fedkd.json").is_file():
        return run
    seed = _seed_folder(run)
    folder = seed / "student" if method is None else RunFolder(seed).student(slug(method))
    if (folder / "fedkd.json").is_file():
        return folder
    known = sorted(read_json(seed / "result.json")["hashes"]["student"])
    raise ModelError(expected("method", method, f"be one of {known}", f"--method {known[0]}"))


def configuration_folder(run: Path) -> Path:
    """Return the folder that holds the seeds, given it, one of them, or the scenario's folder."""
    return _seed_folder(run).parent


def ledger_folders(run: Path) -> list[Path]:
    """Return the folders with a ledger below ``run``: itself, or every seed's under it."""
    if (run / "ledger.jsonl").is_file():
        return [run]
    depths = (f"{'*/' * depth}ledger.jsonl" for depth in range(1, 6))
    found = {file.parent for pattern in depths for file in run.glob(pattern)}
    return sorted(folder for folder in found if folder.parent.name != "parties") or [run]


def _seed_folder(run: Path) -> Path:
    if (run / "result.json").is_file():
        return run
    patterns = ("*/result.json", "*/*/result.json")
    found = [file.parent for pattern in patterns for file in run.glob(pattern)]
    if not found:
        raise ModelError(
            expected("run", str(run), "hold a finished run", "runs/NAME, after fedkd run")
        )
    newest = max(found, key=lambda p: (p / "result.json").stat().st_mtime).parent
    seeds = (p for p in found if p.parent == newest)
    return min(seeds, key=lambda p: int(p.name) if p.name.isdecimal() else -1)
