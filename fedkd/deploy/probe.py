"""Looking at an address before Flower does, for an answer that says what is wrong."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from fedkd.deploy.settings import join_address, split_address
from fedkd.errors import DeployError, expected

TIMEOUT = 10.0
_EXPIRED = 10
_NOT_YET_VALID = 9
_WRONG_HOST = {62, 64}


def check_server(address: str, ca: Path) -> None:
    """Open a TLS connection to ``HOST:PORT``, trusting only the authority in ``ca``.

    Raises :class:`DeployError` that tells apart: no such host, nobody answers, no TLS, another
    authority, another host's certificate, an expired certificate.
    """
    host, port = split_address(address)
    context = _context(ca)
    try:
        with (
            socket.create_connection((host, port), TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return
    except ssl.SSLCertVerificationError as error:
        raise DeployError(_distrust(address, error)) from error
    except (ssl.SSLError, ConnectionResetError) as error:
        raise DeployError(
            expected("server", address, "speak TLS", "the SuperLink of superlink.sh and its port")
        ) from error
    except TimeoutError as error:
        raise DeployError(_silent(address, f"within {TIMEOUT:.0f} s")) from error
    except socket.gaierror as error:
        raise DeployError(
            expected("server", address, "be a host that can be found", "another name or address")
        ) from error
    except OSError as error:
        raise DeployError(_silent(address, "(connection refused)")) from error


def check_port_free(host: str, port: int, remedy: str) -> None:
    """Raise :class:`DeployError` where something listens on the port already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise DeployError(
                expected("port", join_address(host, port), "be free", remedy)
            ) from error


def _context(ca: Path) -> ssl.SSLContext:
    if not ca.is_file():
        raise DeployError(
            expected("--ca", str(ca), "be the authority's certificate", "DIR/server/ca.crt")
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise DeployError(
            expected("--ca", str(ca), "be a certificate in PEM form", "DIR/server/ca.crt")
        ) from error
    return context


def _distrust(address: str, error: ssl.SSLCertVerificationError) -> str:
    code = error.verify_code
    if code in (_EXPIRED, _NOT_YET_VALID):
        return expected(
            "certificate of server",
            address,
            f"be valid today ({error.verify_message})",
            "checking the clock; or fedkd deploy init into a new folder, once it has expired",
        )
    if code in _WRONG_HOST:
        return expected(
            "certificate of server",
            address,
            f"be made for this host ({error.verify_message})",
            "the host that was given to fedkd deploy init as --server",
        )
    return expected(
        "certificate of server",
        address,
        f"be signed by this authority ({error.verify_message})",
        "the ca.crt of the same fedkd deploy init as the server",
    )


def _silent(address: str, how: str) -> str:
    return expected(
        "server",
        address,
        f"answer {how}",
        "fedkd deploy status at the server; its port must be open to this machine",
    )
