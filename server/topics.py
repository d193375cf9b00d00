"""One seed of a scenario with topic models, from the first question to the result."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedkd.errors import QuorumError, expected
from fedkd.files import read_json, read_rows, write_json, write_text
from fedkd.release import fingerprint
from fedkd.run.folder import RunFolder
from fedkd.run.wire import Scalar
from fedkd.scenario import Scenario
from fedkd.topics.method import TopicMethod, asked, parse_topic_methods
from fedkd.topics.release import TOP
from fedkd.topics.upload import MOST_WORDS as MOST_AGREED
from fedkd.topics.vocabulary import Vocabulary, agree
from server.distil import point_to_main_student
from server.protocol import Terms, deliver, describe, receiver_for
from server.rounds import Rounds, require_quorum
from server.topic_distil import TopicIntake, TopicStudent, TopicWorks
from server.topic_intake import TopicStore
from server.topic_result import TopicOutcome, write_topic_result
from server.topic_talk import TopicTalk


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
