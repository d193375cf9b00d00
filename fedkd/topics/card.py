"""What a party's operator wrote down about its topic model, in ``topics.json``."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from fedkd.errors import DataError, expected
from fedkd.files import write_text
from fedkd.frozen import Frozen
from fedkd.topic_scenario import TopicFields, Topics, TopicUpload, TopicVocabulary

FILE = "topics.json"


class TopicCard(Frozen):
    """A party's standing facts beside its ``party.json``; the server may not change them."""

    model: TopicFields
    encoder: str
    vocabulary: TopicVocabulary
    upload: TopicUpload

    def write(self, folder: Path) -> None:
        """Write the card into the party's folder."""
        write_text(folder / FILE, self.model_dump_json(indent=1, exclude_none=True) + "\n")


def topic_card(topics: Topics, model: TopicFields) -> TopicCard:
    """Return the card of a party that takes part in a scenario with this model."""
    return TopicCard(
        model=model,
        encoder=topics.encoder,
        vocabulary=topics.vocabulary,
        upload=topics.upload,
    )


def read_topic_card(folder: Path) -> TopicCard:
    """Read the card; raises :class:`DataError` where there is none that is whole."""
    try:
        return TopicCard.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise DataError(
            expected("party", folder.name, f"have a {FILE}", "a scenario with [topics]")
        ) from error
