"""A Flower app that answers with what it was asked: the least that a party can do."""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query("echo")
def echo(message: Message, context: Context) -> Message:
    return Message(message.content, reply_to=message)
