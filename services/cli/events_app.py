"""`dinrail events` as a whole: with the commands that need more than its own module."""

from services.cli.event_chain import verify_events
from services.cli.event_state import replay_events
from services.cli.events import events_app

__all__ = ["events_app"]

events_app.command("replay")(replay_events)
events_app.command("verify")(verify_events)
