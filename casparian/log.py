"""Log files: JSON lines in `HOME/logs/<process>.log`, size-capped; stderr gets warnings only.

Each line has `time`, `level`, `process`, `message` and whatever fields the caller added with `extra={"fields": {…}}`
(`job_id`, `source_hash`, …). Evidence content never goes into a log.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
from typing import Any

import msgspec

from casparian import clock
from casparian.paths import Home

_FILE_BYTES_MAX = 8 * 1024 * 1024
_FILES_KEPT = 3


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": clock.iso(int(record.created * 1e9)),
            "level": record.levelname.lower(),
            "pid": os.getpid(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line.update(fields)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure(home: Home, process: str, *, level: int = logging.INFO) -> None:
    """Send this process's log records to `HOME/logs/<process>.log`."""
    home.logs.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        home.logs / f"{process}.log",
        maxBytes=_FILE_BYTES_MAX,
        backupCount=_FILES_KEPT,
        encoding="utf-8",
        errors="backslashreplace",
    )
    handler.setFormatter(_JsonLines())
    root = logging.getLogger("casparian")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False
