"""Payloads that somebody sends who wants a service to fail: made from a good one, or from nothing."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import contracts
from contracts.codec import DEEPEST, MAX_BYTES
from contracts.topic import Topic
from contracts.v1.topics import TOPICS

EXAMPLES = sorted((Path(contracts.__file__).parent / "examples" / "v1").glob("*.json"))
BROKEN = (
    *(b"", b" ", b"\x00", b"{", b"}", b'"', b'{"a"', b"nul", b"'a'", b"{,}", b"[1,]", b"\xff\xfe{\x00}\x00"),
    *(b"\xef\xbb\xbf{}", b'{"a":"\xc3\x28"}', b'{"a":"\xed\xa0\x80"}', b'{"\\ud800":"\\udfff"}', b'{"a":"\\u00"}'),
    *(b"null", b"true", b"0", b"-0", b"1e999", b"NaN", b"-Infinity", b'""', b"[]", b"{}", b"[[]]", b'{"":{"":{}}}'),
)
"""No JSON, no UTF-8, or nothing that any message is."""
VALUES = (
    *("null", "true", "0", "-1", "1.5", '""', '"x"', "[]", "{}", "[null]", '{"a":1}', "1e308", "-1e999", "NaN"),
    *("9007199254740993", "-9223372036854775809", "1" + "0" * 400, '"\\u0000"', '"\\ud800"', '"\\u202e"', '"../../x"'),
    *('"a/b"', '"+"', '"#"', '"$SYS"', '"a\\nb"', '"А"', '"CON"', '"' + "a" * 70_000 + '"', "[" * 90 + "]" * 90),
    *("9223372036854775808", "18446744073709551616", "-18446744073709551617", "9007199254740991", "1e-400", '"inf"'),
)
"""JSON that is put in the place of each field."""
_MARK = "here stands another value"
LONG = MAX_BYTES - 200
"""Bytes of one value in a message that is just not too long."""


def examples() -> list[tuple[Topic[Any], str, bytes]]:
    """Every golden example of the contract: its topic, the whole topic and the payload."""
    found = []
    for path in EXAMPLES:
        content = json.loads(path.read_text())
        topic = next(topic for topic in TOPICS if topic.parse(content["topic"]) is not None)
        found.append((topic, content["topic"], json.dumps(content["payload"]).encode()))
    return found


def huge() -> Iterator[bytes]:
    """About as long as a message may be, or longer; most of it nothing but brackets, digits or keys."""
    yield b"[" * LONG
    yield b'{"a":' * (LONG // 5)
    yield b"[" * 100_000 + b"]" * 100_000
    yield b'{"a":' * 1000 + b"1" + b"}" * 1000
    yield b'{"data":' + b"[" * DEEPEST + b"]" * DEEPEST + b"}"
    yield b"1" * LONG
    yield b'{"t":' + b"9" * LONG + b"}"
    yield b'{"t":1e' + b"9" * LONG + b"}"
    yield b'"' + b"a" * LONG + b'"'
    yield b'"' + b"\\" * LONG
    yield b'{"a":[' + b"{}," * (LONG // 3) + b"{}]}"
    yield b"{" + b",".join(b'"%d":0' % at for at in range(LONG // 12)) + b"}"
    yield b'{"t":1' + b',"t":1' * (LONG // 6) + b"}"
    yield b"\xff" * (MAX_BYTES + 1000)


def spoilt(good: bytes) -> Iterator[bytes]:
    """The good message with one thing wrong: cut, a field left out, given twice or unknown, or of another value."""
    yield good[: len(good) // 2]
    yield good + good
    yield good.replace(b":", b":,", 1)
    content = json.loads(good)
    for path in _paths(content):
        yield from _with(content, path, VALUES)
        if path and isinstance(path[-1], str):
            yield _without(content, path)
            if len(path) == 1:
                yield from _with(content, path, ['"' + "a" * LONG + '"'])
                yield good.replace(b"{", b"{" + json.dumps(path[0]).encode() + b":1,", 1)
    yield from _with({**content, "no_such_field": None}, ("no_such_field",), VALUES)


def scrambled(good: bytes, random: Random) -> bytes:
    """The good message with some bytes changed, doubled or taken out."""
    data = bytearray(good)
    for _ in range(random.randint(1, 8)):
        at = random.randrange(len(data) + 1)
        match random.randrange(4):
            case 0:
                data[at:at] = random.randbytes(random.randint(1, 4))
            case 1:
                del data[at : at + random.randint(1, 8)]
            case 2:
                data[at:at] = data[at : at + random.randint(1, 64)] * random.randint(1, 20)
            case _:
                data[at : at + 1] = random.choice(VALUES).encode()[:1000]
    return bytes(data)


def _paths(part: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where each value stands, of a list the first two."""
    yield path
    for key, inner in part.items() if isinstance(part, dict) else enumerate(part[:2]) if isinstance(part, list) else ():
        yield from _paths(inner, (*path, key))


def _with(content: Any, path: tuple[str | int, ...], values: Iterable[str]) -> Iterator[bytes]:
    """The content with each of these JSON texts in the place of what stands there."""
    before, after = json.dumps(_changed(content, path, _MARK)).split(json.dumps(_MARK))
    for value in values:
        yield f"{before}{value}{after}".encode("utf-8", "surrogatepass")


def _without(content: Any, path: tuple[str | int, ...]) -> bytes:
    return json.dumps(_changed(content, path, None)).encode()


def _changed(part: Any, path: tuple[str | int, ...], value: str | None) -> Any:
    """A copy with another value at the path; None takes the value away."""
    if not path:
        return value
    key, *rest = path
    if isinstance(part, list):
        return [_changed(inner, tuple(rest), value) if at == key else inner for at, inner in enumerate(part)]
    if not rest and value is None:
        return {name: inner for name, inner in part.items() if name != key}
    return {name: _changed(inner, tuple(rest), value) if name == key else inner for name, inner in part.items()}
