"""What devices say about how they are served."""

import structlog
from structlog.testing import capture_logs

from services.gateway.remarks import RemarkLog


class Slow:
    def __init__(self) -> None:
        self.said: list[str] = []

    def remarks(self) -> list[str]:
        return self.said

    async def read(self, group):
        raise AssertionError("nobody asks for it")

    async def write(self, tag, value):
        raise AssertionError("nobody asks for it")


def test_a_remark_is_logged_once_over_all_connections_and_a_new_one_too():
    log = RemarkLog(structlog.stdlib.get_logger())
    first, second = Slow(), Slow()
    first.said = second.said = ["samples every 1 s"]

    with capture_logs() as lines:
        log.tell()
        log.follow(first)
        log.tell()
        log.tell()
        log.follow(second)
        log.tell()
        second.said.append("queue of 1")
        log.tell()

    assert [line["remark"] for line in lines] == ["samples every 1 s", "queue of 1"]
