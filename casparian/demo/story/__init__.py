"""What happened on 11 March 2024, as the machines of a made-up company logged it.

Somebody guesses a password at the remote desktop of the workstation FIN-WS07, gets in as
`t.bergman`, fetches a program, installs it as a service, clears a log, and uses the service account
`svc_backup` to carry files off the gateway gw01. All around it is the ordinary noise of an evening.

This package knows what was logged; `world` knows in which files it lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from casparian.demo.dice import Dice
from casparian.demo.evtx_writer import Event
from casparian.demo.story.cast import (
    ATTACKER_ADDRESS,
    GATEWAY,
    SERVICE_FILE,
    SERVICE_NAME,
    VICTIM,
    WORKSTATION_ADDRESS,
    at,
)
from casparian.demo.story.gateway import auth_log, daemon_log, firewall_log, relay_log
from casparian.demo.story.security import security_log
from casparian.demo.story.workstation import (
    application_log,
    forwarded_log,
    sysmon_log,
    system_log,
    task_log,
)
from casparian.demo.syslog_writer import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """One thing that matters, and the key of the log in `Story` that shows it."""

    time: datetime
    log: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that was logged, in the order in which each log holds it."""

    logs: dict[str, list[Event]]
    texts: dict[str, list[Entry]]
    beats: tuple[Beat, ...]


def tell(seed: int, scale: int) -> Story:
    """Tell the story once; `scale` multiplies the noise around it, never the story itself."""
    dice = Dice(seed)
    return Story(
        logs={
            "Security": security_log(dice, scale),
            "System": system_log(dice, scale),
            "Sysmon": sysmon_log(dice, scale),
            "Application": application_log(dice, scale),
            "TaskScheduler": task_log(dice, scale),
            "ForwardedEvents": forwarded_log(dice, scale),
        },
        texts={
            "auth": auth_log(dice, scale),
            "syslog": daemon_log(dice, scale),
            "messages": firewall_log(dice, scale),
            "relay": relay_log(dice, scale),
        },
        beats=_BEATS,
    )


_BEATS: Final = (
    Beat(time=at("22:04:10"), log="Security",
         text=f"24 failed remote desktop logons for {VICTIM} from {ATTACKER_ADDRESS} (4625)"),
    Beat(time=at("22:05:21"), log="Security",
         text=f"the 25th works: {VICTIM} is logged on, type 10 (4624)"),
    Beat(time=at("22:07:14"), log="Sysmon",
         text=f"PowerShell connects to {ATTACKER_ADDRESS}:443 (3)"),
    Beat(time=at("22:08:30"), log="Sysmon", text=f"`{SERVICE_FILE}` is created (11)"),
    Beat(time=at("22:09:03"), log="System", text=f"service `{SERVICE_NAME}` is installed (7045)"),
    Beat(time=at("22:12:40"), log="auth",
         text=f"svc_backup logs on to {GATEWAY} from {WORKSTATION_ADDRESS} by password"),
    Beat(time=at("22:13:05"), log="auth", text="svc_backup packs /srv/ledger through sudo"),
    Beat(time=at("22:15:30"), log="messages",
         text=f"{GATEWAY} lets 48,113,664 bytes out to {ATTACKER_ADDRESS}"),
    Beat(time=at("22:33:47"), log="System", text="the task scheduler's log is cleared (104)"),
)  # fmt: skip
