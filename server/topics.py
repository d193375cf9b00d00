"""One seed of a scenario with topic models, from the first question to the result."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedkd.errors import QuorumError, expected
from fedkd.files import read_json, read_rows, write_json, write_text
from fedkd.release import fingerprint
from fedkd.run.folder import RunFolder
from fedkd.run.wire import Scalar, content_release, metrics_figures
from fedkd.scenario import Scenario
from fedkd.topic_scenario import Topics
from fedkd.topics.method import TopicMethod, TopicQuestion, asked, parse_topic_methods
from fedkd.topics.release import TOP, Announced, check_measured, check_trained
from fedkd.topics.upload import MOST_WORDS as MOST_AGREED
from fedkd.topics.vocabulary import Vocabulary, agree
from server.distil import point_to_main_student
from server.intake import FRAMING
from server.protocol import Figures, Terms, ask_each, deliver, describe, receiver_for
from server.rounds import Request, Rounds, require_quorum
from server.topic_distil import TopicIntake, TopicStudent, TopicWorks
from server.topic_intake import Delivery, TopicStore, place_of
from server.topic_result import TopicOutcome, write_topic_result

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


def run_topics(grid: Grid, scenario: Scenario, seed: int, folder: RunFolder) -> None:
    """Ask the parties, distil a student for each method, measure, and write the result."""
    topics = scenario.topics
    if topics is None:
        raise ValueError("no topics")
    methods, run = parse_topic_methods(scenario.method), scenario.run
    labels = tuple(read_json(folder.root / "federation.json")["labels"])
    public = read_rows(folder.public / "transfer.jsonl")["text"]
    test = read_rows(folder.public / "test.jsonl")["text"]
    rounds = Rounds(grid, folder, run.retries, run.deadline, run.backoff)
    quorum = scenario.parties.quorum or scenario.parties.count
    deliver_texts = scenario.data.transfer.delivery == "server"
    terms = Terms(scenario.parties.count, quorum, labels, run.block_rows, None, deliver_texts)
    store = TopicStore(
        folder.intake, fingerprint(public), fingerprint(labels), len(public), run.block_rows
    )
    talk = TopicTalk(rounds, store, topics, quorum)
    students: dict[str, TopicStudent] = {}
    beta: str | None = None
    for round_ in range(topics.rounds):
        with folder.stage("parties"):
            sealed = folder.topics_sealed(round_)
            if not sealed.is_file():
                write_json(
                    sealed,
                    ask_round(talk, terms, methods, (public, test), round_=round_, beta=beta),
                )
            known = read_json(sealed)
            vocabulary = Vocabulary(tuple(known["vocabulary"]))
        answers = TopicIntake(store, vocabulary, round_, known["parties"], asked(methods))
        works = TopicWorks(folder, topics, seed, answers, (public, test))
        for method in methods:
            with folder.stage(f"distil {method.key}"):
                students[method.key] = works.distil(method)
        beta = _encoded(students[methods[0].key].topics)
    outcome = TopicOutcome(folder, methods, works, known["teachers"], students)
    write_topic_result(outcome, scenario.name, seed)
    point_to_main_student(folder, methods[0].key)
    write_text(folder.root / "DONE", "")


def ask_round(
    talk: TopicTalk,
    terms: Terms,
    methods: Sequence[TopicMethod],
    texts: tuple[list[str], list[str]],
    *,
    round_: int,
    beta: str | None,
) -> dict[str, object]:
    """Carry out the talk of one round; return what is to be kept of it.

    A party that fails is left out, with the reason in ``events.jsonl``, while there is a quorum.
    """
    public, test = texts
    rounds, store = talk.rounds, talk.store
    facts = describe(rounds, terms, store.label_id)
    active = sorted(facts)
    if terms.deliver:
        for name, one in (("transfer", public), ("test", test)):
            receiver = receiver_for(rounds.folder, name, terms, one)
            active = deliver(rounds, receiver, name, one, active)
    active = talk.words(active)
    vocabulary = agree_words(talk, facts, active, public)
    trained = talk.train(active, vocabulary, round_, beta)
    whole = list(trained)
    for question in asked(methods):
        answered = talk.answers(trained, vocabulary, round_, question)
        whole = [party for party in whole if party in answered]
    require_quorum("all questions", len(whole), talk.quorum)
    empty = {p: int(f["empty"]) for p, f in trained.items() if f.get("empty")}
    if empty:
        rounds.folder.warn(f"private documents without an agreed word: {empty}")
    return {
        "vocabulary": list(vocabulary.words),
        "vocabulary_id": vocabulary.id,
        "parties": {p: {**trained[p], "rows": int(facts[p]["rows"])} for p in whole},
        "teachers": talk.evaluate(whole, vocabulary, round_),
    }


def agree_words(
    talk: TopicTalk,
    facts: dict[str, dict[str, Scalar]],
    parties: Sequence[str],
    public: Sequence[str],
) -> Vocabulary:
    """Return the vocabulary that the parties' words and the public documents give."""
    asked = talk.topics.vocabulary
    rows = [int(facts[party]["rows"]) for party in parties]
    # A count beyond a party's documents would push everybody's word over the share allowed.
    told = [
        {word: min(count, most) for word, count in (talk.store.told(party) or {}).items()}
        for party, most in zip(parties, rows, strict=True)
    ]
    documents = len(public) + sum(rows)
    vocabulary = agree(
        told,
        public,
        documents=documents,
        how=asked.how,
        least=asked.least,
        most=asked.most,
        size=asked.size,
    )
    for party, words in zip(parties, told, strict=True):
        if not set(vocabulary.words) & set(words):
            talk.rounds.folder.warn(f"{party} tells no word that was agreed on")
    topics, count = talk.topics.student.topics or 20, len(vocabulary.words)
    for wrong, relation, remedy in (
        (count < topics, f"be at least topics={topics}", "fewer topics, or a smaller least"),
        (count < TOP, f"be at least {TOP}, as each topic lists so many", "a smaller least"),
        (count > MOST_AGREED, f"be at most {MOST_AGREED:,}", "topics.vocabulary.size = 20000"),
    ):
        if wrong:
            raise QuorumError(expected("agreed words", count, relation, remedy))
    return vocabulary


def _encoded(beta: NDArray[np.float64]) -> str:
    return base64.b64encode(beta.astype(np.float16).tobytes()).decode()
