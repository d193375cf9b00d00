"""What a party would release if it were asked: for the audit of a simulation alone.

Nothing here answers a message, is cached with the party's answers or enters its ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.party import open_party
from clients.private_teacher import private_answers
from fedkd.models import training
from fedkd.models.determinism import single_thread
from fedkd.models.embeddings import embed, head_weights
from fedkd.privacy.mechanisms import applied
from fedkd.subclass.split import Split, prepared


def probe(folder: Path, texts: Sequence[str]) -> NDArray[np.generic]:
    """Return the probabilities (n, labels) that the party in ``folder`` would release for texts."""
    party = open_party(folder)
    own = party.terms.mechanism
    with single_thread():
        votes = private_answers(party, party.terms, texts)
        probs = training.predict(party.teacher(), texts) if votes is None else votes
    dtype = "float32" if party.card.encoding == "float32" else "float16"
    encoded = probs.astype(dtype)
    if own.name in ("none", "dp-sgd"):
        return encoded
    stream = party.noise_key.stream("audit", own.name)
    return applied(own, encoded.astype(np.float64), stream).astype(dtype)


def probe_embeddings(folder: Path, texts: Sequence[str], split: Split) -> NDArray[np.float64]:
    """Return texts (n, D) in the space in which the party releases embeddings."""
    party = open_party(folder)
    with single_thread():
        teacher = party.teacher()
        return prepared(embed(teacher, texts), head_weights(teacher), split)
