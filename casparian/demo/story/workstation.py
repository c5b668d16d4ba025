"""The other logs of the workstation: services, Sysmon, programs, tasks, and forwarded events."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from casparian.demo.dice import Dice
from casparian.demo.evtx_writer import (
    Event,
    Instance,
    System,
    ValueType,
    array,
    classic_data,
    event_data,
    forwarded_event,
    made_up_guid,
    to_filetime,
    user_data,
)
from casparian.demo.evtx_writer.values import boolean, filetime, guid, string, uint16, uint32
from casparian.demo.evtx_writer.windows import KEYWORDS_AUDIT_SUCCESS
from casparian.demo.story.cast import (
    ATTACKER_ADDRESS,
    COMMANDS,
    DOMAIN,
    DOMAIN_SID,
    NAMES,
    PEOPLE,
    PROGRAMS,
    SECURITY_GUID,
    SERVICE_FILE,
    SERVICE_NAME,
    SYSTEM_SID,
    VICTIM,
    WORKSTATION_ADDRESS,
    Happening,
    at,
    happening,
    noise_times,
    write,
)

_SERVICES: Final = ("Windows Update", "Print Spooler", "Windows Time", "Larkspur Sync")
_SERVICE_MANAGER_GUID: Final = UUID("555908d1-a6d7-4695-8e1e-26931d2012f4")
_EVENTLOG_GUID: Final = UUID("fc65ddd8-d6ef-4962-83d5-6e5cfe9ce148")


def system_log(dice: Dice, scale: int) -> list[Event]:
    """Services that start and stop, the one that is installed, the log that is cleared."""
    manager = {
        "provider": "Service Control Manager",
        "provider_guid": _SERVICE_MANAGER_GUID,
        "event_source_name": "Service Control Manager",
        "qualifiers": 0x4000,
        "keywords": 0x8080000000000000,
        "process_id": 700,
        "channel": "System",
    }
    found = []
    for time in noise_times(dice, 400 * scale):
        name, state = dice.choice(_SERVICES), dice.choice(("running", "stopped"))
        payload = event_data(("param1", string(name)), ("param2", string(state)))
        found.append(
            happening(time, payload, event_id=7036, thread_id=dice.between(800, 9000), **manager)
        )
    installed = event_data(
        ("ServiceName", string(SERVICE_NAME)),
        ("ImagePath", string(SERVICE_FILE)),
        ("ServiceType", string("user mode service")),
        ("StartType", string("auto start")),
        ("AccountName", string("LocalSystem")),
    )
    found.append(
        happening(
            at("22:09:03", milliseconds=117),
            installed,
            event_id=7045,
            user_sid=f"{DOMAIN_SID}-1117",
            thread_id=4312,
            **manager,
        )
    )
    cleared = user_data(
        "LogFileCleared",
        ("SubjectUserName", string(VICTIM)),
        ("SubjectDomainName", string(DOMAIN)),
        ("Channel", string("Microsoft-Windows-TaskScheduler/Operational")),
        ("BackupPath", string("")),
        namespace="http://manifests.microsoft.com/win/2004/08/windows/eventlog",
    )
    found.append(
        happening(
            at("22:33:47"),
            cleared,
            provider="Microsoft-Windows-Eventlog",
            provider_guid=_EVENTLOG_GUID,
            event_id=104,
            task=104,
            user_sid=f"{DOMAIN_SID}-1117",
            process_id=1204,
            thread_id=3960,
            channel="System",
        )
    )
    return write(found, dice, first_id=40_311)


_SYSMON_GUID: Final = UUID("5770385f-c22a-43e0-bf4c-06f5698ffbd9")


def _sysmon_event(time: datetime, event_id: int, payload: Instance) -> Happening:
    return happening(
        time,
        payload,
        provider="Microsoft-Windows-Sysmon",
        provider_guid=_SYSMON_GUID,
        event_id=event_id,
        version=5,
        task=event_id,
        process_id=2632,
        thread_id=3372,
        user_sid=SYSTEM_SID,
        channel="Microsoft-Windows-Sysmon/Operational",
    )


def _process_created(time: datetime, user: str, program: str, command: str) -> Happening:
    digest = hashlib.sha256(program.encode()).hexdigest().upper()
    payload = event_data(
        ("RuleName", string("-")),
        ("UtcTime", string(f"{time:%Y-%m-%d %H:%M:%S.%f}"[:-3])),
        ("ProcessGuid", guid(made_up_guid(time, program))),
        ("ProcessId", uint32(2000 + time.microsecond % 7000)),
        ("Image", string(program)),
        ("CommandLine", string(command)),
        ("User", string(f"{DOMAIN}\\{user}")),
        ("Hashes", string(f"SHA256={digest}")),
        ("ParentImage", string(r"C:\Windows\explorer.exe")),
    )
    return _sysmon_event(time, 1, payload)


def _connected(time: datetime, program: str, address: str, port: int) -> Happening:
    payload = event_data(
        ("UtcTime", string(f"{time:%Y-%m-%d %H:%M:%S.%f}"[:-3])),
        ("ProcessGuid", guid(made_up_guid(time, program))),
        ("Image", string(program)),
        ("Protocol", string("tcp")),
        ("Initiated", boolean(1)),
        ("SourceIp", string(WORKSTATION_ADDRESS)),
        ("SourcePort", uint16(49_700 + time.second)),
        ("DestinationIp", string(address)),
        ("DestinationPort", uint16(port)),
    )
    return _sysmon_event(time, 3, payload)


def sysmon_log(dice: Dice, scale: int) -> list[Event]:
    """Processes, connections, name queries and one created file."""
    found = []
    for time in noise_times(dice, 180 * scale):
        program, command = dice.choice(PROGRAMS)
        if dice.chance(3):
            found.append(_connected(time, program, f"192.0.2.{dice.between(1, 9)}", 443))
        elif dice.chance(3):
            name = dice.choice(NAMES)
            payload = event_data(
                ("QueryName", string(name)),
                ("QueryStatus", string("0")),
                ("QueryResults", string("::ffff:192.0.2.5;")),
                ("Image", string(program)),
            )
            found.append(_sysmon_event(time, 22, payload))
        else:
            found.append(_process_created(time, dice.choice(PEOPLE)[0], program, command))
    for clock, program, command in COMMANDS:
        time = at(clock, milliseconds=dice.below(40))
        found.append(_process_created(time, VICTIM, program, command))
    shell = COMMANDS[1][1]
    found.append(_connected(at("22:07:14", milliseconds=55), shell, ATTACKER_ADDRESS, 443))
    created = event_data(
        ("UtcTime", string("2024-03-11 22:08:30.902")),
        ("Image", string(shell)),
        ("TargetFilename", string(SERVICE_FILE)),
        ("CreationUtcTime", filetime(at("22:08:30", milliseconds=902))),
    )
    found.append(_sysmon_event(at("22:08:30", milliseconds=903), 11, created))
    return write(found, dice, first_id=1_209_877)


def application_log(dice: Dice, scale: int) -> list[Event]:
    """Classic providers: unnamed strings in one array, and a blob."""
    found = []
    for time in noise_times(dice, 360 * scale):
        source = dice.choice(("Larkspur", "MsiInstaller", "ESENT"))
        strings = (
            dice.choice(("Larkspur Sync", "Kontoauszüge 2024", "Δοκιμή", "Notes \U0001f4d3")),
            "" if dice.chance(4) else f"session {dice.below(10_000)}",
            f"elapsed {dice.below(90_000)} ms, result 0x{dice.below(2**32):08x}",
        )
        found.append(
            happening(
                time,
                classic_data(strings, dice.data(dice.between(8, 40)) if dice.chance(2) else None),
                provider=source,
                event_id=dice.choice((1000, 1033, 326)),
                qualifiers=0,
                keywords=0x0080000000000000,
                process_id=0,
                thread_id=0,
                channel="Application",
            )
        )
    return write(found, dice, first_id=7_770)


def task_log(dice: Dice, scale: int) -> list[Event]:
    """Begins again at 1: the log was cleared."""
    found = []
    for number in range(5000 // 20 * scale):
        time = at("22:33:48") + timedelta(milliseconds=number * 20_000 // scale + dice.below(900))
        payload = event_data(
            ("TaskName", string(rf"\Larkspur\{dice.choice(('Sync', 'Index', 'Wartung'))}")),
            ("TaskInstanceId", guid(made_up_guid("task", number))),
            ("Priorities", array(ValueType.UINT16, [dice.below(9) for _ in range(3)])),
            ("ResultCode", uint32(0)),
        )
        found.append(
            happening(
                time,
                payload,
                provider="Microsoft-Windows-TaskScheduler",
                provider_guid=UUID("de7b24ea-73c8-4a09-985d-5bdadcfa9017"),
                event_id=dice.choice((100, 102, 200, 201)),
                task=102,
                activity_id=made_up_guid("activity", number // 4),
                process_id=1420,
                thread_id=dice.between(1000, 9000),
                user_sid=SYSTEM_SID,
                channel="Microsoft-Windows-TaskScheduler/Operational",
            )
        )
    return write(found, dice, first_id=1)


def forwarded_log(dice: Dice, scale: int) -> list[Event]:
    """What a collector got from two servers: no templates, and ids that are not its own."""
    events = []
    for number, time in enumerate(sorted(noise_times(dice, 60 * scale)), start=1):
        host = dice.choice(("dc01.corp.example.org", "files02.corp.example.org"))
        user = dice.choice(PEOPLE)[0]
        system = System(
            provider="Microsoft-Windows-Security-Auditing",
            provider_guid=SECURITY_GUID,
            event_id=4768,
            task=14339,
            level=0,
            keywords=KEYWORDS_AUDIT_SUCCESS,
            time_created=to_filetime(time, ticks=dice.below(10)),
            event_record_id=5_000_000 + 37 * number,
            process_id=712,
            thread_id=dice.between(1000, 9000),
            channel="Security",
            computer=host,
        )
        events.append(
            forwarded_event(
                system,
                [
                    ("TargetUserName", user),
                    ("TargetDomainName", DOMAIN),
                    ("Status", "0x0"),
                    ("IpAddress", f"::ffff:192.0.2.{dice.between(10, 90)}"),
                    ("CertIssuerName", ""),
                ],
                message=f"A Kerberos authentication ticket (TGT) was requested for {user}.",
                record_id=number,
                written=to_filetime(time + timedelta(seconds=dice.between(1, 30))),
            )
        )
    return events
