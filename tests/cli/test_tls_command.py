"""`pinyon tls`: what it writes, what it keeps, and what it prints."""

from __future__ import annotations

import datetime
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from pinyon.cli import main
from pinyon.http import tls


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["tls", "--data-dir", str(folder), *arguments])


def certificates(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes())


def names_of(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    assert isinstance(found, x509.SubjectAlternativeName)
    return [str(name.value) for name in found]


def test_what_it_prints_and_writes(tmp_path: Path) -> None:
    done = run(tmp_path / "data", "--name", "db.example.org", "--name", "10.1.2.3", "--name", "*.example.org")
    folder = tmp_path / "data" / "tls"
    assert done.stdout == f"export SSL_CERT_FILE={folder / 'ca.pem'}\n"
    assert f"pinyon serve --tls-cert {folder / 'server.pem'} --tls-key {folder / 'server.key'}" in done.stderr
    server, authority = certificates(folder / "server.pem")
    server.verify_directly_issued_by(authority)
    assert [authority] == certificates(folder / "ca.pem")
    names = names_of(server)
    assert {"localhost", "127.0.0.1", "::1", "db.example.org", "10.1.2.3", "*.example.org"} <= set(names)
    assert server.not_valid_after_utc - server.not_valid_before_utc <= datetime.timedelta(398)
    for key in ("ca.key", "server.key"):
        assert stat.S_IMODE((folder / key).stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["ca.key", "ca.pem", "server.key", "server.pem"]
    tls.context(str(folder / "server.pem"), str(folder / "server.key"))


def test_a_path_with_spaces_is_quoted_for_the_shell(tmp_path: Path) -> None:
    done = run(tmp_path / "a b")
    assert done.stdout == f"export SSL_CERT_FILE='{tmp_path / 'a b' / 'tls' / 'ca.pem'}'\n"


def test_the_authority_is_kept_and_the_certificate_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    assert run(tmp_path).exit_code == 0
    authority, server = (folder / "ca.pem").read_bytes(), (folder / "server.pem").read_bytes()
    assert run(tmp_path).exit_code == 0
    assert (folder / "ca.pem").read_bytes() == authority
    assert (folder / "server.pem").read_bytes() != server
    # one that lacks its key, or is another's, or is none, is made anew
    for spoil in (lambda: (folder / "ca.key").unlink(), lambda: (folder / "ca.pem").write_bytes(b"none"),
                  lambda: (folder / "ca.key").write_bytes((folder / "server.key").read_bytes())):  # fmt: skip
        spoil()
        assert run(tmp_path).exit_code == 0
        made, issuer = certificates(folder / "server.pem")
        made.verify_directly_issued_by(issuer)
        assert [issuer] == certificates(folder / "ca.pem")


@pytest.mark.parametrize("name", ["é.example.org", "日本"])
def test_a_name_that_no_certificate_can_have(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, "--name", name)
    assert (done.exit_code, done.stderr) == (2, f"pinyon: --name: {name!r} is neither a host's name nor an address\n")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "tls").write_text("")
    done = run(tmp_path)
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr


def test_serve_wants_both_and_readable_ones(tmp_path: Path) -> None:
    def serve(*arguments: str) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PINYON_")}
        done = CliRunner().invoke(
            main, ["serve", "--port", "0", "--data-dir", str(tmp_path), *arguments], env=environment
        )
        assert done.exit_code == 2
        return done.stderr

    assert serve("--tls-cert", "a") == "pinyon: tls_key: is needed beside tls_cert\n"
    assert serve("--tls-key", "a") == "pinyon: tls_cert: is needed beside tls_key\n"
    missing = str(tmp_path / "nothing")
    assert "No such file" in serve("--tls-cert", missing, "--tls-key", missing)
    garbage = tmp_path / "garbage"
    garbage.write_text("garbage")
    assert "tls_cert, tls_key: cannot be used" in serve("--tls-cert", str(garbage), "--tls-key", str(garbage))
