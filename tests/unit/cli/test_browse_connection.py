"""The connection that `dinrail browse` writes into a device file, from what it was given."""

from pathlib import Path

from services.cli.browse import connection_fields

URL = "opc.tcp://127.0.0.1:4840"


def test_what_was_not_given_does_not_stand_in_the_connection():
    bare = connection_fields(url=URL, security={"policy": None, "ignore": None}, user=None, clear_password=False)

    assert bare == {"url": URL}


def test_paths_stand_as_texts_and_security_under_its_own_key():
    fields = connection_fields(
        url=URL, security={"mode": "Sign", "trust": Path("pki/plc.der"), "ignore": ["host"]}, user_key=Path("me.pem")
    )

    assert fields == {
        "url": URL,
        "security": {"mode": "Sign", "trust": "pki/plc.der", "ignore": ["host"]},
        "user_key": "me.pem",
    }
