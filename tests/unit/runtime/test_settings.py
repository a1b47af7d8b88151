from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from plugins.api.document import DocumentError
from plugins.api.duration import Seconds
from services.runtime.settings import (
    ServiceSettings,
    Settings,
    SettingsSection,
    TlsSettings,
    load_settings,
    read_password,
)


class Store(SettingsSection):
    url: str = "http://127.0.0.1:8086"
    token: SecretStr | None = Field(default=None, min_length=8)
    flush: Seconds = 1.0


class RecorderSettings(ServiceSettings):
    data: Path = Path("data/recorder")
    folders: tuple[Path, ...] = ()
    store: Store = Store()


PLANT = """\
site: plant
broker: {host: broker, port: 18830}
logs:
  level: debug
  format: json
recorder:
  instance: recorder
  http_port: 19102
  store:
    flush: 250ms
gateway:
  instance: gateway
  whatever: belongs to another service
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "dinrail.yaml"
    path.write_text(PLANT)
    return path


def load(path: Path | None, **environ: str) -> Settings[RecorderSettings]:
    return load_settings("recorder", RecorderSettings, path=path, environ={"PATH": "/bin", **environ})


def refusal(path: Path | None, **environ: str) -> str:
    with pytest.raises(DocumentError) as refused:
        load(path, **environ)
    return str(refused.value)


def test_the_file_gives_the_shared_sections_and_the_service_s_own(file: Path) -> None:
    settings = load(file)

    assert (settings.site, settings.broker.host, settings.broker.port) == ("plant", "broker", 18830)
    assert (settings.logs.level, settings.logs.format) == ("debug", "json")
    assert (settings.service.instance, settings.service.http_port) == ("recorder", 19102)
    assert settings.service.store.flush == 0.25


def test_what_is_not_given_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "dinrail.yaml"
    path.write_text("site: plant\nrecorder: {instance: recorder}\n")

    settings = load(path)

    assert (settings.broker.host, settings.broker.port) == ("127.0.0.1", 1883)
    assert settings.service.drain_s == 20


def test_relative_paths_are_set_below_the_file_s_folder(file: Path) -> None:
    settings = load(
        file,
        DINRAIL_RECORDER__FOLDERS="[a, /b]",
        DINRAIL_RECORDER__PASSWORD_FILE="secrets/p",
        DINRAIL_BROKER__TLS__CA_FILE="ca",
    )

    assert settings.service.data == file.parent / "data/recorder"
    assert settings.service.folders == (file.parent / "a", Path("/b"))
    assert settings.service.password_file == file.parent / "secrets/p"
    assert settings.broker.tls == TlsSettings(ca_file=file.parent / "ca")


def test_a_variable_wins_over_the_file(file: Path) -> None:
    settings = load(
        file,
        DINRAIL_SITE="mill",
        DINRAIL_BROKER__PORT="1884",
        DINRAIL_RECORDER__STORE__FLUSH="2s",
        DINRAIL_RECORDER__STORE__URL="http://influx:8086",
    )

    assert (settings.site, settings.broker.port) == ("mill", 1884)
    assert (settings.service.store.flush, settings.service.store.url) == (2.0, "http://influx:8086")
    assert settings.broker.host == "broker"


def test_an_empty_variable_counts_as_not_given(file: Path) -> None:
    assert load(file, DINRAIL_BROKER__HOST="").broker.host == "broker"


def test_a_variable_names_the_file(file: Path) -> None:
    assert load(None, DINRAIL_CONFIG=str(file)).site == "plant"


def test_without_a_file_the_way_to_name_one_is_told() -> None:
    assert refusal(None) == ("settings: no settings file is named\n    mend: give --config PATH or set DINRAIL_CONFIG")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.yaml"

    assert refusal(path).startswith(
        f"{path}: cannot be read: No such file or directory\n    mend: name a site's folder"
    )


def test_a_file_that_is_no_text_is_not_told_to_be_made(tmp_path: Path) -> None:
    (path := tmp_path / "dinrail.yaml").write_bytes(b"site: \xff")

    assert refusal(path) == f"{path}: cannot be read: not UTF-8\n    mend: save it as UTF-8"


@pytest.mark.parametrize(
    ("old", "new", "line", "fault", "mend"),
    [
        ("site: plant", "site: Plant 1", 1, "site: String should match", "use 1 to 63 of a-z"),
        ("port: 18830", "port: 0", 2, "broker.port: Input should be greater", "write 1 or more"),
        ("port: 18830", "prt: 18830", 2, "broker.prt: unknown key", "did you mean 'port'?"),
        ("level: debug", "level: warn", 4, "logs.level: Input should be 'debug'", "did you mean 'warning'?"),
        ("recorder:\n", "recoder:\n", 6, "recoder: unknown key", "did you mean recorder?"),
        ("http_port: 19102", "http_port: x", 8, "recorder.http_port: Input should be a valid integer", "write a whole"),
        ("flush: 250ms", "flush: 250", 10, "recorder.store.flush: a duration needs its unit", "write 250s or 250ms"),
        ("flush: 250ms", "flsh: 1s", 10, "recorder.store.flsh: unknown key", "did you mean 'flush'?"),
        ("  instance: recorder\n", "", 6, "recorder.instance: is missing", "add 'instance'"),
        (
            "  store:\n    flush: 250ms",
            "  store: 5",
            9,
            "recorder.store: Input should be a valid dict",
            "write its fields",
        ),
        ("site: plant", "- site", 2, "not YAML", ""),
        (PLANT, "plant", 1, "not a map of sections", "write site, broker, logs"),
    ],
)
def test_a_fault_names_file_line_field_and_mend(
    file: Path, old: str, new: str, line: int, fault: str, mend: str
) -> None:
    assert old in PLANT
    file.write_text(PLANT.replace(old, new, 1))

    text = refusal(file)

    assert f"{file}:{line}: {fault}" in text
    assert f"mend: {mend}" in text or not mend


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        (
            "DINRAIL_BROKR__PORT",
            "1",
            "DINRAIL_BROKR__PORT: unknown variable\n    mend: did you mean DINRAIL_BROKER__...?",
        ),
        ("DINRAIL_BROKER__PRT", "1", "DINRAIL_BROKER__PRT: broker.prt: unknown key\n    mend: did you mean 'port'?"),
        ("DINRAIL_BROKER__PORT", "x", "DINRAIL_BROKER__PORT: broker.port: Input should be a valid integer"),
        (
            "DINRAIL_RECORDER__STORE__FLUSH",
            "5",
            "DINRAIL_RECORDER__STORE__FLUSH: recorder.store.flush: a duration needs its unit",
        ),
        ("DINRAIL_SITE__X", "1", "DINRAIL_SITE__X: site has no fields\n    mend: remove the variable"),
        (
            "DINRAIL_RECORDER__FOLDERS",
            "[a",
            "DINRAIL_RECORDER__FOLDERS: recorder.folders: Input should be a valid tuple",
        ),
    ],
)
def test_a_fault_in_a_variable_names_the_variable(file: Path, variable: str, value: str, fault: str) -> None:
    assert fault in refusal(file, **{variable: value})


def test_every_fault_is_told_at_once(file: Path) -> None:
    file.write_text(PLANT.replace("site: plant", "site: P").replace("flush: 250ms", "flush: soon"))

    with pytest.raises(DocumentError) as refused:
        load(file, DINRAIL_NONSENSE="1")

    assert [fault.field or fault.source for fault in refused.value.faults] == [
        "site",
        "recorder.store.flush",
        "DINRAIL_NONSENSE",
    ]


def test_another_service_s_variable_is_left_to_it(file: Path) -> None:
    assert load(file, DINRAIL_GATEWAY__ANYTHING="1").site == "plant"


def test_a_secret_is_in_no_fault_and_no_repr(file: Path) -> None:
    settings = load(file, DINRAIL_RECORDER__STORE__TOKEN="tops3cret")
    assert settings.service.store.token
    assert settings.service.store.token.get_secret_value() == "tops3cret"
    assert "tops3cret" not in f"{settings!r} {settings.service.model_dump()}"

    assert "s3cret" not in refusal(file, DINRAIL_RECORDER__STORE__TOKEN="s3cret")
    assert "s3cret" not in refusal(file, DINRAIL_RECORDER__PASSWORD="s3cret")
    file.write_text(PLANT.replace("flush: 250ms", "token: s3cret"))
    assert "s3cret" not in refusal(file)


def test_the_password_is_the_file_s_content_without_its_line_end(file: Path) -> None:
    (file.parent / "p").write_text("pass word \n")

    assert read_password(load(file, DINRAIL_RECORDER__PASSWORD_FILE="p")) == "pass word "


def test_without_a_password_file_there_is_no_password(file: Path) -> None:
    assert read_password(load(file)) is None


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_an_unusable_password_file_is_named_with_the_mend(file: Path, content: bytes | None) -> None:
    path = file.parent / "p"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DocumentError, match="make it with `dinrail init`") as refused:
        read_password(load(file, DINRAIL_RECORDER__PASSWORD_FILE="p"))

    assert str(refused.value).startswith(f"{path}: password_file: ")
