"""The site's policy for tests, as the identity service publishes it."""

import queue
from collections.abc import Mapping

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from contracts.codec import encode
from contracts.v1.policy import POLICY, Policy, Rights, Role

IDENTITY = "identity"
OPEN: Mapping[str, Rights] = {
    **{role.value: Rights(role=role) for role in Role},
    **{name: Rights(role=Role.ENGINEER) for name in ("anna", "bernd", "bert", "berta", "carla", "otto", "other")},
}
"""A user for each role, and some engineers: nothing is narrowed."""
_WAIT_S = 30.0


def publish_policy(
    port: int,
    *,
    site: str,
    password: str | None = None,
    users: Mapping[str, Rights] = OPEN,
    since: Mapping[str, int] | None = None,
    t: int = 1,
) -> None:
    """Retains the policy at the broker on this port, and returns once it has it. password: of the account identity."""
    topic = POLICY.build(site=site)
    policy = Policy(t=t, users=dict(users), since=dict(since) if since else None)
    came: queue.Queue[None] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    if password is not None:
        client.username_pw_set(IDENTITY, password)
    client.on_publish = lambda *_: came.put(None)
    client.connect("127.0.0.1", port)
    client.publish(topic, encode(policy, topic=topic), qos=1, retain=True)
    client.loop_start()
    try:
        came.get(timeout=_WAIT_S)
    finally:
        client.disconnect()
        client.loop_stop()
