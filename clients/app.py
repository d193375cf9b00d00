"""The Flower ClientApp: a handler per message, nothing but releases and figures in reply."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients.faults import PartyCrashError, draw_fault, spoil
from clients.gate import gate_of
from clients.party import Party, open_party
from clients.secure import (
    give_shares,
    masked_answer,
    offer_keys,
    refuse_single,
    share_secrets,
)
from fedkd.errors import DataError, FedkdError, expected
from fedkd.fault_scenario import FaultKind
from fedkd.release import Release
from fedkd.run.wire import (
    Scalar,
    description_content,
    metrics_content,
    refusal_content,
    request_fields,
)

if TYPE_CHECKING:
    from clients.topics import TopicParty

app = ClientApp()
Handler = Callable[[Party, dict[str, Scalar]], Release | RecordDict]


def party_folder(context: Context) -> Path:
    """Return the folder of the party that this node stands for.

    An operator names it in the node's own configuration (``data-dir``): below it is a folder for
    each configuration and seed that the party has agreed to. In a simulation it is the party's
    folder under the run. Raises :class:`DataError` for what the party has not agreed to.
    """
    run_folder = str(context.run_config["run-folder"])
    own = context.node_config.get("data-dir")
    if own is not None:
        asked = re.search(r"(?:^|/)([0-9a-f]{12})/([0-9]+)$", run_folder)
        folder = Path(str(own)) / asked[1] / asked[2] if asked else None
        if folder is None or not folder.is_dir():
            agreed = "be one that this party has agreed to"
            raise DataError(expected("run", run_folder, agreed, "its scenario.toml and its seeds"))
        return folder
    index = int(str(context.node_config["partition-id"]))
    return Path(run_folder) / "parties" / f"{index:04d}"


def guarded(handler: Handler) -> Callable[[Message, Context], Message]:
    """Turn any fault into a refusal whose reason cannot quote private text.

    An error made by this project explains itself; of any other only the type leaves, and the
    traceback stays in the party's own folder.
    """

    @wraps(handler)
    def handle(message: Message, context: Context) -> Message:
        folder: Path | None = None
        fields = request_fields(message.content)
        fault: FaultKind | None = None
        try:
            folder = party_folder(context)
            party = open_party(folder)
            refuse_single(party, _stage(message))
            fault = draw_fault(party.card, _fault_stage(message), fields)
            if fault == "crash-before":
                raise PartyCrashError(fault)
            gate, kind = gate_of(party), request_kind(message, fields)
            gate.admit(kind, fields)
            content = gate.let_out(kind, handler(party, fields), fields)
            if fault is not None:
                memory = folder / "last-reply.bin"
                content = spoil(content, fault, party.card.faults.delay, memory)
        except PartyCrashError:
            raise
        except FedkdError as error:
            content = refusal_content(f"{type(error).__name__}: {error}")
        except Exception as error:  # the boundary: nothing else may cross it
            if folder is not None and folder.is_dir():
                with (folder / "errors.log").open("a", encoding="utf-8") as log:
                    log.write(traceback.format_exc())
            content = refusal_content(f"{type(error).__name__}; see errors.log of this party")
        return Message(content, reply_to=message)

    return handle


def _stage(message: Message) -> str:
    category, _, action = message.metadata.message_type.partition(".")
    if action in ("topics", "vocabulary"):
        return "answer" if category == "query" else category
    return category if action == "teacher" else action


def _fault_stage(message: Message) -> str:
    """Return the stage whose faults hit this message; a secure sum is a way of answering."""
    stage = _stage(message)
    return "answer" if stage in ("keys", "shares", "masked", "unmask") else stage


def request_kind(message: Message, fields: dict[str, Scalar]) -> str:
    """Return what a policy calls this request."""
    stage = _stage(message)
    return "measure" if stage in ("answer", "masked") and fields.get("set") == "test" else stage


@app.query("describe")
@guarded
def describe(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Say who this is and how many private rows it holds."""
    return description_content(party.describe())


@app.query("receive")
@guarded
def receive(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Take a block of the public texts that the server sends."""
    return metrics_content(party.receive(fields))


@app.train("teacher")
@guarded
def train(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Train the private teacher."""
    return metrics_content(party.train())


@app.query("answer")
@guarded
def answer(party: Party, fields: dict[str, Scalar]) -> Release:
    """Release label probabilities for a block of the transfer set."""
    rows = (int(fields["start"]), int(fields["stop"]))
    return party.answer(str(fields["set"]), rows, str(fields["transfer_id"]))


@app.query("agree")
@guarded
def agree(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Take a block of the consensus on the labels of the transfer set."""
    return metrics_content(party.agree(fields))


@app.query("further")
@guarded
def further(party: Party, fields: dict[str, Scalar]) -> Release:
    """Release subclasses, scores or embeddings for a block of the transfer set."""
    rows = (int(fields["start"]), int(fields["stop"]))
    return party.further(fields, rows, str(fields["transfer_id"]))


@app.query("bias")
@guarded
def bias(party: Party, fields: dict[str, Scalar]) -> Release:
    """Release the bias vector."""
    return party.bias(str(fields["transfer_id"]))


@app.query("keys")
@guarded
def keys(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Offer fresh public keys for a secure sum."""
    return description_content(offer_keys(party, fields))


@app.query("shares")
@guarded
def shares(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Seal shares of this party's mask for every other one."""
    return description_content(share_secrets(party, fields))


@app.query("masked")
@guarded
def masked(party: Party, fields: dict[str, Scalar]) -> Release:
    """Release weighted label probabilities under masks that vanish in the sum."""
    return masked_answer(party, fields)


@app.query("unmask")
@guarded
def unmask(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Give the shares that open the sum, once."""
    return description_content(give_shares(party, fields))


@app.evaluate("teacher")
@guarded
def evaluate(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Measure the teacher on the party's own test rows."""
    return metrics_content(party.evaluate())


@app.query("vocabulary")
@guarded
def vocabulary(party: Party, fields: dict[str, Scalar]) -> Release:
    """Release the words that enough private documents hold."""
    return _with_topics(party).tell_words(fields)


@app.train("topics")
@guarded
def train_topics(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Train the private topic model on the agreed vocabulary."""
    return metrics_content(_with_topics(party).train(fields))


@app.query("topics")
@guarded
def topics(party: Party, fields: dict[str, Scalar]) -> Release:
    """Release what the topic model says: a summary, or a block of the public documents."""
    own = _with_topics(party)
    return own.summary(fields) if fields["part"] == "summary" else own.answer(fields)


@app.evaluate("topics")
@guarded
def evaluate_topics(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Measure the topic model on held-out documents."""
    return metrics_content(_with_topics(party).evaluate(fields))


def _with_topics(party: Party) -> TopicParty:
    from clients.topics import topic_party  # noqa: PLC0415  # imports the text encoders

    return topic_party(party)
