"""The site's authority and the broker's certificate: what is in them, and when they are made anew."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from plugins.api.certificates import CertificateError, alternative_names, read_certificates
from services.cli.authority import RENEW_DAYS, SERVER_DAYS, make_authority, make_server, vouches_for
from services.cli.broker_certificates import LOCAL_HOSTS, BrokerCertificates, Renewal

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
NEAR_THE_END = NOW + timedelta(days=SERVER_DAYS - RENEW_DAYS + 1)


@pytest.fixture
def files(tmp_path: Path) -> BrokerCertificates:
    return BrokerCertificates(
        authority=tmp_path / "certs/broker/authority.pem",
        authority_key=tmp_path / "secrets/authority.key",
        server=tmp_path / "server.pem",
    )


def keep(files: BrokerCertificates, *hosts: str, now: datetime = NOW, renewal: Renewal = Renewal.DUE) -> list[str]:
    return files.keep(site="plant", hosts=hosts, now=now, renewal=renewal)


def server(files: BrokerCertificates) -> x509.Certificate:
    return read_certificates(files.server)[0]


def test_the_certificate_stands_before_a_strict_judge_for_each_of_its_names(files: BrokerCertificates) -> None:
    keep(files, "box.plant", "192.0.2.5")
    judge = PolicyBuilder().store(Store(read_certificates(files.authority))).time(NOW.replace(tzinfo=None))

    for name in ("localhost", "broker", "box.plant"):
        assert judge.build_server_verifier(x509.DNSName(name)).verify(server(files), [])
    assert {*LOCAL_HOSTS, "box.plant", "192.0.2.5"} <= alternative_names(server(files))[1]


def test_it_is_valid_for_at_most_825_days_and_no_longer_than_its_authority(files: BrokerCertificates) -> None:
    keep(files)
    assert server(files).not_valid_after_utc - server(files).not_valid_before_utc <= timedelta(days=825)

    old = make_authority(site="plant", now=NOW - timedelta(days=7200))
    late = make_server(old, hosts=["localhost"], now=NOW).certificate
    assert late.not_valid_after_utc == old.certificate.not_valid_after_utc


def test_keys_are_for_their_owner_only_and_the_authority_for_everybody(files: BrokerCertificates) -> None:
    keep(files)

    modes = [stat.S_IMODE(path.stat().st_mode) for path in (files.authority_key, files.server, files.authority)]
    assert modes[:2] == [0o600, 0o600]
    assert modes[2] & 0o444
    assert b"PRIVATE" not in files.authority.read_bytes()


def test_again_nothing_is_made(files: BrokerCertificates) -> None:
    assert len(keep(files, "box.plant")) == 2
    assert keep(files) == []
    assert keep(files, "BOX.plant", "0:0::1") == [], "another spelling of the same"


def test_a_further_name_is_added_and_stays_at_each_renewal(files: BrokerCertificates) -> None:
    keep(files)
    assert "it was not for box.plant" in keep(files, "box.plant")[0]

    keep(files, renewal=Renewal.SERVER)

    assert "box.plant" in alternative_names(server(files))[1]


@pytest.mark.parametrize("host", ["", "a b", "*", "box.plant/..", "bo\u200bx", "x" * 300, "box\n"])
def test_a_name_that_cannot_stand_in_a_certificate_is_refused_before_anything_is_made(
    files: BrokerCertificates, host: str
) -> None:
    with pytest.raises(CertificateError, match="host"):
        keep(files, host)

    assert not files.authority.exists()


def test_it_is_renewed_a_month_before_its_end(files: BrokerCertificates) -> None:
    keep(files)
    assert keep(files, now=NEAR_THE_END - timedelta(days=2)) == []

    assert "only" in keep(files, now=NEAR_THE_END)[0]
    assert server(files).not_valid_after_utc > NEAR_THE_END + timedelta(days=SERVER_DAYS - 1)


def test_without_the_authoritys_key_one_that_is_soon_to_end_stays_and_a_renewal_is_refused(
    files: BrokerCertificates,
) -> None:
    keep(files)
    files.authority_key.unlink()
    before = files.server.read_bytes()

    assert keep(files, now=NEAR_THE_END) == []
    with pytest.raises(CertificateError, match="put the right one there"):
        keep(files, renewal=Renewal.SERVER)
    assert files.server.read_bytes() == before


def test_the_key_of_another_authority_signs_nothing(files: BrokerCertificates, tmp_path: Path) -> None:
    keep(files)
    other = BrokerCertificates(
        authority=tmp_path / "o.pem", authority_key=tmp_path / "o.key", server=tmp_path / "o/server.pem"
    )
    (tmp_path / "o").mkdir()
    keep(other)
    files.authority_key.write_bytes(other.authority_key.read_bytes())

    with pytest.raises(CertificateError, match="not the key of"):
        keep(files, "further")


@pytest.mark.parametrize("which", ["authority", "authority_key", "server"])
def test_a_file_that_may_not_be_read_is_not_called_damaged_nor_to_be_replaced(
    files: BrokerCertificates, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    keep(files)
    refused = getattr(files, which)
    read = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path == refused:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(CertificateError) as error:
        keep(files, "further")

    text = str(error.value)
    assert text.startswith(f"{refused}: cannot be read: Permission denied; ")
    assert "init" not in text


@pytest.mark.parametrize(
    ("which", "mend"), [("authority", "put the right one there"), ("server", "remove it, and `dinrail init`")]
)
def test_a_damaged_certificate_is_told_with_what_is_wrong_and_its_mend(
    files: BrokerCertificates, which: str, mend: str
) -> None:
    keep(files)
    getattr(files, which).write_bytes(b"junk")

    with pytest.raises(CertificateError, match=f"{which}.pem: holds no certificate: neither PEM nor DER; {mend}"):
        keep(files)


def test_a_new_authority_signs_a_new_certificate(files: BrokerCertificates) -> None:
    keep(files)
    before = read_certificates(files.authority)[0]

    keep(files, renewal=Renewal.AUTHORITY)

    assert vouches_for(read_certificates(files.authority)[0], server(files))
    assert not vouches_for(before, server(files))


def test_after_a_kill_between_the_authoritys_key_and_its_certificate_init_makes_both(files: BrokerCertificates) -> None:
    keep(files)
    files.authority.unlink()

    keep(files)

    assert vouches_for(read_certificates(files.authority)[0], server(files))
