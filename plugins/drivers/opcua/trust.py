"""Whether a server's certificate is to be believed (OPC 10000-4, 6.1.3). Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from asyncua import ua
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from plugins.api.certificates import alternative_names, common_name

from .config import Check

_KEY_BITS = range(2048, 4096 + 1)
"""RSA keys that the security policies served here allow (OPC 10000-7, 6.6)."""
_DEEPEST = 5


class Distrust(Exception):
    """A certificate is not to be believed; the message says why and what would help.

    code: the status code that OPC 10000-4, 6.1.3 gives for it. unknown: nothing is wrong with it, but nobody said that
    it may be trusted.
    """

    def __init__(self, message: str, *, code: int, unknown: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class TrustList:
    """What the site believes. certificates: of servers and authorities; revoked: lists of withdrawn certificates."""

    certificates: Sequence[x509.Certificate]
    revoked: Sequence[x509.CertificateRevocationList] = ()


def judge(
    chain: Sequence[x509.Certificate],
    *,
    trust: TrustList,
    uri: str,
    host: str,
    ignore: Collection[Check],
    now: datetime,
) -> None:
    """Raises Distrust at the first check that the certificate fails, in the order of the standard's table.

    chain: the server's own certificate, then those of authorities that it sends along. uri: the application that the
    server says it is. host: whom we meant to connect to.
    """
    own = chain[0]
    path = _path(own, chain[1:], trust.certificates)
    trusted = next((place for place, one in enumerate(path) if one in trust.certificates), None)
    judged = path if trusted is None else path[: trusted + 1]
    for certificate in judged:
        _check_algorithms(certificate)
    if trusted is None:
        raise Distrust("nobody has said that it may be trusted", code=_CODES.BadCertificateUntrusted, unknown=True)
    if "dates" not in ignore:
        for certificate in judged:
            _check_dates(certificate, now)
    _check_names(own, uri=uri, host=None if "host" in ignore else host)
    if "usage" not in ignore:
        _check_usage(own)
    # By those above the one that is trusted too: an authority may withdraw what somebody has trusted by itself.
    for certificate, issuer in pairwise(path):
        _check_revoked(certificate, issuer, trust.revoked)


_CODES = ua.StatusCodes


def _path(
    own: x509.Certificate, sent: Sequence[x509.Certificate], known: Sequence[x509.Certificate]
) -> list[x509.Certificate]:
    """The certificate and its authorities, as far as they are known or sent along."""
    path = [own]
    while len(path) < _DEEPEST:
        below = len(path) - 1
        issuer = next((one for one in (*known, *sent) if one not in path and _issued(path[-1], one, below)), None)
        if issuer is None:
            break
        path.append(issuer)
    return path


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, below: int) -> bool:
    """Whether the issuer is an authority, over so many others below, and signed it (RFC 5280, 4.2.1.3 and 4.2.1.9)."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, ValueError, TypeError):
        return False
    deep_enough = constraints.path_length is None or below <= constraints.path_length
    return constraints.ca and deep_enough and _signs_certificates(issuer)


def _signs_certificates(issuer: x509.Certificate) -> bool:
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _check_algorithms(certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    named = common_name(certificate)
    code = _CODES.BadCertificatePolicyCheckFailed
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size not in _KEY_BITS:
        kind = f"RSA with {key.key_size} bits" if isinstance(key, rsa.RSAPublicKey) else type(key).__name__
        raise Distrust(f"the key of {named} is {kind}; the server needs one of RSA with 2048 to 4096 bits", code=code)
    if isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
        name = certificate.signature_hash_algorithm.name
        raise Distrust(
            f"{named} is signed with {name}, which can be forged; the server needs one of SHA-256", code=code
        )


def _check_dates(certificate: x509.Certificate, now: datetime) -> None:
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if since <= now <= until:
        return
    state = f"has expired on {until:%Y-%m-%d}" if now > until else f"is valid only from {since:%Y-%m-%d} on"
    raise Distrust(
        f"{common_name(certificate)} {state}; renew it, set the clocks, or write ignore: [dates]",
        code=_CODES.BadCertificateTimeInvalid,
    )


def _check_names(certificate: x509.Certificate, *, uri: str, host: str | None) -> None:
    uris, hosts = alternative_names(certificate)
    if host is not None and host.lower() not in hosts:
        told = ", ".join(sorted(hosts)) or "no host at all"
        raise Distrust(
            f"it is for {told}, not for {host}; use such a name in the url, or write ignore: [host]",
            code=_CODES.BadCertificateHostNameInvalid,
        )
    if uri not in uris:
        told = ", ".join(sorted(uris)) or "no application"
        raise Distrust(
            f"it is for {told}, but the server says that it is {uri}; the server needs a certificate of its own",
            code=_CODES.BadCertificateUriInvalid,
        )


def _check_usage(certificate: x509.Certificate) -> None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return  # a certificate that names no usage is for all (RFC 5280, 4.2.1.3)
    if not (usage.digital_signature and usage.key_encipherment):
        raise Distrust(
            "its key is not for signing and encrypting; the server needs another, or write ignore: [usage]",
            code=_CODES.BadCertificateUseNotAllowed,
        )


def _check_revoked(
    certificate: x509.Certificate, issuer: x509.Certificate, lists: Sequence[x509.CertificateRevocationList]
) -> None:
    key = issuer.public_key()
    for one in lists:
        ours = one.issuer == issuer.subject and isinstance(key, rsa.RSAPublicKey) and one.is_signature_valid(key)
        if ours and one.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            raise Distrust(
                f"{common_name(issuer)} has withdrawn it; the server needs a new one",
                code=_CODES.BadCertificateRevoked,
            )
