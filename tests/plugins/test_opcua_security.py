"""The OPC UA driver with signing, encryption and users, against real servers that ask for them."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from cryptography.hazmat.primitives.serialization import Encoding

from plugins.api.bench import WallClock
from plugins.api.certificates import CLIENT_CERTIFICATE, CLIENT_KEY, REJECTED, TRUSTED, thumbprint
from plugins.api.driver import DeviceError, DeviceSpec, Reading
from plugins.api.soundness import expect_device_error
from plugins.drivers.opcua.credentials import keep_rejected
from plugins.drivers.opcua.driver import DRIVER, OpcUaDevice
from plugins.drivers.opcua.session import open_session
from plugins.drivers.opcua.simulator import OpcUaSimulator, Protection
from tests.plugins.opcua_bench import ServerThread, node, serving, spec_of
from tests.plugins.opcua_certificates import authority, issued, made
from tests.plugins.opcua_tampering import tampering

USER = made("anna", uri="urn:anna")
CLIENT = made("dinrail", uri="urn:dinrail:test:client")
SPEED = {"all": {"interval": "50ms", "mode": "poll", "tags": {"speed": node("Speed", "float64", writable=True)}}}
HUGE = [float(at % 100) for at in range(150_000)]
"""1.2 MB: longer than a single chunk may be; 0.7 in a frame."""
POLICIES = pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"])
MODES = pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    folder = tmp_path_factory.mktemp("server")
    protection = Protection(*made().write(folder, "server"))
    with serving(OpcUaSimulator(nodes={"Speed": 1.5, "Huge": HUGE}, protection=protection)) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    """A server that knows two users, and listens in clear too."""
    folder = tmp_path_factory.mktemp("guarded")
    der = USER.certificate.public_bytes(Encoding.DER)
    protection = Protection(
        *made().write(folder, "server"),
        users={"anna": "geheim"},
        user_certificates=frozenset({der}),
        clear=True,
    )
    with serving(OpcUaSimulator(nodes={"Speed": 1.5}, protection=protection)) as server:
        yield server


@pytest.fixture(scope="module")
def plain() -> Iterator[ServerThread]:
    with serving(OpcUaSimulator(nodes={"Speed": 1.5})) as server:
        yield server


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with a client's certificate that trusts the server."""
    for folder in (CLIENT_CERTIFICATE.parent, TRUSTED):
        (tmp_path / folder).mkdir(parents=True)
    certificate, key = CLIENT.write(tmp_path / "made", "client")
    shutil.copy(certificate, tmp_path / CLIENT_CERTIFICATE)
    shutil.copy(key, tmp_path / CLIENT_KEY)
    made().write(tmp_path / TRUSTED, "server")
    (tmp_path / TRUSTED / "server.pem").unlink()
    (tmp_path / "anna.password").write_text("geheim\n")
    USER.write(tmp_path, "anna")
    return tmp_path


def spec(server: ServerThread, site: Path, **connection: object) -> DeviceSpec:
    return replace(spec_of(server.simulator.url, SPEED, **{"timeout": "5s", **connection}), folder=site)


def secure(**security: object) -> dict[str, Any]:
    return {"security": {"policy": "Basic256Sha256", **security}}


async def read_once(device_spec: DeviceSpec) -> Reading:
    async with DRIVER.open(device_spec, clock=WallClock()) as device:
        await device.write("speed", 1.5)
        return await device.read("all")


@POLICIES
@MODES
async def test_values_are_read_and_written_with_each_policy_and_mode(
    server: ServerThread, site: Path, policy: str, mode: str
) -> None:
    reading = await read_once(spec(server, site, **secure(policy=policy, mode=mode)))

    assert reading.values == {"speed": 1.5}


@MODES
async def test_an_answer_that_is_longer_than_any_chunk_may_be_is_read_whole(
    server: ServerThread, site: Path, mode: str
) -> None:
    groups = {"all": {"interval": "50ms", "mode": "poll", "tags": {"huge": node("Huge", "array")}}}
    device_spec = spec_of(server.simulator.url, groups, timeout="10s", **secure(mode=mode))
    async with DRIVER.open(replace(device_spec, folder=site), clock=WallClock()) as device:
        reading = await device.read("all")

    assert reading.values == {"huge": HUGE}


async def test_a_channel_is_renewed_with_new_keys_under_encryption(server: ServerThread, site: Path) -> None:
    connection = spec(server, site, **secure()).connection
    async with open_session(connection, folder=site, renew_after=0.1 / 3600) as session:
        tokens = set()
        protocol = session.client.uaclient.protocol
        assert protocol is not None
        while len(tokens) < 3:
            assert len(await session.read([ua.NodeId(ua.Int32(2258))])) == 1
            tokens.add(protocol._connection.security_token.TokenId)


