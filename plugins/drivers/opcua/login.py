"""From a socket to a session: the server's certificate is judged before anything secret is sent."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asyncua import Client, ua
from asyncua.crypto import security_policies
from asyncua.ua.uaerrors import UaStatusCodeError
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from plugins.api.certificates import alternative_names, parse_certificates, thumbprint
from plugins.api.driver import DeviceError

from .answers import device_errors, within
from .chunks import CHUNK_BYTES, MESSAGE_BYTES, refuse_long_chunks
from .config import Connection, Security
from .credentials import Credentials, keep_rejected, read_credentials
from .trust import Distrust, judge

_POLICIES: Mapping[str, type[security_policies.SecurityPolicy]] = {
    "None": security_policies.SecurityPolicyNone,
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128Sha256RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256Sha256RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
_MODES: Mapping[str, ua.MessageSecurityMode] = {
    "Sign": ua.MessageSecurityMode.Sign,
    "SignAndEncrypt": ua.MessageSecurityMode.SignAndEncrypt,
}
_NAMES = {policy.URI: name for name, policy in _POLICIES.items()}
_CLEAR = security_policies.SecurityPolicyNone.URI
_APPLICATION = "urn:dinrail:client"
_SMALLEST_CHUNK, _USUAL_CHUNK = 1024, 65_536
"""Bytes of a chunk that each side must take (OPC 10000-6, 7.1.2.3), and that most servers send."""
_SOON = timedelta(days=30)
_FULL = frozenset({ua.StatusCodes.BadTooManySessions, ua.StatusCodes.BadMaxConnectionsReached})
_REFUSED = "it refuses the user: look at user and password_file, and at its own users"
_MENDS: Mapping[int, str] = {
    ua.StatusCodes.BadTooManySessions: "it has no session left: close other clients, or raise its limit; what a client "
    "that died has left ends by itself, within an hour at most",
    ua.StatusCodes.BadMaxConnectionsReached: "it takes no further connection: close other clients, or raise its limit",
    ua.StatusCodes.BadUserAccessDenied: _REFUSED,
    ua.StatusCodes.BadIdentityTokenRejected: _REFUSED,
    ua.StatusCodes.BadIdentityTokenInvalid: "it does not take such a user: try user with password_file, or without any",
    ua.StatusCodes.BadCertificateUntrusted: "it does not trust our certificate",
    ua.StatusCodes.BadCertificateUriInvalid: "it refuses our certificate: make one with `dinrail certs create`",
    ua.StatusCodes.BadCertificateTimeInvalid: "to it our certificate has expired or is not valid yet: look at its "
    "clock, or make another with `dinrail certs create --force`; it has got the certificate",
    ua.StatusCodes.BadSecurityChecksFailed: "it does not trust our certificate",
}


class LoginClient(Client):
    """asyncua's client that chooses the user's token policy by how well it hides a password.

    request_bytes: the largest request that the server takes, 0 without limit.
    """

    request_bytes = 0

    async def send_hello(self) -> None:
        """As asyncua does, but takes the server's answer for what it is: limits of what we send.

        asyncua holds them against what the server sends too, and so breaks off where that may be larger. Source: OPC
        10000-6, 7.1.2.4.
        """
        told = await self.uaclient.send_hello(self.server_url.geturl(), self.max_messagesize, self.max_chunkcount)
        chunk = max(told.ReceiveBufferSize, _SMALLEST_CHUNK)
        self.request_bytes = min(
            (size for size in (told.MaxMessageSize, told.MaxChunkCount * chunk) if size), default=0
        )
        if self.uaclient.protocol is not None:
            limits = self.uaclient.protocol._connection._limits  # noqa: SLF001  asyncua has no other way to them
            limits.max_send_buffer = chunk
            limits.max_recv_buffer = min(max(told.SendBufferSize, _USUAL_CHUNK), CHUNK_BYTES)
            limits.max_message_size, limits.max_chunk_count = MESSAGE_BYTES, MESSAGE_BYTES // _SMALLEST_CHUNK

    def server_policy(self, token_type: ua.UserTokenType) -> ua.UserTokenPolicy:
        """The best policy of the endpoint for such a user; one without a URI means the endpoint's own.

        Raises DeviceError, cause config, if the endpoint takes no such user. Source: OPC 10000-4, 7.42.
        """
        offered = [policy for policy in self._policy_ids if policy.TokenType == token_type]
        if not offered:
            takes = ", ".join(sorted({policy.TokenType.name for policy in self._policy_ids})) or "nobody"
            raise DeviceError(f"the server takes no user by {token_type.name} here, only: {takes}", cause="config")
        for policy in offered:
            policy.SecurityPolicyUri = policy.SecurityPolicyUri or self.security_policy.URI
        known = [policy for policy in offered if policy.SecurityPolicyUri in _NAMES]
        return next((policy for policy in known if policy.SecurityPolicyUri != _CLEAR), (known or offered)[0])

    @property
    def server_certificate(self) -> bytes | None:
        """DER of the certificate that the session was created with; None if the server has none."""
        return self.security_policy.peer_certificate or None


async def log_in(client: LoginClient, connection: Connection, folder: Path) -> Sequence[str]:
    """Opens socket, channel and session (OPC 10000-4, 5.5.2, 5.6.2 and 5.6.3); returns what is worth a remark.

    Not by Client.connect(): the tasks that it leaves behind forget monitored items whose node is missing when the
    server comes back, and where a broken connection and the cancellation meet they live on for ever.
    folder: where relative paths begin. Raises DeviceError, and what asyncua and the socket raise.
    """
    credentials = await asyncio.to_thread(read_credentials, connection, folder)
    client.application_uri = _application_uri(credentials)
    security = connection.security
    if security.secured:
        endpoint = _chosen(await endpoints(connection), security, connection.url)
        await _believe(endpoint.ServerCertificate, endpoint.Server.ApplicationUri, connection, credentials, folder)
        _secure(client, security, credentials, endpoint.ServerCertificate)
    try:
        await client.connect_socket()
        await client.send_hello()
        await client.open_secure_channel()
        created = await client.create_session()
        await _identify(client, connection, credentials, folder, created)
        await client.activate_session(
            connection.user, credentials.password, credentials.user.certificate if credentials.user else None
        )
    except InvalidSignature as error:
        raise DeviceError(f"{connection.url}: the server cannot prove that its certificate is its own") from error
    except UaStatusCodeError as error:
        mend = _MENDS.get(error.code)
        if mend is None:
            raise
        ours = f" {thumbprint(credentials.own.certificate)}" if credentials.own and "certificate" in mend else ""
        cause = "device" if error.code in _FULL else "config"
        raise DeviceError(f"{connection.url}: {error}: {mend}{ours}", cause=cause, code=error.code) from error
    return _expiring(credentials, datetime.now(UTC))


def _expiring(credentials: Credentials, now: datetime) -> Sequence[str]:
    """Our certificates that end soon: the connection will then be refused, by the servers or by ourselves."""
    ours = [pair.certificate for pair in (credentials.own, credentials.user) if pair is not None]
    return [
        f"our certificate {thumbprint(one)} is valid until {one.not_valid_after_utc:%Y-%m-%d}; make another "
        "(`dinrail certs create --force`) and let the servers trust it"
        for one in ours
        if one.not_valid_after_utc - now < _SOON
    ]


async def endpoints(connection: Connection) -> Sequence[ua.EndpointDescription]:
    """What the server offers, asked without security, as every server must answer (OPC 10000-4, 5.4.4)."""
    client = LoginClient(connection.url, timeout=connection.timeout)
    refuse_long_chunks(client)
    try:
        async with within(connection.timeout):
            return await client.connect_and_get_server_endpoints()
    finally:
        protocol = client.uaclient.protocol
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()


async def server_certificates(url: str, *, timeout_s: float) -> Sequence[bytes]:
    """The certificates that a server shows to whoever asks, its own first, in DER. Raises DeviceError."""
    try:
        connection = Connection.model_validate({"url": url}).model_copy(update={"timeout": timeout_s})
    except ValidationError as error:
        told = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise DeviceError(told, cause="config") from None
    with device_errors(url):
        offered = await endpoints(connection)
    shown = [one.ServerCertificate for one in offered if one.ServerCertificate]
    if not shown:
        raise DeviceError(f"{url} shows no certificate: it offers no security", cause="config")
    try:
        return [one.public_bytes(Encoding.DER) for one in parse_certificates(shown[0])]
    except ValueError as error:
        raise DeviceError(f"{url}: the server's certificate cannot be read: {error}", cause="config") from None


def _application_uri(credentials: Credentials) -> str:
    """The URI in our certificate: servers compare them (OPC 10000-4, 5.6.2)."""
    uris = alternative_names(credentials.own.certificate)[0] if credentials.own else frozenset()
    return min(uris, default=_APPLICATION)


def _chosen(offered: Sequence[ua.EndpointDescription], security: Security, url: str) -> ua.EndpointDescription:
    policy, mode = _POLICIES[security.policy].URI, _MODES[security.mode]
    for one in offered:
        tcp = str(one.EndpointUrl).startswith(ua.OPC_TCP_SCHEME)
        if tcp and one.SecurityPolicyUri == policy and one.SecurityMode == mode and one.ServerCertificate:
            return one
    told = sorted({_told(one) for one in offered})
    raise DeviceError(
        f"{url} does not offer {security.policy} with {security.mode}; it offers: {', '.join(told) or 'nothing'}",
        cause="config",
    )


def _told(endpoint: ua.EndpointDescription) -> str:
    name = _NAMES.get(endpoint.SecurityPolicyUri, str(endpoint.SecurityPolicyUri).rpartition("#")[2])
    return name if name == "None" else f"{name} with {endpoint.SecurityMode.name}"


def _secure(client: LoginClient, security: Security, credentials: Credentials, server: bytes) -> None:
    assert credentials.own is not None
    make: Any = _POLICIES[security.policy]
    policy = make(
        parse_certificates(server)[0], credentials.own.certificate, credentials.own.key, _MODES[security.mode]
    )
    client.security_policy = policy
    client.uaclient.set_security(policy)


async def _identify(
    client: LoginClient,
    connection: Connection,
    credentials: Credentials,
    folder: Path,
    created: ua.CreateSessionResult,
) -> None:
    """Sets who the user is. A password goes to nobody that is not known, unless the file says so."""
    if credentials.user is not None:
        client.user_certificate, client.user_private_key = credentials.user.certificate, credentials.user.key
    if connection.user is None:
        return
    policy = client.server_policy(ua.UserTokenType.UserName)
    encrypted = connection.security.secured and connection.security.mode == "SignAndEncrypt"
    if policy.SecurityPolicyUri == _CLEAR and not encrypted:
        if not connection.clear_password:
            raise DeviceError(
                f"{connection.url}: the password of {connection.user} would be sent in clear; set up security, or "
                "write clear_password: true",
                cause="config",
            )
    elif not connection.security.secured and not connection.clear_password:
        # The password is encrypted to a certificate that has proved nothing yet.
        server = created.ServerEndpoints[0].Server if created.ServerEndpoints else ua.ApplicationDescription()
        await _believe(client.server_certificate or b"", server.ApplicationUri, connection, credentials, folder)


async def _believe(der: bytes, uri: str, connection: Connection, credentials: Credentials, folder: Path) -> None:
    """Raises DeviceError, cause config, unless the certificate is to be believed."""
    try:
        chain = parse_certificates(der)
    except ValueError as error:
        raise DeviceError(
            f"{connection.url}: the server's certificate cannot be read: {error}", cause="config"
        ) from None
    try:
        judge(
            chain,
            trust=credentials.trust,
            uri=uri,
            host=_host(connection.url),
            ignore=connection.security.ignore,
            now=datetime.now(UTC),
        )
    except Distrust as error:
        kept = await asyncio.to_thread(keep_rejected, chain, folder)
        raise DeviceError(_refusal(connection, chain[0], error, kept), cause="config", code=error.code) from None


def _refusal(connection: Connection, certificate: x509.Certificate, error: Distrust, kept: str) -> str:
    mend = ""
    if error.unknown:
        mend = f"; if it is the server's own, `dinrail certs trust {thumbprint(certificate)}`"
    return f"{connection.url}: the server's certificate {thumbprint(certificate)} ({kept}) is refused: {error}{mend}"


def _host(url: str) -> str:
    """As certificates name it: an address in its shortest form."""
    host = urlsplit(url).hostname or ""
    try:
        return str(ip_address(host))
    except ValueError:
        return host
