"""What an operator writes down: ``server.toml`` and ``party.toml``."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from fedkd.errors import DeployError, expected
from fedkd.frozen import Frozen
from fedkd.scenario import Model
from fedkd.topic_scenario import TopicFields

Port = Annotated[int, Field(ge=1, le=65535)]
PARTY_NAME = r"[A-Za-z0-9][A-Za-z0-9_.+-]*"
PartyName = Annotated[str, Field(pattern=f"^{PARTY_NAME}$")]
SERVER_FILE = "server.toml"
PARTY_FILE = "party.toml"
Settings = TypeVar("Settings", bound=Frozen)


class ServerSettings(Frozen):
    """The server of a deployment."""

    host: str = Field(description="name or address by which the parties reach the server")
    port: Port = 8443
    parties: tuple[PartyName, ...] = Field(min_length=1)
    flower: str | None = Field(None, description="release of Flower that all machines need")

    @property
    def shell(self) -> dict[str, str]:
        """What ``superlink.sh`` takes from here: a server for this machine only stays on it."""
        loopback = "::1" if ":" in self.host else "127.0.0.1"
        everywhere = "::" if ":" in self.host else "0.0.0.0"
        local = self.host in ("localhost", loopback)
        return {
            "bind": loopback if local else everywhere,
            "port": str(self.port),
            "executor": join_address(loopback, self.port),
        }


class PartyData(Frozen):
    """Where a party's private rows lie; paths are relative to the party's folder."""

    path: str = Field("", description="csv, jsonl or parquet file with the private rows")
    text: str = "text"
    label: str = "label"
    test: str | None = Field(None, description="file with rows that only measure the teacher")


class PartySettings(Frozen):
    """One party of a deployment."""

    name: PartyName
    server: str = Field(description="HOST:PORT")
    port: Port = Field(9094, description="port that the node uses on its own machine only")
    flower: str | None = Field(None, description="release of Flower that all machines need")
    data: PartyData = PartyData()
    teacher: Model = Model()
    topics: TopicFields | None = Field(None, description="topic model, in place of the teacher")

    @property
    def shell(self) -> dict[str, str]:
        """What ``supernode.sh`` takes from here."""
        return {"server": join_address(*split_address(self.server)), "port": str(self.port)}


def read_server(folder: Path) -> ServerSettings:
    """Read ``server.toml``; raises :class:`DeployError` naming file, key and remedy."""
    return _read(folder / SERVER_FILE, ServerSettings)


def read_party(folder: Path) -> PartySettings:
    """Read ``party.toml``; raises :class:`DeployError` naming file, key and remedy."""
    return _read(folder / PARTY_FILE, PartySettings)


def flower_release() -> str:
    """Return the release of Flower that is installed here, such as ``1.41``."""
    return ".".join(metadata.version("flwr").split(".")[:2])


def check_flower(settings: ServerSettings | PartySettings) -> None:
    """Raise :class:`DeployError` where this machine has another Flower than the deployment."""
    if settings.flower not in (None, flower_release()):
        raise DeployError(
            expected(
                "release of Flower on this machine",
                flower_release(),
                f"equal {settings.flower}, as on the other machines",
                f"pip install 'flwr=={settings.flower}.*', or `flower` in the settings of all",
            )
        )


def check_table(settings: PartySettings, *, topics: bool) -> None:
    """Raise :class:`DeployError` where ``party.toml`` describes a model of the other kind."""
    wrong, right = ("teacher", "topics") if topics else ("topics", "teacher")
    if wrong in settings.model_fields_set:
        raise DeployError(
            expected("table of party.toml", f"[{wrong}]", f"be [{right}] for this scenario",
                     "the keys that `fedkd check --schema` lists")
        )  # fmt: skip


def is_server(folder: Path) -> bool:
    """Whether a folder is the server's (True) or a party's (False); else :class:`DeployError`."""
    if (folder / SERVER_FILE).is_file():
        return True
    if (folder / PARTY_FILE).is_file():
        return False
    raise DeployError(
        expected(
            "folder",
            str(folder),
            f"hold {SERVER_FILE} or {PARTY_FILE}",
            "the folder 'server' or one below 'parties' that `fedkd deploy init` has made",
        )
    )


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT`` or ``[IPV6]:PORT``; raises :class:`DeployError`."""
    match = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\]:(\d+)|([A-Za-z0-9._-]+):(\d+)", address)
    port = int(match[2] or match[4]) if match else 0
    if match is None or not 0 < port < 65536:
        raise DeployError(expected("server", address, "read HOST:PORT", "localhost:8443"))
    return match[1] or match[3], port


def join_address(host: str, port: int) -> str:
    """Return ``HOST:PORT``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _read(file: Path, kind: type[Settings]) -> Settings:
    try:
        return kind(**tomllib.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise DeployError(expected("settings", str(file), "exist", "fedkd deploy init")) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeployError(f"Expected {file} to be TOML: {error}. Try mending that line.") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"])
        raise DeployError(
            f"{file}: Expected {key}={first.get('input')!r} to be valid: {message}. "
            "Try the file that `fedkd deploy init` writes."
        ) from error
