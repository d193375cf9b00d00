"""One party's state on its own disk: private rows, teacher, cached answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.consensus import read_consensus, store_consensus
from clients.further import further_values
from clients.private_teacher import fit_private, private_answers
from clients.public_sets import PUBLIC_SETS, public_texts, store_block
from fedkd.coding import stored_dtype, wide_dtype
from fedkd.data.random_inputs import random_inputs
from fedkd.errors import DataError, ReleaseError, expected
from fedkd.files import count_rows, read_rows, write_array, write_text
from fedkd.metrics.scores import score
from fedkd.models import classifier, training
from fedkd.models.determinism import single_thread
from fedkd.models.heads import PLAIN, Collapsed, Layout
from fedkd.models.subclasses import learned_subclasses
from fedkd.party_card import PartyCard, read_card
from fedkd.privacy.noise import NoiseKey, own_secret
from fedkd.privacy.policy import read_policy
from fedkd.privacy.settings import Terms
from fedkd.release import Release, fingerprint
from fedkd.seeds import seed_for
from fedkd.subclass.question import FURTHER, Question, question_name, told
from fedkd.subclass.split import Split

Figures = dict[str, int | float]


@dataclass(frozen=True)
class Party:
    """A data holder. Everything under ``folder`` is its own; only a :class:`Release` leaves."""

    folder: Path
    card: PartyCard

    @property
    def label_id(self) -> str:
        """Fingerprint of the label list."""
        return fingerprint(self.card.labels)

    @property
    def terms(self) -> Terms:
        """The party's policy; everything is allowed where it has written none."""
        return read_policy(self.folder) or Terms()

    @property
    def rows(self) -> int:
        """How many private rows there are."""
        return count_rows(self._private_file("private"))

    @property
    def noise_key(self) -> NoiseKey:
        """What the party's protective noise is drawn from."""
        secret = own_secret(self.folder) if self.card.deployed else b""
        return NoiseKey(self.card.seed, self.card.name, secret)

    def describe(self) -> dict[str, int | float | str]:
        """Return what the server needs to know before it asks."""
        return {
            "party": self.card.name,
            "rows": self.rows,
            "label_id": self.label_id,
            "teacher": self.card.teacher.model,
        }

    def receive(self, fields: Mapping[str, int | float | str]) -> Figures:
        """Store a block of public texts; see :func:`clients.public_sets.store_block`."""
        return {"rows": store_block(self.folder, self.card, fields)}

    def train(self) -> Figures:
        """Train the teacher unless this folder holds it already; return party-level figures."""
        figures = self.folder / "teacher.json"
        if not figures.is_file():
            history = self._fit_teacher()
            write_text(figures, json.dumps(history))
        values: Figures = json.loads(figures.read_text(encoding="utf-8"))
        return values

    def answer(self, set_name: str, rows: tuple[int, int], transfer_id: str) -> Release:
        """Return the teacher's label probabilities for a slice of a public set.

        The teacher reads each set once; later requests, and repeated ones, are slices of the same
        stored bytes. Raises :class:`ReleaseError` where the set or the slice is not what this
        party knows.
        """
        texts = self.public_texts(set_name)
        own_id = fingerprint(texts)
        if own_id != transfer_id:
            raise ReleaseError(
                expected("transfer_id", transfer_id, f"equal {own_id!r}", "the same transfer set")
            )
        start, stop = rows
        if not 0 <= start < stop <= len(texts):
            raise ReleaseError(
                expected("rows", rows, f"lie in 0..{len(texts)}", "a slice of the transfer set")
            )
        probs = self._cached(f"{set_name}-{own_id[:16]}", texts)
        return Release(
            "probabilities",
            {"probs": np.ascontiguousarray(probs[start:stop])},
            transfer_id=own_id,
            label_id=self.label_id,
            rows=rows,
        )

    def agree(self, fields: Mapping[str, int | float | str]) -> Figures:
        """Store a block of the consensus; see :func:`clients.consensus.store_consensus`."""
        return {"rows": store_consensus(self.folder, len(self.card.labels), fields)}

    def further(
        self, fields: Mapping[str, int | float | str], rows: tuple[int, int], transfer_id: str
    ) -> Release:
        """Return subclasses, scores, Grams or embeddings for a slice of the transfer set.

        The teacher's last weights are read here and stay here. Everything is fitted on public rows,
        so it is post-processing of the teacher. Raises :class:`ReleaseError` where the consensus
        that the question names has not been received as a whole.
        """
        texts = self.public_texts("transfer")
        start, stop = rows
        if fingerprint(texts) != transfer_id or not 0 <= start < stop <= len(texts):
            raise ReleaseError(
                expected("transfer_id, rows", rows, "be this party's", "the same transfer set")
            )
        kind, name, split = str(fields["kind"]), str(fields["name"]), Split.of(dict(fields))
        if kind not in FURTHER:
            raise ReleaseError(expected("kind", kind, f"be one of {FURTHER}", "another question"))
        member = read_consensus(self.folder, name)
        if len(member) != len(texts) or question_name(kind, split, member) != name:
            raise ReleaseError(
                expected("consensus", len(member), f"be whole ({len(texts)} rows)", "sending it")
            )
        values = self._fitted(Question(kind, split, member), texts)
        arrays: dict[str, NDArray[np.generic]] = {kind: np.ascontiguousarray(values[start:stop])}
        if kind == "embeddings":
            arrays["probs"] = np.ascontiguousarray(
                self._cached(f"transfer-{transfer_id[:16]}", texts)[start:stop]
            )
        return Release(
            kind,
            arrays,
            transfer_id=transfer_id,
            label_id=self.label_id,
            rows=rows,
            mechanism=told(kind, split, len(texts)),
        )

    def bias(self, transfer_id: str) -> Release:
        """Return the bias vector b_k: the teacher's answer to text without content.

        Mean softmax over random inputs, or the histogram of their argmax with one count added to
        each label as in the published code (Bhardwaj et al., COLING 2022).
        """
        texts = self.public_texts("transfer")
        if fingerprint(texts) != transfer_id:
            raise ReleaseError(
                expected("transfer_id", transfer_id, "be this party's", "the same transfer set")
            )
        inputs = random_inputs(texts, self.card.bias_inputs, self.card.seed)
        probs = np.asarray(self._cached(f"random-{transfer_id[:16]}", inputs), np.float64)
        vector = probs.mean(axis=0)
        if self.card.bias == "argmax":
            counts = np.bincount(probs.argmax(axis=1), minlength=len(self.card.labels)) + 1.0
            vector = counts / counts.sum()
        return Release(
            "statistic",
            {"bias": vector.astype(np.float32)},
            transfer_id=transfer_id,
            label_id=self.label_id,
            rows=(0, len(inputs)),
            mechanism=f"{self.card.bias} over {len(inputs)} random inputs",
        )

    def evaluate(self) -> Figures:
        """Return the teacher's measures on the party's own test rows, as one figure each."""
        own = self.private_rows("test")
        if not own.get("text"):
            return {"rows": 0}
        with single_thread():
            probs = training.predict(self.teacher(), own["text"])
        labels = len(self.card.labels)
        cost = 1.0 - np.eye(labels)
        scores = score(probs, np.asarray(own["label"], np.int64), cost, None)
        return {
            "rows": len(own["text"]),
            "accuracy": scores.accuracy,
            "macro_f1": scores.macro_f1,
            "nll": scores.nll,
            "ece": scores.ece,
        }

    @property
    def public_folder(self) -> Path:
        """Where the public texts lie."""
        return (self.folder / self.card.public).resolve()

    def texts(self, name: str) -> list[str]:
        """Return the texts of 'private' or 'own-test', or of a public set."""
        if name in PUBLIC_SETS:
            return self.public_texts(name)
        texts: list[str] = self.private_rows("test" if name == "own-test" else name).get("text", [])
        return texts

    def _fit_teacher(self) -> Figures:
        private = fit_private(self, self.terms)
        if private is not None:
            return private
        rows = self.private_rows("private")
        label = np.asarray(rows["label"], np.int64)
        seed = seed_for(self.card.seed, self.card.name, 0, "teacher")
        with single_thread():
            labels, layout = len(self.card.labels), Layout(1, self.card.teacher.subclasses or 1)
            teacher = classifier.build(
                self.card.teacher,
                layout.outputs(labels),
                seed=seed,
                public_text=self.public_texts("transfer"),
                fit_text=rows["text"],
                cache=self.folder / "cache",
            )
            history = training.fit(
                teacher,
                rows["text"],
                training.hard_labels(label)
                if layout == PLAIN
                else learned_subclasses(label, layout),
                self.card.teacher,
                seed=seed,
                progress=f"teacher {self.card.name}",
            )
        whole = teacher if layout == PLAIN else Collapsed(labels, teacher, layout)
        whole.save(self.folder / "teacher", self.card.labels)
        return {"epochs": len(history.held_out_loss) - 1, "rows": len(label)}

    def teacher(self) -> classifier.Classifier:
        """Return the trained teacher, for the party's own handlers alone."""
        if not (self.folder / "teacher.json").is_file():
            self.train()
        return classifier.load(self.folder / "teacher", cache=self.folder / "cache")

    def _cached(self, name: str, texts: Sequence[str]) -> NDArray[np.generic]:
        dtype = stored_dtype(self.card.encoding)
        path = self.folder / "answers" / f"{name}-{dtype}.npy"
        if not path.is_file():
            with single_thread():
                shares = private_answers(self, self.terms, texts)
                probs = training.predict(self.teacher(), texts) if shares is None else shares
            write_array(path, probs.astype(dtype))
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
        return array

    def _fitted(self, question: Question, texts: Sequence[str]) -> NDArray[np.generic]:
        """Return the answer to a further question for all transfer rows, made once."""
        dtype = wide_dtype(self.card.encoding)
        path = self.folder / "answers" / f"{question.name}-{dtype}.npy"
        if not path.is_file():
            with single_thread():
                values = further_values(self.teacher(), texts, question, self.card)
            with np.errstate(over="ignore"):
                encoded = values.astype(dtype)
            if not np.isfinite(encoded).all():
                raise ReleaseError(
                    expected(
                        f"{question.kind}: largest value", float(np.abs(values).max()),
                        f"fit {dtype}", "release.encoding = 'float32'",
                    )
                )  # fmt: skip
            write_array(path, encoded)
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
        return array

    def private_rows(self, name: str) -> dict[str, list[Any]]:
        """Return the party's own rows, ``private`` or ``test``; for its own handlers alone."""
        return read_rows(self._private_file(name))

    def _private_file(self, name: str) -> Path:
        path = self.folder / f"{name}.jsonl"
        if not path.is_file():
            raise DataError(
                expected("party data", path.name, "exist", f"putting it into {self.card.name}")
            )
        return path

    def public_texts(self, name: str) -> list[str]:
        """Return the texts of a public set, ``transfer`` or ``test``."""
        return public_texts(self.folder, self.card, name)


def open_party(folder: Path) -> Party:
    """Return the party whose folder this is."""
    return Party(folder, read_card(folder))