async def test_an_unknown_server_is_refused_with_its_thumbprint_kept_and_can_then_be_trusted(
    server: ServerThread, site: Path
) -> None:
    shutil.rmtree(site / TRUSTED)

    error = await expect_device_error(read_once(spec(server, site, **secure())))

    name = thumbprint(made().certificate)
    (kept,) = (site / "certs/rejected").iterdir()
    assert error.cause == "config"
    assert error.code == ua.StatusCodes.BadCertificateUntrusted
    assert f"dinrail certs trust {name}" in str(error)
    assert str(kept) in str(error)
    (site / TRUSTED).mkdir()
    kept.rename(site / TRUSTED / kept.name)
    assert (await read_once(spec(server, site, **secure()))).values == {"speed": 1.5}


async def test_a_server_is_trusted_by_one_pinned_file(server: ServerThread, site: Path) -> None:
    (site / TRUSTED / "server.der").rename(site / "pinned.der")

    assert (await read_once(spec(server, site, **secure(trust="pinned.der")))).values == {"speed": 1.5}


async def test_a_server_is_trusted_through_its_authority_and_refused_all_the_same_once_its_certificate_has_expired(
    tmp_path: Path, site: Path
) -> None:
    protection = Protection(*issued(authority(), expired=True).write(tmp_path / "issued", "server"))
    authority().write(site / TRUSTED, "authority")
    (site / TRUSTED / "authority.pem").unlink()
    with serving(OpcUaSimulator(nodes={"Speed": 1.5}, protection=protection)) as server:
        error = await expect_device_error(read_once(spec(server, site, **secure())))
        reading = await read_once(spec(server, site, **secure(ignore=["dates"])))

    assert (error.cause, error.code) == ("config", ua.StatusCodes.BadCertificateTimeInvalid)
    assert reading.values == {"speed": 1.5}


async def test_a_policy_that_the_server_lacks_is_told_with_those_it_has(plain: ServerThread, site: Path) -> None:
    error = await expect_device_error(read_once(spec(plain, site, **secure())))

    assert error.cause == "config"
    assert "does not offer Basic256Sha256 with SignAndEncrypt; it offers: None" in str(error)


async def test_a_certificate_of_ours_that_ends_within_a_month_is_remarked_on(server: ServerThread, site: Path) -> None:
    async with DRIVER.open(spec(server, site, **secure()), clock=WallClock()) as device:
        assert isinstance(device, OpcUaDevice)
        (remark,) = device.remarks()

    assert thumbprint(CLIENT.certificate) in remark
    assert f"until {CLIENT.certificate.not_valid_after_utc:%Y-%m-%d}" in remark


async def test_a_missing_certificate_of_our_own_is_told_with_how_to_make_one(server: ServerThread, site: Path) -> None:
    (site / CLIENT_CERTIFICATE).unlink()

    error = await expect_device_error(read_once(spec(server, site, **secure())))

    assert str(site / CLIENT_CERTIFICATE) in str(error)
    assert "dinrail certs" in str(error)


USERS = {
    "by password": {"user": "anna", "password_file": "anna.password"},
    "by certificate": {"user_certificate": "anna.der", "user_key": "anna.pem"},
}


@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes256Sha256RsaPss"])
async def test_a_known_user_comes_in(guarded: ServerThread, site: Path, user: dict[str, str], policy: str) -> None:
    assert (await read_once(spec(guarded, site, **secure(policy=policy), **user))).values == {"speed": 1.5}


@pytest.mark.parametrize("user", [{}, USERS["by password"]])
async def test_whom_the_server_does_not_know_stays_out(guarded: ServerThread, site: Path, user: dict[str, str]) -> None:
    (site / "anna.password").write_text("falsch")

    error = await expect_device_error(read_once(spec(guarded, site, **secure(), **user)))

    assert error.cause == "config"
    assert error.code in {ua.StatusCodes.BadUserAccessDenied, ua.StatusCodes.BadIdentityTokenRejected}
    assert "falsch" not in str(error)


async def test_a_password_is_not_sent_in_clear_unless_the_file_says_so(plain: ServerThread, site: Path) -> None:
    user = USERS["by password"]

    error = await expect_device_error(read_once(spec(plain, site, **user)))

    assert error.cause == "config"
    assert "would be sent in clear" in str(error)
    assert (await read_once(spec(plain, site, clear_password=True, **user))).values == {"speed": 1.5}


