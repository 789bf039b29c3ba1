"""Logs go to stderr, wherever stderr is just then: a progress bar puts its own stream there."""

import logging
import sys

import structlog


def configure_logs(*, debug: bool) -> None:
    """Warnings and worse; with `debug`, everything."""
    level = logging.DEBUG if debug else logging.WARNING
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            _renderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _renderer() -> structlog.dev.ConsoleRenderer:
    """Tracebacks without the values of variables: those are prompts, rows and keys of users, and thousands of lines."""
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
