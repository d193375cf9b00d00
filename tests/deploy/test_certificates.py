"""What a machine believes: its own authority, the right host, today; and nothing else."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from fedkd.deploy.certificates import make_authority, make_node_key, make_server_certificate
from fedkd.deploy.probe import check_port_free, check_server
from fedkd.errors import DeployError


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@contextmanager
def listening(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on loopback that treats every connection with ``handle``; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    handle(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@contextmanager
def tls_server(folder: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")

    def handle(connection: socket.socket) -> None:
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:
            return

    with listening(handle) as port:
        yield port


def test_server_certificate_verifies_for_its_host_alone(made: Path) -> None:
    leaf = certificate(made / "server" / "server.crt")
    store = Store([certificate(made / "server" / "ca.crt")])
    verifier = PolicyBuilder().store(store).time(datetime.now(UTC))
    for host in ("fedkd.example.org", "localhost"):
        chain = verifier.build_server_verifier(x509.DNSName(host)).verify(leaf, [])
        assert chain[0] == leaf
    with pytest.raises(VerificationError):
        verifier.build_server_verifier(x509.DNSName("example.org")).verify(leaf, [])


def test_authority_signs_servers_and_no_authorities(made: Path) -> None:
    ca = certificate(made / "authority" / "ca.crt")
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert isinstance(ca.public_key(), ec.EllipticCurvePublicKey)
    assert ca.public_key().curve.name == "secp384r1"
    certificate(made / "server" / "server.crt").verify_directly_issued_by(ca)


def test_address_as_host(tmp_path: Path) -> None:
    make_server_certificate(tmp_path, make_authority(tmp_path), ["192.0.2.7"])
    names = certificate(tmp_path / "server.crt").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert "192.0.2.7" in [str(a) for a in names.value.get_values_for_type(x509.IPAddress)]


def test_node_key_is_a_nist_key_and_private(tmp_path: Path) -> None:
    line = make_node_key(tmp_path / "node.key", "food")
    assert stat.S_IMODE((tmp_path / "node.key").stat().st_mode) == 0o600
    secret = serialization.load_ssh_private_key((tmp_path / "node.key").read_bytes(), None)
    public = serialization.load_ssh_public_key(line)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp384r1"
    assert secret.public_key() == public


def test_key_is_never_replaced(tmp_path: Path) -> None:
    make_node_key(tmp_path / "node.key", "food")
    before = (tmp_path / "node.key").read_bytes()
    with pytest.raises(FileExistsError):
        make_node_key(tmp_path / "node.key", "food")
    assert (tmp_path / "node.key").read_bytes() == before


def test_right_server_is_believed(tmp_path: Path) -> None:
    make_server_certificate(tmp_path, make_authority(tmp_path), ["localhost"])
    with tls_server(tmp_path) as port:
        check_server(f"127.0.0.1:{port}", tmp_path / "ca.crt")


@pytest.mark.parametrize(
    ("days", "names", "own_ca", "told"),
    [
        (30, [], False, "signed by this authority"),
        (-1, [], True, "valid today"),
    ],
)
def test_wrong_certificates_are_told_apart(
    tmp_path: Path, days: int, names: list[str], own_ca: bool, told: str
) -> None:
    make_server_certificate(tmp_path, make_authority(tmp_path), names, days)
    ca = tmp_path / "ca.crt"
    if not own_ca:
        (tmp_path / "other").mkdir()
        make_authority(tmp_path / "other")
        ca = tmp_path / "other" / "ca.crt"
    with tls_server(tmp_path) as port, pytest.raises(DeployError, match=told):
        check_server(f"127.0.0.1:{port}", ca)


def test_certificate_of_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedkd.deploy.certificates.LOOPBACK", ())
    make_server_certificate(tmp_path, make_authority(tmp_path), ["elsewhere.example.org"])
    with tls_server(tmp_path) as port:
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(DeployError, match="made for this host"):
                check_server(f"{host}:{port}", tmp_path / "ca.crt")


def test_no_tls_nobody_and_no_such_host(tmp_path: Path) -> None:
    make_authority(tmp_path)
    ca = tmp_path / "ca.crt"

    def plain(connection: socket.socket) -> None:
        connection.recv(64)
        connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    with listening(plain) as port, pytest.raises(DeployError, match="speak TLS"):
        check_server(f"127.0.0.1:{port}", ca)
    with pytest.raises(DeployError, match="connection refused"):
        check_server(f"127.0.0.1:{port}", ca)
    with pytest.raises(DeployError, match="be a host that can be found"):
        check_server("nowhere.invalid:8443", ca)


@pytest.mark.parametrize("address", ["localhost", "localhost:0", "localhost:x", "http://a:1", ""])
def test_bad_addresses(address: str, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="read HOST:PORT"):
        check_server(address, tmp_path / "ca.crt")


def test_missing_and_garbled_authority(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="be the authority's certificate"):
        check_server("localhost:1", tmp_path / "ca.crt")
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(DeployError, match="PEM form"):
        check_server("localhost:1", tmp_path / "ca.crt")


def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(DeployError, match=f"127.0.0.1:{port}.*be free"):
            check_port_free("127.0.0.1", port, "another one")
    check_port_free("127.0.0.1", port, "another one")
