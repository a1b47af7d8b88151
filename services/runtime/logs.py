"""Structured logs: one event is one line on stdout, for a person or for a program."""

import logging
import sys
from typing import Any, Literal

import structlog

Log = structlog.stdlib.BoundLogger
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]

_NAME = "dinrail"


def configure_logs(*, level: str, form: LogFormat, service: str, instance: str) -> Log:
    """Sets up the process's logging and gives the logger to hand around, with service and instance in every line.

    level: the lowest level that is shown; libraries are shown from `warning` up, in the same form.
    form: `json` keeps a traceback inside its line; `console` is for a terminal and writes it below the line.
    """
    lowest = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_formatter(form, shared, service=service, instance=instance))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(lowest, logging.WARNING))
    logging.getLogger(_NAME).setLevel(lowest)
    logger = structlog.wrap_logger(
        logging.getLogger(_NAME),
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=Log,
        context_class=dict,
    )
    bound: Log = logger.bind(service=service, instance=instance)
    return bound


def _formatter(
    form: LogFormat, shared: list[Any], *, service: str, instance: str
) -> structlog.stdlib.ProcessorFormatter:
    def name_library(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """Puts service, instance and the library's logger before what a library logs."""
        del logger, method
        return {"service": service, "instance": instance, "library": event["_record"].name, **event}

    rendering: list[Any] = (
        [
            _head_first,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ]
        if form == "json"
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, name_library],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )


def _head_first(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Puts what every line has to the front, for people who read JSON."""
    del logger, method
    return {key: event[key] for key in ("timestamp", "level", "event") if key in event} | dict(event)
