"""Who may have a command executed: by the policy, by how often he asks, and by when he last did."""

import asyncio

import pytest

from contracts.v1.command import CALL, READ, REPLY, WRITE, ErrorCode
from contracts.v1.policy import POLICY, Policy, Rights, Role
from contracts.v1.resend import RESEND
from services.runtime.commands import gate as gates
from services.runtime.commands.failure import Denied
from services.runtime.commands.gate import Gate
from services.runtime.commands.sessions import Sessions
from services.runtime.mqtt.delivery import Delivery
from services.runtime.settings import Limits, Rate
from tests.unit.runtime.manual_clock import ManualClock

HOURS_8 = 8 * 3600.0
OPERATOR = Rights(role=Role.OPERATOR)


def gate_of(clock: ManualClock, **limits: object) -> Gate:
    return Gate(limits=Limits.model_validate(limits), clock=clock)


def policy(**users: Rights) -> Delivery[Policy]:
    return Delivery(topic=POLICY.build(site="s"), levels={"site": "s"}, payload=Policy(t=1, users=users))


def write(user: str = "anna", tag: str = "level", *, client: str | None = "hmi") -> Delivery[bytes]:
    levels = {"site": "s", "user": user, "id": "plc", "arg": tag}
    reply = None if client is None else REPLY.build(site="s", user=user, client=client)
    return Delivery(topic=WRITE.build(**levels), levels=levels, payload=b"1", response_topic=reply, arrived_s=100.0)


async def denial(gate: Gate, asked: Delivery[bytes]) -> Denied | None:
    try:
        await gate.check(WRITE, asked)
    except Denied as error:
        return error
    return None


async def test_a_command_of_the_first_moments_waits_for_the_policy() -> None:
    gate = gate_of(ManualClock())
    waiting = asyncio.create_task(denial(gate, write()))
    await asyncio.sleep(0)
    assert not waiting.done()

    await gate.follow(policy(anna=OPERATOR))

    assert await waiting is None


async def test_without_a_policy_users_are_refused_and_services_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "POLICY_WAIT_S", 0.01)
    gate = gate_of(ManualClock())

    refused = await denial(gate, write())
    late = await denial(gate, Delivery(**{**fields(write()), "expiry_s": 0}))

    assert refused is not None
    assert late is not None
    assert refused.failure.code is late.failure.code is ErrorCode.UNAVAILABLE
    assert "policy, which says who may do what, has not reached this service yet" in str(refused)
    assert await denial(gate, write("orchestrator")) is None
    assert await denial(gate, write("recorder")) is not None, "a service may send what its contract says and no more"
    await gate.check(RESEND, write("recorder"))


def fields(delivery: Delivery[bytes]) -> dict[str, object]:
    return {name: getattr(delivery, name) for name in Delivery.__slots__}


async def test_a_new_policy_holds_from_the_next_command_on() -> None:
    gate = gate_of(ManualClock())
    await gate.follow(policy(anna=OPERATOR))
    before = await denial(gate, write())
    await gate.follow(policy(anna=Rights(role=Role.OPERATOR, writes=["plc/mode"])))
    narrowed, other = await denial(gate, write()), await denial(gate, write(tag="mode"))
    await gate.follow(policy(bert=OPERATOR))
    removed = await denial(gate, write())

    assert (before, other) == (None, None)
    assert str(narrowed) == "anna has no right to write the tag plc/level"
    assert str(removed) == "anna is no user of this site"


async def test_a_session_that_was_idle_is_refused_until_the_user_connects_anew() -> None:
    clock = ManualClock()
    gate = gate_of(clock)
    await gate.follow(policy(anna=OPERATOR))
    first = await denial(gate, write())
    clock.advance(HOURS_8)
    in_time = await denial(gate, write())
    clock.advance(HOURS_8 + 1)
    idle, again = await denial(gate, write()), await denial(gate, write())
    anew = await denial(gate, write(client="hmi-2"))

    assert (first, in_time, anew) == (None, None, None)
    assert str(idle) == str(again) == "anna has sent no command for 28800 s; connect again"
    assert await denial(gate, write(client=None)) is None, "who wants no answers has no session"


