"""What a teacher answers to a further question, for all transfer rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedkd.models.classifier import Classifier
from fedkd.models.embeddings import embed, head_weights
from fedkd.models.subclasses import learned_conditionals
from fedkd.party_card import PartyCard
from fedkd.seeds import seed_for
from fedkd.subclass.landmarks import landmark_grams, landmarks
from fedkd.subclass.question import Question
from fedkd.subclass.split import conditionals, prepared, scores

Floats = NDArray[np.float64]
LOWEST_SCORE = -1e4


def further_values(
    teacher: Classifier, texts: Sequence[str], question: Question, card: PartyCard
) -> Floats:
    """Return subclasses, scores, Gram columns or embeddings (rows, …) float64.

    The teacher's last weights are read here and are no part of what is returned.
    """
    split, member = question.split, question.membership.astype(np.float64)
    if question.kind == "subclasses" and split.splitter == "learned":
        return learned_conditionals(teacher, texts, split.subclasses, split.beta)
    vectors, head = embed(teacher, texts), head_weights(teacher)
    own = replace(split, seed=seed_for(card.seed, "", split.seed, "subclasses"))
    match question.kind:
        case "subclasses":
            return conditionals(vectors, head, member, own, card.name)
        case "scores":
            found = scores(vectors, head, member, own, card.name)
            return np.asarray(np.maximum(found, LOWEST_SCORE))
        case "grams":
            chosen = landmarks(len(texts), split.landmarks, split.seed)
            return landmark_grams(prepared(vectors, head, split), member, chosen)
        case _:
            return prepared(vectors, head, split)
