"""Which certificate of a server is believed, and what is told of one that is not."""

from collections.abc import Collection, Sequence
from datetime import timedelta

import pytest
from asyncua import ua
from cryptography import x509

from plugins.drivers.opcua.config import Check
from plugins.drivers.opcua.simulator import SERVER_URI
from plugins.drivers.opcua.trust import Distrust, TrustList, judge
from tests.plugins.opcua_certificates import NOW, Made, authority, issued, made, revocation

HOST = "127.0.0.1"


def judged(
    *chain: Made,
    trusted: Sequence[Made],
    revoked: Sequence[x509.CertificateRevocationList] = (),
    uri: str = SERVER_URI,
    host: str = HOST,
    ignore: Collection[Check] = (),
    days_later: float = 1,
) -> None:
    judge(
        [one.certificate for one in chain],
        trust=TrustList([one.certificate for one in trusted], revoked),
        uri=uri,
        host=host,
        ignore=ignore,
        now=NOW + timedelta(days=days_later),
    )


def test_a_certificate_in_the_trust_list_is_believed() -> None:
    judged(made(), trusted=[made("other"), made()])


def test_one_that_a_trusted_authority_has_signed_is_believed() -> None:
    judged(issued(authority()), trusted=[authority()])


def test_an_authority_that_is_only_sent_along_is_not_trusted() -> None:
    with pytest.raises(Distrust) as refused:
        judged(issued(authority()), authority(), trusted=[made("other")])

    assert refused.value.unknown


def test_a_certificate_in_the_list_is_no_authority() -> None:
    by = made("server")
    with pytest.raises(Distrust):
        judged(issued(by), trusted=[by])


@pytest.mark.parametrize(
    ("chain", "given", "code", "told"),
    [
        (made(), {"trusted": []}, ua.StatusCodes.BadCertificateUntrusted, "nobody has said"),
        (made(), {"trusted": [made("other")]}, ua.StatusCodes.BadCertificateUntrusted, "nobody has said"),
        (made(), {"days_later": 31}, ua.StatusCodes.BadCertificateTimeInvalid, "has expired on"),
        (made(), {"days_later": -2}, ua.StatusCodes.BadCertificateTimeInvalid, "is valid only from"),
        (made(), {"host": "plc-7"}, ua.StatusCodes.BadCertificateHostNameInvalid, "not for plc-7"),
        (made(), {"uri": "urn:somebody"}, ua.StatusCodes.BadCertificateUriInvalid, "says that it is urn:somebody"),
        (
            issued(authority(), name="weak", bits=1024),
            {},
            ua.StatusCodes.BadCertificatePolicyCheckFailed,
            "RSA with 1024 bits",
        ),
        (
            issued(authority()),
            {"trusted": [authority()], "revoked": [revocation(authority(), issued(authority()))]},
            ua.StatusCodes.BadCertificateRevoked,
            "has withdrawn it",
        ),
    ],
)
def test_a_refusal_says_why_in_the_standards_code(chain: Made, given: dict, code: int, told: str) -> None:
    with pytest.raises(Distrust, match=told) as refused:
        judged(chain, **{"trusted": [chain], **given})

    assert refused.value.code == code


@pytest.mark.parametrize(("ignore", "given"), [("dates", {"days_later": 31}), ("host", {"host": "plc-7"})])
def test_what_may_be_ignored_is_ignored_when_asked(ignore: Check, given: dict) -> None:
    judged(made(), trusted=[made()], ignore=[ignore], **given)


def test_a_host_is_known_by_its_name_in_any_case() -> None:
    judged(made(), trusted=[made()], host="LocalHost")


def test_a_certificate_that_is_trusted_by_itself_can_be_withdrawn_by_its_authority_all_the_same() -> None:
    one = issued(authority())
    with pytest.raises(Distrust) as refused:
        judged(one, trusted=[one, authority()], revoked=[revocation(authority(), one)])

    assert refused.value.code == ua.StatusCodes.BadCertificateRevoked


def test_an_authority_vouches_for_no_more_below_it_than_its_certificate_says() -> None:
    root = authority("root", path_length=0)
    between = authority("between", by=root)
    one = issued(between)

    judged(issued(root), trusted=[root])
    with pytest.raises(Distrust) as refused:
        judged(one, between, trusted=[root])

    assert refused.value.unknown


def test_an_authority_whose_key_is_not_for_certificates_is_none() -> None:
    by = authority("not for certificates", signs=False)
    with pytest.raises(Distrust) as refused:
        judged(issued(by), trusted=[by])

    assert refused.value.unknown


def test_a_list_of_another_authority_withdraws_nothing() -> None:
    server = issued(authority())
    judged(server, trusted=[authority()], revoked=[revocation(authority("another"), server)])
