"""What in a device file does not fit together though each field is right by itself. Pure."""

import math
from collections.abc import Iterator

from contracts.v1.device import ValueType
from plugins.api.driver import Complaint, DeviceSpec, GroupSpec, TagSpec

from .config import Connection, Group

_NO_NUMBERS = frozenset({ValueType.BOOL, ValueType.STRING, ValueType.ARRAY})


def complaints(device: DeviceSpec) -> Iterator[Complaint]:
    """Half a user, fields without effect, a queue that must lose values, a dead band of what is no number."""
    assert isinstance(device.connection, Connection)
    yield from _of_connection(device.connection)
    for group in device.groups:
        yield from _complaints(group)
        for tag in group.tags:
            yield from _of_tag(group, tag)


def _of_connection(connection: Connection) -> Iterator[Complaint]:
    here = "connection"
    if connection.user is not None and connection.password_file is None:
        yield Complaint((here, "user"), "has no password", "add password_file: PATH, such as secrets/plc.password")
    if connection.password_file is not None and connection.user is None:
        yield Complaint((here, "password_file"), "is nobody's", "add user: NAME, or remove it")
    if (connection.user_certificate is None) != (connection.user_key is None):
        given, other = "user_certificate", "user_key"
        if connection.user_certificate is None:
            given, other = other, given
        yield Complaint((here, given), f"is of no use without {other}", f"add {other}: PATH")
    if connection.user is not None and connection.user_certificate is not None:
        yield Complaint((here, "user_certificate"), "stands beside user", "keep one: a session has one user")
    if connection.clear_password and connection.user is None:
        yield Complaint((here, "clear_password"), "has no effect without a user", "remove it")
    security = connection.security
    if not security.secured:
        for field in sorted(security.model_fields_set & {"mode", "certificate", "key"}):
            yield Complaint((here, "security", field), "has no effect with policy None", "remove it, or name a policy")


def _of_tag(group: GroupSpec, tag: TagSpec) -> Iterator[Complaint]:
    if tag.source.monitor.deadband is None:
        return
    path = ("groups", group.name, "tags", tag.name, "monitor", "deadband")
    if group.options.mode == "poll":
        yield Complaint(path, "has no effect in a group that is polled", "remove it, or write mode: subscribe")
    elif tag.type in _NO_NUMBERS:
        yield Complaint(path, f"means nothing for a {tag.type}", "remove it")


def _complaints(group: GroupSpec) -> Iterator[Complaint]:
    options = group.options
    assert isinstance(options, Group)
    if options.mode == "poll":
        for field in sorted(options.model_fields_set & {"sampling", "queue"}):
            yield Complaint(
                ("groups", group.name, field),
                f"{field} has no effect on a group that is polled",
                "remove it, or write mode: subscribe",
            )
    elif group.interval_s <= 0:
        yield Complaint(
            ("groups", group.name, "interval"),
            "a subscription needs an interval at which the server publishes",
            "write 100ms or more, or mode: poll",
        )
    elif options.sampling and options.queue > 1:  # a queue of 1 says that only the newest value matters
        needed = math.ceil(round(group.interval_s / options.sampling, 6))
        if needed > options.queue:
            yield Complaint(
                ("groups", group.name, "queue"),
                f"the server takes {needed} values between two publications and keeps {options.queue}",
                f"write queue: {needed + 2}, or queue: 1 if only the newest matters",
            )
