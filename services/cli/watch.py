"""`dinrail watch`: every change as it comes, until Ctrl-C."""

import asyncio
import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime

from contracts.codec import ContractError
from contracts.v1.frame import FRAME, GOOD
from contracts.v1.frame_codec import FrameStruct, decode_frame
from contracts.v1.message import Value
from contracts.v1.tag import TAG, TagValue
from services.cli.connection import Access, connected
from services.cli.picture import matches, quality_word
from services.cli.table import value_text
from services.runtime.bus import Bus, Delivery

Emit = Callable[[str], None]


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
        bus.subscribe(FRAME, self._on_frame, raw=True)

    async def _on_frame(self, delivery: Delivery[bytes]) -> None:
        try:
            frame = decode_frame(delivery.payload, topic=delivery.topic)
        except ContractError as error:
            self._emit(f"malformed frame: {error}")
            return
        self._show(delivery.levels["device"], delivery.levels["group"], frame)

    def _show(self, device: str, group: str, frame: FrameStruct) -> None:
        for sample in frame.samples:
            chosen = {tag: value for tag, value in sample.v.items() if matches(self._pattern, device, tag)}
            if self._as_json:
                quality = {tag: {"q": q.q, "cause": q.cause} for tag, q in (sample.q or {}).items() if tag in chosen}
                head = {"device": device, "group": group, "epoch": frame.epoch, "seq": frame.seq, "t": sample.t}
                self._emit(json.dumps({**head, "v": chosen, "q": quality}, ensure_ascii=False))
                continue
            for tag, value in chosen.items():
                bad = (sample.q or {}).get(tag)
                time = _time_text(sample.t + (sample.dt or {}).get(tag, 0))
                q, cause = (bad.q, bad.cause) if bad else (GOOD, None)
                self._emit(_line(f"{time} {group}#{frame.seq}", device, tag, value, None, q, cause))


async def watch(*, access: Access, pattern: str, frames: bool, as_json: bool, emit: Emit) -> None:
    """Emits a line per change until SIGINT or SIGTERM. Raises ConnectionFailed."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    lines = (FrameLines if frames else TagLines)(pattern=pattern, as_json=as_json, emit=emit)
    async with connected(access, lines.follow):
        await stopping.wait()


def _time_text(t_us: int) -> str:
    return datetime.fromtimestamp(t_us / 1e6, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _line(head: str, device: str, tag: str, value: Value, unit: str | None, q: int, cause: str | None) -> str:
    quality = "" if q >= GOOD else f"  {quality_word(q)} ({cause})"
    return f"{head}  {device}/{tag}  {value_text(value)} {unit or ''}".rstrip() + quality
