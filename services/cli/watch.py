"""`dinrail watch`: every change as it comes, until Ctrl-C."""

import asyncio
import json
import signal
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from contracts.codec import ContractError
from contracts.tag_pattern import matches
from contracts.v1.frame import FRAME, GOOD
from contracts.v1.frame_codec import FrameStruct, SampleStruct, decode_frame
from contracts.v1.message import Value
from contracts.v1.tag import TAG, TagValue
from services.cli.connection import Access, connected
from services.cli.picture import quality_word
from services.cli.table import value_text
from services.runtime.bus.bus import Bus, Delivery

Emit = Callable[[str], None]

SILENCE_S = 2.0
"""Last values come at once; without a line for so long, whoever watches is told so: his pattern may be misspelt."""


class TagLines:
    """A line per value on the tag topics: what an HMI sees."""

    def __init__(self, *, pattern: str, as_json: bool, emit: Emit) -> None:
        self._pattern = pattern
        self._as_json = as_json
        self._emit = emit

    def follow(self, bus: Bus) -> None:
        """Subscribes."""
        bus.subscribe(TAG, self._on_tag)

    async def _on_tag(self, delivery: Delivery[TagValue]) -> None:
        device, tag, value = delivery.levels["device"], delivery.levels["tag"], delivery.payload
        if not matches(self._pattern, device, tag):
            return
        if self._as_json:
            shown = {"device": device, "tag": tag, **value.model_dump(mode="json", exclude_none=True)}
            self._emit(json.dumps(shown | {"value": value.value}, ensure_ascii=False))
        else:
            time = _time_text(value.ts * 1000)
            self._emit(_line(time, device, tag, value.value, value.unit, value.q, value.cause))


class FrameLines:
    """A line per value of each frame: full resolution, as it is recorded."""

    def __init__(self, *, pattern: str, as_json: bool, emit: Emit) -> None:
        self._pattern = pattern
        self._as_json = as_json
        self._emit = emit

    def follow(self, bus: Bus) -> None:
        """Subscribes."""
        bus.subscribe_raw(FRAME, self._on_frame)

    async def _on_frame(self, delivery: Delivery[bytes]) -> None:
        try:
            frame = decode_frame(delivery.payload, topic=delivery.topic)
        except ContractError as error:
            self._emit(f"malformed frame: {error}")
            return
        self._show(delivery.levels["device"], delivery.levels["group"], frame)

    def _show(self, device: str, group: str, frame: FrameStruct) -> None:
        for sample in frame.samples:
            chosen = [tag for tag in sample.v if matches(self._pattern, device, tag)]
            if chosen and self._as_json:
                head = {"device": device, "group": group, "epoch": frame.epoch, "seq": frame.seq}
                self._emit(json.dumps(head | _part(sample, chosen), ensure_ascii=False))
            elif chosen:
                for tag in chosen:
                    self._emit(_sample_line(device, tag, f"{group}#{frame.seq}", sample))


async def watch(*, access: Access, pattern: str, frames: bool, as_json: bool, emit: Emit, remark: Emit) -> None:
    """Emits a line per change until SIGINT, SIGTERM, or nobody reads the lines any more. Raises ConnectionFailed.

    remark: is told, once, that nothing has come so far.
    """
    stopping, seen = asyncio.Event(), asyncio.Event()

    def emit_while_read(line: str) -> None:
        """Ends the watch, instead of raising BrokenPipeError, once nobody reads."""
        seen.set()
        try:
            emit(line)
        except BrokenPipeError:
            stopping.set()

    lines = (FrameLines if frames else TagLines)(pattern=pattern, as_json=as_json, emit=emit_while_read)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    try:
        async with connected(access, lines.follow):
            timer = loop.call_later(SILENCE_S, _remark_silence, seen, pattern, remark)
            await stopping.wait()
            timer.cancel()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _remark_silence(seen: asyncio.Event, pattern: str, remark: Emit) -> None:
    if not seen.is_set():
        remark(f"nothing that matches {pattern} has come so far; `dinrail tags` shows what there is")


def _part(sample: SampleStruct, tags: Sequence[str]) -> dict[str, Any]:
    """The sample as on the wire, with these tags only."""
    whole = msgspec.to_builtins(sample)
    some = {
        key: {tag: whole[key][tag] for tag in tags if tag in whole[key]} for key in ("v", "q", "dt") if key in whole
    }
    return {"t": sample.t} | {key: part for key, part in some.items() if part}


def _sample_line(device: str, tag: str, place: str, sample: SampleStruct) -> str:
    bad = (sample.q or {}).get(tag)
    q, cause = (bad.q, bad.cause) if bad else (GOOD, None)
    time = _time_text(sample.t + (sample.dt or {}).get(tag, 0))
    return _line(f"{time} {place}", device, tag, sample.v[tag], None, q, cause)


def _time_text(t_us: int) -> str:
    return datetime.fromtimestamp(t_us / 1e6, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _line(head: str, device: str, tag: str, value: Value, unit: str | None, q: int, cause: str | None) -> str:
    quality = "" if q >= GOOD else f"  {quality_word(q)} ({cause})"
    return f"{head}  {device}/{tag}  {value_text(value)} {unit or ''}".rstrip() + quality
