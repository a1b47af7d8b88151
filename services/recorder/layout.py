"""Of the recorder's file what one must know who looks at a copy of it where no recorder is installed."""

LAYOUT = 5
"""Of its tables (`PRAGMA user_version`): Database makes it, and brings older ones to it."""
