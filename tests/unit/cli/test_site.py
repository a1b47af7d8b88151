import stat
from pathlib import Path, PurePosixPath

import pytest
from typer.testing import CliRunner

from contracts.topic import TopicError
from services.cli.broker_config import BrokerConfig, Listener
from services.cli.main import app
from services.cli.site import TREE, Ports, Site, SiteError, make_site, write_broker_files
from services.runtime.settings import BrokerSettings


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make(site: Site, **changes: object) -> list[str]:
    arguments = {"name": "plant", "example": None, "ports": Ports(), **changes}
    made = make_site(site, **arguments)  # type: ignore[arg-type]
    return made + write_broker_files(site, name="plant", broker=BrokerSettings(port=18830))


def test_a_new_site_has_settings_a_password_per_account_and_the_brokers_files(site: Site) -> None:
    make(site)

    assert set(content(site.folder)) == {
        "dinrail.yaml",
        *(f"secrets/{name}.password" for name in ("gateway", "recorder", "orchestrator", "compute", "identity")),
        *(f"secrets/{name}.password" for name in ("viewer", "operator", "engineer", "admin", "health")),
        "secrets/influxdb.password",
        "secrets/influxdb.token",
        "secrets/grafana.admin-password",
        "secrets/authority.key",
        "certs/broker/authority.pem",
        *(f"broker/{name}" for name in ("mosquitto.conf", "acl", "passwords", "server.pem", "lock", "init.lock")),
        "users/users.yaml",
    }


def test_making_a_site_again_changes_nothing(site: Site) -> None:
    make(site)
    before = content(site.folder)

    assert make(site) == []
    assert content(site.folder) == before


def test_what_somebody_has_written_stays(site: Site) -> None:
    site.folder.mkdir()
    site.settings_file.write_text("site: mine\n")
    site.devices.mkdir()
    (site.devices / "mine.yaml").write_text("device: mine\n")

    make(site, example="plant")

    assert site.settings_file.read_text() == "site: mine\n"
    assert [path.name for path in site.devices.iterdir()] == ["mine.yaml"]


def test_secrets_and_the_brokers_files_are_read_by_their_owner_only(site: Site) -> None:
    make(site)

    for folder in ("secrets", "broker"):
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (site.folder / folder).iterdir()}
        assert modes == {0o600}
        assert stat.S_IMODE((site.folder / folder).stat().st_mode) == 0o700


def test_no_password_stands_in_the_brokers_files(site: Site) -> None:
    make(site)

    everything = b"".join(content(site.broker).values())
    assert not [path for path in (site.folder / "secrets").iterdir() if path.read_bytes().strip() in everything]


def test_a_changed_port_reaches_the_brokers_configuration_and_nothing_else(site: Site) -> None:
    make(site)

    changed = write_broker_files(site, name="plant", broker=BrokerSettings(port=2000))

    assert changed == [str(site.broker / "mosquitto.conf")]
    assert "listener 2000 127.0.0.1\n" in (site.broker / "mosquitto.conf").read_text()


def test_a_site_of_an_example_has_its_device_files_with_the_sites_addresses(site: Site) -> None:
    ports = Ports.from_base(21000)

    make(site, example="plant", ports=ports, example_host="machines")

    text = "".join(path.read_text() for path in site.devices.glob("*.yaml"))
    assert f"port: {ports.modbus}" in text
    assert f"opc.tcp://machines:{ports.opcua}" in text
    assert "host: machines" in text
    assert "127.0.0.1" not in text
    assert str(Ports().modbus) not in text
    assert str(Ports().opcua) not in text


@pytest.mark.parametrize("example", ["nothing", "../nothing", "/etc", ""])
def test_an_unknown_example_is_refused_before_anything_is_made(site: Site, example: str) -> None:
    with pytest.raises(SiteError, match="plant"):
        make(site, example=example)

    assert not site.folder.exists()


def test_a_name_that_cannot_stand_in_a_topic_is_refused(site: Site) -> None:
    with pytest.raises(TopicError, match="site"):
        make(site, name="My Plant")


@pytest.mark.parametrize(
    ("name", "content", "mend"),
    [
        ("secrets/gateway.password", b"\xff\xfe", "remove it, and `dinrail init` makes another"),
        ("broker/server.pem", b"junk", "remove it, and `dinrail init` makes another"),
        ("broker/server.pem", b"", "remove it, and `dinrail init` makes another"),
        ("certs/broker/authority.pem", b"junk", "make a new authority with `dinrail init --rotate-authority`"),
    ],
)
def test_a_damaged_file_of_a_site_is_named_with_a_mend_that_works(
    site: Site, name: str, content: bytes, mend: str
) -> None:
    make(site)
    (site.folder / name).write_bytes(content)

    def dinrail(*words: str) -> tuple[int, str]:
        """Exit code, and all that is printed."""
        result = CliRunner(env={"COLUMNS": "300"}).invoke(app, [*words, "--dir", str(site.folder)])
        return result.exit_code, result.output

    for words in (["init"], ["up", "--duration", "0"]):
        code, said = dinrail(*words)
        assert (code, f"{site.folder / name}: " in said, mend in said) == (2, True, True)
    if mend.startswith("remove"):
        (site.folder / name).unlink()
    assert dinrail("init", *(["--rotate-authority"] if "rotate" in mend else []))[0] == 0
    assert "nothing changed" in dinrail("init")[1]


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_first_user_whose_password_is_lost_is_named_with_the_command_that_gives_another(
    site: Site, content: bytes
) -> None:
    make(site)
    site.password("operator").unlink()  # whom nobody needs here
    for name in ("viewer", "admin"):
        site.password(name).write_bytes(content)

    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["init", "--dir", str(site.folder)])

    told = [line for line in result.output.splitlines() if "holds no password" in line]
    assert [line.partition(": ")[0] for line in told] == [str(site.password(name)) for name in ("viewer", "admin")]
    assert "`dinrail users passwd viewer --generate`" in told[0]
    assert "`dinrail --as NAME users passwd admin --generate`" in told[1]
    assert "nothing changed" not in result.output


def test_a_file_is_no_folder_for_a_site(site: Site) -> None:
    site.folder.touch()
    with pytest.raises(SiteError, match="is no folder; name another with --dir"):
        make(site)


def test_the_configuration_for_containers_is_the_generated_one() -> None:
    folder = PurePosixPath("/mosquitto")
    certificate = folder / "site/server.pem"
    config = BrokerConfig(
        listeners=(
            Listener(port=1883, address="broker.bus"),
            Listener(port=8883, certificate=certificate),
            Listener(port=8884, certificate=certificate, websockets=True),
        ),
        data=folder / "data",
        passwords=folder / "site/passwords",
        access=folder / "site/acl",
    )

    assert (TREE / "mosquitto/mosquitto.conf").read_text() == config.text()
