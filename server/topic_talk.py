"""The talk with parties that have topic models: words, training, answers, measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flwr.app import RecordDict

from fedkd.run.wire import Scalar, content_release, metrics_figures
from fedkd.topic_scenario import Topics
from fedkd.topics.method import TopicQuestion
from fedkd.topics.release import Announced, check_measured, check_trained
from fedkd.topics.vocabulary import Vocabulary
from server.intake import FRAMING
from server.protocol import Figures, ask_each
from server.rounds import Request, Rounds, require_quorum
from server.topic_intake import Delivery, TopicStore, place_of

WORD_BYTES = 64
MOST_WORDS = 1_000_000


@dataclass(frozen=True)
class TopicTalk:
    """The talk with the parties: words, training, answers, measures."""

    rounds: Rounds
    store: TopicStore
    topics: Topics
    quorum: int

    def words(self, parties: Sequence[str]) -> list[str]:
        """Ask for the words; return the parties that told theirs."""
        waiting = [party for party in parties if self.store.told(party) is None]

        def accept(request: Request, content: RecordDict) -> None:
            release = content_release(content, request.identifier)
            self.store.accept_words(request.party, release, self._enter(request, content))

        fields: dict[str, Scalar] = {"transfer_id": self.store.transfer_id}
        limit = MOST_WORDS * WORD_BYTES
        requests = [
            Request(p, "query.vocabulary", f"vocabulary/{p}", fields, limit) for p in waiting
        ]
        ask_each(self.rounds, requests, accept, "words of the parties")
        there = [party for party in parties if self.store.told(party) is not None]
        require_quorum("vocabulary", len(there), self.quorum)
        return there

    def train(
        self, parties: Sequence[str], vocabulary: Vocabulary, round_: int, beta: str | None
    ) -> dict[str, Figures]:
        """Have the teachers trained on the agreed words; return each party's figures."""
        fields: dict[str, Scalar] = {
            "vocabulary": "\n".join(vocabulary.words),
            "vocabulary_id": vocabulary.id,
            "round": round_,
        }
        if beta is not None:
            fields["beta"] = beta
        found: dict[str, Figures] = {}

        def accept(request: Request, content: RecordDict) -> None:
            figures = metrics_figures(content)
            check_trained(figures, len(vocabulary.words))
            found[request.party] = figures

        requests = [
            Request(p, "train.topics", f"train/{p}/{vocabulary.id[:12]}/{round_}", fields)
            for p in parties
        ]
        ask_each(self.rounds, requests, accept, "training topic models")
        require_quorum("train", len(found), self.quorum)
        return dict(sorted(found.items()))

    def answers(
        self,
        trained: dict[str, Figures],
        vocabulary: Vocabulary,
        round_: int,
        question: TopicQuestion,
    ) -> list[str]:
        """Ask a question of everybody; return the parties whose answer is whole."""
        place = place_of(round_, question)
        upload = self.topics.upload
        known = {
            party: Announced(
                self.store.transfer_id,
                vocabulary.id,
                len(vocabulary.words),
                int(figures["topics"]),
                None if upload.form == "dense" else upload.keep,
            )
            for party, figures in trained.items()
        }
        shared: dict[str, Scalar] = {
            "transfer_id": self.store.transfer_id,
            "vocabulary_id": vocabulary.id,
            "round": round_,
            "temperature": question.temperature,
            "soft_label": question.soft_label,
        }
        self._ask_parts(known, place, shared)
        whole = [
            party
            for party in sorted(trained)
            if self.store.has_summary(party, place) and not self.store.missing(party, place)
        ]
        require_quorum(f"answers {place}", len(whole), self.quorum)
        return whole

    def _ask_parts(
        self, known: dict[str, Announced], place: str, shared: dict[str, Scalar]
    ) -> None:
        def accept_summary(request: Request, content: RecordDict) -> None:
            release = content_release(content, request.identifier)
            one = Delivery(known[request.party], place, self._enter(request, content))
            self.store.accept_summary(request.party, release, one)

        requests = [
            Request(
                party,
                "query.topics",
                f"topics/{place}/{party}/summary",
                shared | {"part": "summary"},
                FRAMING * 2 + 4 * one.words + 64 * one.topics,
            )
            for party, one in known.items()
            if not self.store.has_summary(party, place)
        ]
        ask_each(self.rounds, requests, accept_summary, "topics of the parties")
        for block in self.store.blocks:
            start, stop = block
            requests = [
                Request(
                    party,
                    "query.topics",
                    f"topics/{place}/{party}/{start}-{stop}",
                    shared | {"part": "rows", "start": start, "stop": stop},
                    self.store.block_bytes(one, (start, stop)),
                )
                for party, one in known.items()
                if (start, stop) in self.store.missing(party, place)
            ]
            title = f"answers for public documents {start}–{stop}"
            ask_each(self.rounds, requests, self._storing(known, place, block), title)

    def _storing(
        self, known: dict[str, Announced], place: str, block: tuple[int, int]
    ) -> Callable[[Request, RecordDict], None]:
        def accept(request: Request, content: RecordDict) -> None:
            release = content_release(content, request.identifier)
            one = Delivery(known[request.party], place, self._enter(request, content))
            self.store.accept_rows(request.party, release, one, block)

        return accept

    def _enter(self, request: Request, content: RecordDict) -> Callable[[], None]:
        return lambda: self.rounds.enter(request, content)

    def evaluate(
        self, parties: Sequence[str], vocabulary: Vocabulary, round_: int
    ) -> dict[str, Figures]:
        """Return how well each teacher predicts held-out documents, as it says."""
        found: dict[str, Figures] = {}

        def accept(request: Request, content: RecordDict) -> None:
            figures = metrics_figures(content)
            check_measured(figures)
            found[request.party] = figures

        fields: dict[str, Scalar] = {"vocabulary_id": vocabulary.id, "round": round_}
        requests = [
            Request(p, "evaluate.topics", f"evaluate/{p}/{round_}", fields) for p in parties
        ]
        ask_each(self.rounds, requests, accept, "measuring topic models")
        return dict(sorted(found.items()))
