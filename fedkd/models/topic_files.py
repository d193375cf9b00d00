"""A topic model on disk: ``fedkd.json``, the vocabulary, and the numbers as safetensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fedkd.errors import ModelError, expected
from fedkd.files import read_json, write_text
from fedkd.models.folder import CARD, SCHEMA, read_weights, write_weights
from fedkd.models.text_space import TextSpace, load_space
from fedkd.models.topic_network import TopicNetwork, TopicShape, build_network

KIND = "topics"
VOCABULARY = "vocabulary.txt"
_README = """# Topic model ({topics} topics, {words} words)

Made by [fedkd](https://pypi.org/project/fedkd/). `fedkd predict` on this folder tells the topics of
texts; so does

```python
from pathlib import Path

from fedkd.topics.serving import ask_topics

found = ask_topics(Path("this folder"), ["a text"])
found.shares  # (texts, topics); found.known tells which texts hold a known word
found.words  # the first words of every topic
```

Texts are read by the encoder `{encoder}`.{beside}
"""
_BESIDE = " It is fitted on the public documents and lies in this folder."


def save_topic_model(
    network: TopicNetwork,
    folder: Path,
    vocabulary: Sequence[str],
    encoder: str,
    space: TextSpace | None = None,
) -> None:
    """Write a network that :func:`load_topic_model` brings back.

    With the ``space`` of its texts the folder is enough to ask it about other ones. The card is
    written last and marks the folder complete.
    """
    shape = network.shape
    folder.mkdir(parents=True, exist_ok=True)
    values = {"schema": SCHEMA, "kind": KIND, "encoder": encoder, "shape": asdict(shape)}
    if space is not None:
        values |= space.save(folder)
    write_weights(folder, network.state_dict())
    write_text(folder / VOCABULARY, "".join(f"{word}\n" for word in vocabulary))
    beside = _BESIDE if space is not None and space.lsa is not None else ""
    shown = _README.format(topics=shape.topics, words=shape.words, encoder=encoder, beside=beside)
    write_text(folder / "README.md", shown)
    write_text(folder / CARD, json.dumps(values, indent=2) + "\n")


def load_topic_model(folder: Path) -> tuple[TopicNetwork, tuple[str, ...], str]:
    """Return the network in eval mode, its vocabulary, and the name of its text encoder.

    Raises :class:`ModelError` where the folder holds no topic model.
    """
    try:
        values = json.loads((folder / CARD).read_text(encoding="utf-8"))
        words = tuple((folder / VOCABULARY).read_text(encoding="utf-8").splitlines())
        if values["kind"] != KIND or values["schema"] != SCHEMA:
            raise ValueError(f"kind {values['kind']!r}, schema {values['schema']}")
        values["shape"]["hidden"] = tuple(values["shape"]["hidden"])
        network = build_network(TopicShape(**values["shape"]), 0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            expected("folder", str(folder), f"hold a topic model ({error})", "another folder")
        ) from error
    if len(words) != network.shape.words:
        raise ModelError(
            expected("vocabulary.txt", len(words), f"hold {network.shape.words} words", "saving it")
        )
    network.load_state_dict(read_weights(folder))
    network.restrict(network.support.clone())
    return network.eval(), words, str(values["encoder"])


def load_text_space(folder: Path) -> TextSpace:
    """Return how the model of a folder reads texts; raises :class:`ModelError`."""
    card = read_json(folder / CARD)
    return load_space(folder, str(card["encoder"]), card)


def is_topic_model(folder: Path) -> bool:
    """Whether this folder holds a topic model, going by its card alone."""
    try:
        card = read_json(folder / CARD)
    except (OSError, ValueError):
        return False
    return isinstance(card, dict) and card.get("kind") == KIND
