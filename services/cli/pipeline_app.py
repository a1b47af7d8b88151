"""`dinrail pipeline` as a whole: with the commands that need more than its own module."""

from services.cli.pipeline import pipeline_app
from services.cli.retrospect import diff
from services.cli.runs import runs

__all__ = ["pipeline_app"]

pipeline_app.command()(diff)
pipeline_app.command()(runs)
