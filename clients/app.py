"""The Flower ClientApp: a handler per message, nothing but releases and figures in reply."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients.party import Party, open_party
from fedkd.errors import FedkdError
from fedkd.release import Release
from fedkd.run.wire import (
    Scalar,
    description_content,
    metrics_content,
    refusal_content,
    release_content,
    request_fields,
)

app = ClientApp()
Handler = Callable[[Party, dict[str, Scalar]], RecordDict]


def party_folder(context: Context) -> Path:
    """Return the folder of the party that this node stands for.

    An operator names it in the node's own configuration (``data-dir``); in a simulation it is the
    party's folder under the run.
    """
    own = context.node_config.get("data-dir")
    if own is not None:
        return Path(str(own))
    index = int(str(context.node_config["partition-id"]))
    return Path(str(context.run_config["run-folder"])) / "parties" / f"{index:04d}"


def guarded(handler: Handler) -> Callable[[Message, Context], Message]:
    """Turn any fault into a refusal whose reason cannot quote private text.

    An error made by this project explains itself; of any other only the type leaves, and the
    traceback stays in the party's own folder.
    """

    @wraps(handler)
    def handle(message: Message, context: Context) -> Message:
        folder = party_folder(context)
        try:
            content = handler(open_party(folder), request_fields(message.content))
        except FedkdError as error:
            content = refusal_content(f"{type(error).__name__}: {error}")
        except Exception as error:  # the boundary: nothing else may cross it
            if folder.is_dir():
                with (folder / "errors.log").open("a", encoding="utf-8") as log:
                    log.write(traceback.format_exc())
            content = refusal_content(f"{type(error).__name__}; see errors.log of this party")
        return Message(content, reply_to=message)

    return handle


@app.query("describe")
@guarded
def describe(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Say who this is and how many private rows it holds."""
    return description_content(party.describe())


@app.train("teacher")
@guarded
def train(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Train the private teacher."""
    return metrics_content(party.train())


@app.query("answer")
@guarded
def answer(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Release label probabilities for a block of the transfer set."""
    rows = (int(fields["start"]), int(fields["stop"]))
    release = party.answer(str(fields["set"]), rows, str(fields["transfer_id"]))
    return _send(party, release, fields)


@app.query("bias")
@guarded
def bias(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Release the bias vector."""
    return _send(party, party.bias(str(fields["transfer_id"])), fields)


@app.evaluate("teacher")
@guarded
def evaluate(party: Party, fields: dict[str, Scalar]) -> RecordDict:
    """Measure the teacher on the party's own test rows."""
    return metrics_content(party.evaluate())


def _send(party: Party, release: Release, fields: dict[str, Scalar]) -> RecordDict:
    request_id = str(fields["request_id"])
    party.record(release, request_id)
    return release_content(release, request_id)
