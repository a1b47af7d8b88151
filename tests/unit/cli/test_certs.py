"""`dinrail certs`: our own certificate, and whom we trust."""

import re
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plugins.api.certificates import (
    CLIENT_CERTIFICATE,
    CLIENT_KEY,
    REJECTED,
    TRUSTED,
    alternative_names,
    keep_certificate,
    read_certificates,
    read_key,
    thumbprint,
)
from services.cli.main import app
from tests.plugins.opcua_certificates import made


def certs(*arguments: str | Path, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["certs", *map(str, arguments)], input=answer)


def test_a_certificate_is_made_whose_key_only_its_owner_may_read(tmp_path: Path) -> None:
    result = certs("create", "--dir", tmp_path, "--uri", "urn:plant:box", "--host", "box", "--host", "192.0.2.7")

    assert result.exit_code == 0, result.output
    (certificate,) = read_certificates(tmp_path / CLIENT_CERTIFICATE)
    assert read_key(tmp_path / CLIENT_KEY).public_key() == certificate.public_key()
    assert stat.S_IMODE((tmp_path / CLIENT_KEY).stat().st_mode) == 0o600
    assert alternative_names(certificate) == ({"urn:plant:box"}, {"box", "192.0.2.7"})
    assert thumbprint(certificate) in result.output


def test_a_certificate_that_is_there_is_replaced_only_when_that_is_meant(tmp_path: Path) -> None:
    certs("create", "--dir", tmp_path)
    before = (tmp_path / CLIENT_CERTIFICATE).read_bytes()

    refused = certs("create", "--dir", tmp_path)

    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert (tmp_path / CLIENT_CERTIFICATE).read_bytes() == before
    assert certs("create", "--dir", tmp_path, "--force").exit_code == 0
    assert (tmp_path / CLIENT_CERTIFICATE).read_bytes() != before


def test_a_refused_certificate_is_trusted_by_its_thumbprint(tmp_path: Path) -> None:
    server = made().certificate
    keep_certificate(server, tmp_path / REJECTED)

    result = certs("trust", thumbprint(server).lower(), "--dir", tmp_path, "--yes")

    assert result.exit_code == 0, result.output
    assert [read_certificates(path) for path in (tmp_path / TRUSTED).iterdir()] == [[server]]
    assert list((tmp_path / REJECTED).iterdir()) == []


def test_a_file_is_trusted_once_somebody_has_said_yes(tmp_path: Path) -> None:
    path, _ = made().write(tmp_path, "server")

    no = certs("trust", path, "--dir", tmp_path, answer="n\n")
    yes = certs("trust", path, "--dir", tmp_path, answer="y\n")

    assert no.exit_code == 1
    assert yes.exit_code == 0
    assert "thumbprint:  " + thumbprint(made().certificate) in no.output
    assert len(list((tmp_path / TRUSTED).iterdir())) == 1


def test_what_is_no_certificate_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")

    for what in (tmp_path / "notes.txt", "nowhere.der"):
        result = certs("trust", what, "--dir", tmp_path)
        assert result.exit_code == 2
        assert str(what) in result.output


def test_the_list_shows_each_with_thumbprint_and_end(tmp_path: Path) -> None:
    keep_certificate(made().certificate, tmp_path / TRUSTED)
    keep_certificate(made("old", born_days=-60).certificate, tmp_path / REJECTED)

    result = certs("list", "--dir", tmp_path)

    _, own, trusted, refused = re.split("own:|trusted:|refused:", result.output)
    assert "make it with `dinrail certs create`" in own
    assert thumbprint(made().certificate) in trusted
    assert thumbprint(made("old", born_days=-60).certificate) in refused
    assert "EXPIRED" in refused


def test_a_certificate_is_made_whatever_machine_and_folder_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "x" * 63)

    result = certs("create", "--dir", tmp_path / "Straße 1 \u2603")

    assert result.exit_code == 0, result.output
    (certificate,) = read_certificates(tmp_path / "Straße 1 \u2603" / CLIENT_CERTIFICATE)
    (uri,), hosts = alternative_names(certificate)
    assert uri.isascii()
    assert hosts == {"x" * 63}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "müller plc"], "'müller plc' is no host; write"),
        (["--uri", "my plant"], "'my plant' is no URI; write"),
        (["--name", "x" * 70], "1 to 64"),
        (["--name", ""], "1 to 64"),
    ],
)
def test_what_cannot_stand_in_a_certificate_is_told_and_nothing_made(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    result = certs("create", "--dir", tmp_path, *arguments)

    assert result.exit_code == 2
    assert told in result.output
    assert not (tmp_path / CLIENT_KEY).exists()


@pytest.mark.parametrize("url", ["opc.tcp://", "opc.tcp://plc:99999", "opc.tcp://anna@plc:4840"])
def test_an_address_that_is_none_is_told_in_a_line(tmp_path: Path, url: str) -> None:
    result = certs("trust", url, "--dir", tmp_path)

    assert result.exit_code == 2
    assert "; write " in result.output
    assert len(result.output.splitlines()) == 1
