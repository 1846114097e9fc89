"""`pinyon tls`: a certificate for development, and the authority that signs it, for clients on machines that trust it.

The authority is made once and kept; the certificate is made anew each time. Keys are readable by their owner alone.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import shlex
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pinyon.cli.settings import Failure, read_config, setting_options
from pinyon.config import ConfigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_CA_DAYS = 3650
_DAYS = 397  # the longest that common clients take of a server's certificate
_LOCAL = ("localhost", "127.0.0.1", "::1")


@click.command()
@setting_options("data_dir")
@click.option("--name", "names", multiple=True, metavar="HOST", help="Another name or address of this server.")
def tls(names: tuple[str, ...], **flags: Any) -> None:
    """Make a certificate for development, and say how to use it.

    It is for this machine's name, localhost, and each --name; *.example.org is a name too.
    """
    config = read_config(**flags)
    folder = config.data_path / "tls"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        authority = folder / "ca.pem"
        _make(folder, authority, list(dict.fromkeys((*_LOCAL, socket.gethostname(), *names))))
    except OSError as error:
        raise Failure(f"{folder}: cannot be written ({error.strerror})") from None
    # The variable alone on stdout, so that `eval "$(pinyon tls)"` sets it.
    click.echo(f"export SSL_CERT_FILE={shlex.quote(str(authority))}")
    command = shlex.join(["--tls-cert", str(folder / "server.pem"), "--tls-key", str(folder / "server.key")])
    click.echo(f"# is what a client needs. The server: pinyon serve {command}", err=True)


def _make(folder: Path, authority: Path, names: list[str]) -> None:
    """Writes what there is to write. Raises OSError, ConfigError for a name that cannot be in a certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import ExtendedKeyUsageOID

    ca, ca_key = _authority(authority, folder / "ca.key")
    key = _new_key()
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    made = (
        _unsigned(key, f"pinyon on {socket.gethostname()}"[:64], ca.subject, _DAYS)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = Encoding.PEM
    _write(folder / "server.key", _key_bytes(key))
    _write(folder / "server.pem", made.public_bytes(pem) + ca.public_bytes(pem))


def _authority(path: Path, key_path: Path) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    """The one that is there and can still sign, else a new one. Raises OSError."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

    try:
        there, signer = path.read_bytes(), load_pem_private_key(key_path.read_bytes(), None)
        found = x509.load_pem_x509_certificate(there)
        lasting = found.not_valid_after_utc - datetime.datetime.now(datetime.UTC) > datetime.timedelta(_DAYS)
        if lasting and isinstance(signer, EllipticCurvePrivateKey) and signer.public_key() == found.public_key():
            return found, signer
    except (FileNotFoundError, ValueError):
        pass
    key = _new_key()
    name = _name(f"pinyon development authority on {socket.gethostname()}"[:64])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    made = (
        _unsigned(key, None, name, _CA_DAYS)
        .subject_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(key_path, _key_bytes(key))
    _write(path, made.public_bytes(Encoding.PEM), mode=0o644)
    return made, key


def _unsigned(
    key: EllipticCurvePrivateKey, subject: str | None, issuer: x509.Name, days: int
) -> x509.CertificateBuilder:
    from cryptography import x509

    # An hour back, for clients whose clock is late.
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days))
    )
    return builder if subject is None else builder.subject_name(_name(subject))


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _key_bytes(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(common: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise ConfigError(f"--name: {name!r} is neither a host's name nor an address") from None


def _write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """In one step, and at no time readable by others if `mode` says so."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    part.replace(path)
