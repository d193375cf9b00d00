"""A round that is over, written down so that a resumed run asks nobody again.

Whoever was left out stays out: what is distilled after a kill is what would have been without it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedkd.files import read_json, write_json
from fedkd.run.folder import RunFolder
from server.protocol import Answers, Terms, receiver_for


def seal(folder: RunFolder, answers: Answers) -> None:
    """Write who answered, with which figures, and the digests of what lies in the intake."""
    write_json(
        folder.sealed,
        {
            "sizes": dict(answers.sizes),
            "teachers": answers.teachers,
            "bias": answers.transfer.bias is not None,
            "transfer": answers.transfer.digest(),
            "test": answers.test.digest(),
        },
    )


def unseal(
    folder: RunFolder, terms: Terms, transfer: Sequence[str], test: Sequence[str]
) -> Answers | None:
    """Return the answers of a sealed round; None where none is, or its files have changed."""
    if not folder.sealed.is_file():
        return None
    known = read_json(folder.sealed)
    sizes = {party: int(rows) for party, rows in known["sizes"].items()}
    try:
        answering = receiver_for(folder, "transfer", terms, transfer)
        measuring = receiver_for(folder, "test", terms, test)
        answers = Answers(
            transfer=answering.close(list(sizes), sizes, bias=known["bias"]),
            test=measuring.close(list(sizes), sizes, bias=False),
            teachers=known["teachers"],
            sizes=sizes,
        )
        found = {"transfer": answers.transfer.digest(), "test": answers.test.digest()}
    except (OSError, ValueError):
        return None
    return answers if all(known[name] == digest for name, digest in found.items()) else None
