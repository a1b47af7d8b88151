"""States of aggregates in the recorder's file, so that not all of their events are gone through again."""

SCHEMA = """
CREATE TABLE snapshot (aggregate INTEGER NOT NULL REFERENCES aggregate, version INTEGER NOT NULL,
    number INTEGER NOT NULL, link BLOB NOT NULL, state TEXT NOT NULL, sealed INTEGER,
    PRIMARY KEY (aggregate, version)) WITHOUT ROWID;
CREATE INDEX snapshot_sealed ON snapshot (sealed) WHERE sealed IS NOT NULL;
"""
"""number, link: the delivery that was the last when it was made. sealed: the row of the event that holds the state's
digest, for one that stands for removed events; see retention."""
