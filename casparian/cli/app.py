"""What a command has at hand: the home, the settings, a client of the sentinel, and where to write.

Everything is made when it is first asked for: a command that only prints pays for nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from shlex import quote
from typing import TYPE_CHECKING, Any

from casparian.cli.output import Output
from casparian.paths import Home, default_home

if TYPE_CHECKING:
    from casparian.config import Config
    from casparian.control.client import Client


@dataclass
class Globals:
    """Global options as typed."""

    home: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    no_color: bool = False


class App:
    """One command's surroundings."""

    def __init__(self, given: Globals) -> None:
        self.given = given
        self.home = Home.at(given.home if given.home is not None else default_home())
        self.out = Output(
            json=given.json,
            quiet=given.quiet,
            verbose=given.verbose,
            color=not given.no_color and not os.environ.get("NO_COLOR"),
            program="casparian" if given.home is None else f"casparian --home {quote(given.home)}",
        )

    @classmethod
    def of(cls, given: Globals) -> App:
        """The surroundings that these options describe."""
        return cls(given)

    @cached_property
    def config(self) -> Config:
        """Settings of this home."""
        from casparian import config

        return config.load(self.home)

    @contextmanager
    def client(self, *, stop_after: bool = False) -> Iterator[Client]:
        """A client of this home's sentinel; one is started when none answers.

        Args:
            stop_after: a sentinel that lives on demand is stopped at the end, unless others need it; otherwise it
                lingers for the next command.
        """
        from casparian.control import autostart

        with autostart.connect(
            self.home, workers=self.config.settings.workers, notice=self.out.say
        ) as client:
            client.on_reconnect = self.out.say
            try:
                yield client
            except KeyboardInterrupt:
                raise  # at once: the sentinel goes on with what was asked of it, and ends when it is idle
            except BaseException:
                if stop_after:
                    autostart.release(client, self.home)
                raise
            if stop_after:
                autostart.release(client, self.home)

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever recorded here: an answer needs no sentinel then."""
        return not self.home.control_database.exists() and not self.home.socket.exists()

    def read(
        self,
        view: str,
        filters: Mapping[str, str | int | bool | None] | None = None,
        *,
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """A named read of what the sentinel recorded, one dict a row; empty for a new home."""
        if self.is_new:
            return []
        with self.client() as client:
            return read(client, view, filters, limit=limit)


def read(
    client: Client,
    view: str,
    filters: Mapping[str, str | int | bool | None] | None = None,
    *,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """A named read over a client that is there already, one dict a row."""
    from casparian.protocol import control

    reply = client.ask(
        control.Read(view=view, filters=dict(filters or {}), limit=limit), control.Rows
    )
    return [dict(zip(reply.columns, row, strict=True)) for row in reply.rows]
