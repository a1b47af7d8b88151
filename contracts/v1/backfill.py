"""Messages of a stream that come late: buffered while the broker was away, or sent again on request."""

from pydantic import ConfigDict, RootModel

from contracts.topic import Topic
from contracts.v1.event import Events
from contracts.v1.frame import Frame


class Backfill(RootModel[Frame | Events]):
    """A message as it was first made, byte for byte: a Frame of kind `frame`, Events of kind `event`."""

    model_config = ConfigDict(frozen=True, defer_build=True)


BACKFILL = Topic(
    name="BACKFILL",
    pattern="backfill/{kind}/{owner}/{stream}",
    payload=Backfill,
    writers=("gateway", "recorder", "orchestrator", "compute", "identity"),
    about="Messages of a stream out of its owner's journal, in order beside the live ones; kind is frame or event.",
)