async def test_without_security_a_password_goes_only_to_a_server_that_is_trusted(
    guarded: ServerThread, site: Path
) -> None:
    assert (await read_once(spec(guarded, site, **USERS["by password"]))).values == {"speed": 1.5}
    shutil.rmtree(site / TRUSTED)

    error = await expect_device_error(read_once(spec(guarded, site, **USERS["by password"])))

    assert error.code == ua.StatusCodes.BadCertificateUntrusted


async def test_the_certificate_of_a_server_can_be_fetched(server: ServerThread) -> None:
    (shown,) = await DRIVER.certificates(server.simulator.url, timeout_s=5)

    assert shown == made().certificate.public_bytes(Encoding.DER)


async def test_a_server_without_security_has_no_certificate_to_show(plain: ServerThread) -> None:
    with pytest.raises(DeviceError, match="no security"):
        await DRIVER.certificates(plain.simulator.url, timeout_s=5)


async def test_a_server_whose_certificate_was_changed_after_it_was_trusted_is_refused_and_told_apart(
    tmp_path: Path, site: Path
) -> None:
    before = Protection(*made().write(tmp_path / "before", "server"))
    with serving(OpcUaSimulator(nodes={"Speed": 1.5}, protection=before)) as server:
        assert (await read_once(spec(server, site, **secure()))).values == {"speed": 1.5}
        port = server.simulator._port
    other = made("another")
    after = Protection(*other.write(tmp_path / "after", "server"))
    with serving(OpcUaSimulator(nodes={"Speed": 9.5}, port=port, protection=after)) as server:
        error = await expect_device_error(read_once(spec(server, site, **secure())))

    assert error.code == ua.StatusCodes.BadCertificateUntrusted
    assert thumbprint(other.certificate) in str(error)


async def test_a_trusted_certificate_of_another_host_is_refused_until_the_file_says_otherwise(
    tmp_path: Path, site: Path
) -> None:
    elsewhere = made("elsewhere", hosts=("plc.elsewhere",))
    elsewhere.write(site / TRUSTED, "elsewhere")
    (site / TRUSTED / "elsewhere.pem").unlink()
    with serving(
        OpcUaSimulator(nodes={"Speed": 1.5}, protection=Protection(*elsewhere.write(tmp_path / "made", "server")))
    ) as server:
        error = await expect_device_error(read_once(spec(server, site, **secure())))
        reading = await read_once(spec(server, site, **secure(ignore=["host"])))

    assert error.code == ua.StatusCodes.BadCertificateHostNameInvalid
    assert "it is for plc.elsewhere, not for 127.0.0.1" in str(error)
    assert reading.values == {"speed": 1.5}


async def test_one_who_shows_a_trusted_certificate_without_its_key_gets_no_further(tmp_path: Path, site: Path) -> None:
    thief = made("thief")
    with serving(
        OpcUaSimulator(
            nodes={"Speed": 1.5}, protection=Protection(*thief.write(tmp_path / "made", "server"), clear=True)
        )
    ) as server:

        def show_another(response: Any) -> Any:
            for endpoint in response.Endpoints:
                endpoint.ServerCertificate = made().certificate.public_bytes(Encoding.DER)
            return response

        async with tampering(server.simulator.url, {ua.GetEndpointsResponse: show_another}) as wire:
            device_file = replace(spec(server, site, **secure(), **USERS["by password"]))
            there = device_file.connection.model_copy(update={"url": wire.url, "timeout": 1.0})
            await expect_device_error(read_once(replace(device_file, connection=there)))

    assert wire.reads == 0


async def test_a_bad_file_among_the_trusted_certificates_stops_only_those_who_need_them(
    plain: ServerThread, server: ServerThread, site: Path
) -> None:
    (site / TRUSTED / "notes.pem").write_text("ask Anna")

    assert (await read_once(spec(plain, site))).values == {"speed": 1.5}
    error = await expect_device_error(read_once(spec(server, site, **secure())))
    assert "notes.pem" in str(error)


def test_of_refused_certificates_only_so_many_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / REJECTED
    folder.mkdir(parents=True)
    for number in range(150):
        (folder / f"{number}.der").write_bytes(b"x")
        os.utime(folder / f"{number}.der", (number, number))

    told = keep_rejected([made().certificate], tmp_path)

    held = {path.name for path in folder.iterdir()}
    assert "kept as" in told
    assert len(held) == 100
    assert "149.der" in held
    assert "0.der" not in held