async def test_with_zero_no_session_is_ever_idle() -> None:
    clock = ManualClock()
    gate = gate_of(clock, idle_after="0s")
    await gate.follow(policy(anna=OPERATOR))
    await gate.check(WRITE, write())
    clock.advance(1e9)

    assert await denial(gate, write()) is None


async def test_each_user_has_a_bucket_for_each_verb() -> None:
    clock, slow = ManualClock(), Rate(rate=2, burst=1)
    gate = gate_of(clock, acts=slow)
    gate.spend(WRITE, "anna", rate=None)
    with pytest.raises(Denied) as refused:
        gate.spend(WRITE, "anna", rate=None)
    gate.spend(CALL, "anna", rate=None)
    gate.spend(READ, "anna", rate=None)
    gate.spend(WRITE, "bert", rate=None)
    for _ in range(10):
        gate.spend(WRITE, "orchestrator", rate=None)
    clock.advance(0.5)
    gate.spend(WRITE, "anna", rate=None)

    assert refused.value.failure.code is ErrorCode.RATE_LIMITED
    assert refused.value.failure.detail == {"retry_after_s": 0.5}


async def test_only_a_service_acts_on_behalf_of_others_and_within_their_rights() -> None:
    gate = gate_of(ManualClock())
    await gate.follow(
        policy(
            anna=Rights(role=Role.ENGINEER), bert=Rights(role=Role.VIEWER), carl=Rights(role=Role.OPERATOR, writes=[])
        )
    )
    told = {}
    for sender, named in (
        ("anna", "bert"), ("recorder", "anna"), ("orchestrator", "bert"), ("orchestrator", "carl"),
        ("orchestrator", "gone"),
    ):  # fmt: skip
        with pytest.raises(Denied) as refused:
            await gate.check_behalf(WRITE, write(sender), named)
        told[sender, named] = (refused.value.why, str(refused.value).rpartition(": ")[2])
    await gate.check_behalf(WRITE, write("orchestrator"), "anna")

    assert told == {
        ("anna", "bert"): ("forged_behalf", "anna may not act on behalf of 'bert'"),
        ("recorder", "anna"): ("forged_behalf", "recorder may not act on behalf of 'anna'"),
        ("orchestrator", "bert"): ("forbidden", "bert is a viewer; device write takes an operator"),
        ("orchestrator", "carl"): ("forbidden", "carl has no right to write the tag plc/level"),
        ("orchestrator", "gone"): ("forbidden", "gone is no user of this site"),
    }


async def test_what_is_kept_of_verdicts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "MOST_VERDICTS", 3)
    gate = gate_of(ManualClock())
    await gate.follow(policy(anna=OPERATOR))

    for number in range(10):
        await gate.check(WRITE, write(tag=f"t{number}", client=f"c{number}"))

    assert len(gate._verdicts) <= 3


async def test_a_removed_users_sessions_are_forgotten() -> None:
    clock = ManualClock()
    gate = gate_of(clock)
    await gate.follow(policy(anna=OPERATOR, bert=OPERATOR))
    await gate.check(WRITE, write())
    await gate.follow(policy(bert=OPERATOR))
    clock.advance(HOURS_8 + 1)
    await gate.follow(policy(anna=OPERATOR, bert=OPERATOR))

    assert await denial(gate, write()) is None


def test_one_user_pushes_nobody_elses_sessions_out() -> None:
    sessions = Sessions(idle_after_s=HOURS_8, most=10)
    sessions.is_idle("anna", "console", 0.0)
    sessions.is_idle("anna", "phone", 0.0)
    for number in range(100):
        sessions.is_idle("mallory", f"c{number}", 1.0)
    kept = len(sessions)

    assert kept == 10
    assert sessions.is_idle("anna", "console", HOURS_8 + 1)
    assert sessions.is_idle("anna", "phone", HOURS_8 + 1)
    assert sessions.is_idle("mallory", "c99", HOURS_8 + 2)
    assert not sessions.is_idle("mallory", "c0", HOURS_8 + 2), "his own oldest are gone"
