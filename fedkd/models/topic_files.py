"""A topic model on disk: ``fedkd.json``, the vocabulary, and the numbers as safetensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fedkd.errors import ModelError, expected
from fedkd.files import write_text
from fedkd.models.folder import CARD, SCHEMA, read_weights, write_weights
from fedkd.models.topic_network import TopicNetwork, TopicShape, build_network

KIND = "topics"
VOCABULARY = "vocabulary.txt"
_README = """# Topic model ({topics} topics, {words} words)

Made by [fedkd](https://pypi.org/project/fedkd/). To use it:

```python
from pathlib import Path

from fedkd.models.topic_files import load_topic_model
from fedkd.models.topic_training import Documents, posterior, shares, topic_words

network, vocabulary, encoder = load_topic_model(Path("this folder"))
for scores in topic_words(network):
    print([vocabulary[i] for i in (-scores).argsort()[:10]])
```

`posterior` and `shares` tell the topics of documents, given their bags over `vocabulary.txt` and
their vectors by the encoder `{encoder}`.
"""


def save_topic_model(
    network: TopicNetwork, folder: Path, vocabulary: Sequence[str], encoder: str
) -> None:
    """Write a network that :func:`load_topic_model` brings back."""
    shape = network.shape
    folder.mkdir(parents=True, exist_ok=True)
    values = {"schema": SCHEMA, "kind": KIND, "encoder": encoder, "shape": asdict(shape)}
    write_weights(folder, network.state_dict())
    write_text(folder / VOCABULARY, "".join(f"{word}\n" for word in vocabulary))
    write_text(
        folder / "README.md",
        _README.format(topics=shape.topics, words=shape.words, encoder=encoder),
    )
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
