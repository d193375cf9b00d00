"""What a release, a mechanism and a budget mean, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedkd.privacy.settings import Privacy, Terms

_KINDS = {
    "probabilities": "label probabilities for public rows",
    "statistic": "bias vector over random inputs: a statement about the party's label counts",
    "embeddings": "embeddings of public rows",
    "subclasses": "subclass probabilities of public rows",
    "scores": "subclass scores of public rows",
    "grams": "comparisons of public rows with each other",
    "topics": "topic mixtures and word distributions of public rows",
    "describe": "the party's name, its number of private rows and its kind of teacher",
    "train": "figures of the training of the teacher",
    "evaluate": "averages over the party's own test rows",
    "receive": "how many public rows have arrived",
    "agree": "how many consensus rows have arrived",
    "masked": "weighted label probabilities for public rows, masked: only the sum can be opened",
    "keys": "public keys of a secure sum",
    "shares": "sealed shares of a mask's seed and key, which no private row touches",
    "unmask": "shares that open a secure sum",
}
_DONE = {
    "none": "as they are",
    "dp-sgd": "from a privately trained teacher, which was paid for once",
    "pate": "as noisy winners of sub-teachers' votes",
    "randomised-response": "as randomised labels",
    "laplace": "with Laplace noise",
    "gaussian": "with Gaussian noise",
    "temperature": "softened, which can be undone and guarantees nothing",
    "top-k": "cut to the largest, which guarantees nothing",
    "rounding": "rounded, which guarantees nothing",
    "argmax": "as the most probable label, which guarantees nothing",
    "laplace-threshold": "those whose noisy count reaches a threshold",
}
_UNITS = {
    "record": "one training record of a party, added or removed",
    "party": "a whole party: any other data and any other model in its place",
    "document": "one private document, added or removed, in the words told alone",
}
_PROOFS = {
    "dp-sgd": "clipped and noised gradients; every answer after that is post-processing",
    "pate": "noisy votes of sub-teachers that share no record; every answer costs",
    "randomised-response": "every released label is a randomised one; every label costs",
    "laplace": "Laplace noise on every answer; every answer costs",
    "gaussian": "Gaussian noise on every answer; every answer costs",
}


def plain_words(entry: Mapping[str, Any]) -> str:
    """Return one line that says what an entry of the ledger is."""
    what = _KINDS.get(str(entry["kind"]), str(entry["kind"]))
    if entry["rows"] is None:
        return f"{what}; exact, and covered by no guarantee"
    rows = int(entry["rows"][1]) - int(entry["rows"][0])
    if "frequencies" in entry["arrays"]:
        what = "words of private documents, and how many of these hold each"
        rows = int(entry["arrays"]["frequencies"]["shape"][0])
    elif "top_words" in entry["arrays"]:
        what = "first words and shares of topics, mean words over public rows"
    done = _DONE.get(str(entry["mechanism"]), str(entry["mechanism"]))
    if entry["epsilon_rdp"] is None:
        return f"{what} ({rows}), {done}; no guarantee"
    cost = "nothing new is spent" if entry["event"] is None else "spent with this"
    return (
        f"{what} ({rows}), {done}; {cost}: epsilon {entry['epsilon_rdp']:.4g} in all at delta "
        f"{entry['delta']:g} for {_UNITS[str(entry['unit'])].split(':')[0]}"
    )


def guarantee(terms: Terms) -> str:
    """Return in a sentence what the terms guarantee to whom."""
    own = terms.mechanism
    if own.unit is None:
        done = "" if own.name == "none" else f" {own.name} is hygiene: it {_hygiene(own.name)}."
        return (
            f"No formal privacy guarantee is claimed (mechanism: {own.name}, epsilon: none).{done}"
        )
    budget = "as much as its noise costs" if terms.epsilon is None else f"epsilon {terms.epsilon:g}"
    return (
        f"{own.name}, {budget} at delta {terms.delta:g}, for {_UNITS[own.unit]}. "
        f"How: {_PROOFS[own.name]}."
    )


def not_claimed(privacy: Privacy | None) -> tuple[str, ...]:
    """Return what is not guaranteed, a sentence each."""
    lines = [
        "A party's name, its number of private rows and its kind of teacher are sent exactly, and "
        "that it takes part at all is no secret.",
    ]
    own = [] if privacy is None else [privacy.mechanism, *(o.mechanism for o in privacy.override)]
    arms = [] if privacy is None else [arm.mechanism for arm in privacy.arm]
    used = [mechanism for mechanism in (arms or own) if mechanism is not None]
    units = {mechanism.unit for mechanism in used} or {None}
    if None in units:
        lines.append(
            "Without a guarantee, whoever sees a teacher's answers can guess its label shares and, "
            "for a teacher that overfits, who was trained on; averages over own test rows are sent "
            "exactly."
        )
    if units == {None}:
        return tuple(lines)
    lines.append(
        "In a simulation the noise follows from the seed, so that runs can be repeated: the "
        "guarantee is that of the method, not of this run's files."
    )
    lines.append("Noise is drawn in floating point; the proofs speak of real numbers.")
    lines.append(
        "Each seed and each configuration is accounted for alone in a simulation; a deployed party "
        "adds up all of its runs."
    )
    if "record" in units:
        lines.append("A person with several records is protected less than one with a single one.")
    if any(mechanism.name == "pate" for mechanism in used):
        lines.append("The data-dependent epsilon of the votes is not publishable and never leaves.")
    return tuple(lines)


def _hygiene(name: str) -> str:
    return {
        "temperature": "softens answers and can be undone",
        "top-k": "saves bytes",
        "rounding": "saves bytes",
        "argmax": "saves bytes",
    }[name]
