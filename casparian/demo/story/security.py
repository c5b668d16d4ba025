"""The Security log of the workstation: logons, processes, a service that is installed."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from casparian.demo.dice import Dice
from casparian.demo.evtx_writer import Event, Instance, event_data
from casparian.demo.evtx_writer.values import guid, hex32, hex64, sid, string, uint32
from casparian.demo.evtx_writer.windows import KEYWORDS_AUDIT_FAILURE, KEYWORDS_AUDIT_SUCCESS
from casparian.demo.story.cast import (
    ATTACKER_ADDRESS,
    COMMANDS,
    DOMAIN,
    DOMAIN_SID,
    PEOPLE,
    PROGRAMS,
    SECURITY_GUID,
    SERVICE_FILE,
    SERVICE_NAME,
    SYSTEM_SID,
    VICTIM,
    Happening,
    at,
    happening,
    noise_times,
    write,
)


def _audit(
    time: datetime, event_id: int, task: int, payload: Instance, *, failure: bool = False
) -> Happening:
    return happening(
        time,
        payload,
        provider="Microsoft-Windows-Security-Auditing",
        provider_guid=SECURITY_GUID,
        event_id=event_id,
        task=task,
        level=0,
        keywords=KEYWORDS_AUDIT_FAILURE if failure else KEYWORDS_AUDIT_SUCCESS,
        process_id=716,
        thread_id=5000 + event_id % 97,
        channel="Security",
    )


def _logon(time: datetime, user: str, user_sid: str, kind: int, address: str, port: int,
           session: int) -> Happening:  # fmt: skip
    payload = event_data(
        ("SubjectUserSid", sid(SYSTEM_SID)),
        ("SubjectUserName", string("FIN-WS07$")),
        ("SubjectDomainName", string(DOMAIN)),
        ("SubjectLogonId", hex64(0x3E7)),
        ("TargetUserSid", sid(user_sid)),
        ("TargetUserName", string(user)),
        ("TargetDomainName", string(DOMAIN)),
        ("TargetLogonId", hex64(session)),
        ("LogonType", uint32(kind)),
        ("LogonProcessName", string("User32 ")),
        ("AuthenticationPackageName", string("Negotiate")),
        ("WorkstationName", string("FIN-WS07")),
        ("LogonGuid", guid(UUID(int=0))),
        ("ProcessId", hex64(0x2CC)),
        ("ProcessName", string(r"C:\Windows\System32\svchost.exe")),
        ("IpAddress", string(address)),
        ("IpPort", string(str(port))),
        ("ElevatedToken", string("%%1842")),
    )
    return _audit(time, 4624, 12544, payload)


def _failed_logon(time: datetime, user: str, address: str, port: int) -> Happening:
    payload = event_data(
        ("SubjectUserSid", sid("S-1-0-0")),
        ("SubjectUserName", string("-")),
        ("TargetUserSid", sid("S-1-0-0")),
        ("TargetUserName", string(user)),
        ("TargetDomainName", string(DOMAIN)),
        ("Status", hex32(0xC000006D)),
        ("FailureReason", string("%%2313")),
        ("SubStatus", hex32(0xC000006A)),
        ("LogonType", uint32(10)),
        ("WorkstationName", string("kali")),
        ("ProcessId", hex64(0)),
        ("IpAddress", string(address)),
        ("IpPort", string(str(port))),
    )
    return _audit(time, 4625, 12544, payload, failure=True)


def _new_process(time: datetime, user: str, user_sid: str, program: str, command: str,
                 process: int) -> Happening:  # fmt: skip
    payload = event_data(
        ("SubjectUserSid", sid(user_sid)),
        ("SubjectUserName", string(user)),
        ("SubjectDomainName", string(DOMAIN)),
        ("SubjectLogonId", hex64(0x3E7)),
        ("NewProcessId", hex64(process)),
        ("NewProcessName", string(program)),
        ("TokenElevationType", string("%%1936")),
        ("ProcessId", hex64(0x2CC)),
        ("CommandLine", string(command)),
    )
    return _audit(time, 4688, 13312, payload)


def security_log(dice: Dice, scale: int) -> list[Event]:
    """Logons and processes of an evening, with the break-in among them."""
    found: list[Happening] = []
    for time in noise_times(dice, 260 * scale):
        user, number = dice.choice(PEOPLE)
        user_sid = f"{DOMAIN_SID}-{number}"
        session = dice.between(0x10000, 0xFFFFFFF)
        if dice.chance(3):
            address = f"192.0.2.{dice.between(10, 90)}"
            port = dice.between(49152, 65535)
            found.append(_logon(time, user, user_sid, 3, address, port, session))
        elif dice.chance(4):
            payload = event_data(
                ("TargetUserSid", sid(user_sid)),
                ("TargetUserName", string(user)),
                ("TargetDomainName", string(DOMAIN)),
                ("TargetLogonId", hex64(session)),
                ("LogonType", uint32(3)),
            )
            found.append(_audit(time, 4634, 12545, payload))
        else:
            program, command = dice.choice(PROGRAMS)
            process = dice.between(0x200, 0x3FFF)
            found.append(_new_process(time, user, user_sid, program, command, process))
    for attempt in range(24):
        time = at("22:04:10") + timedelta(milliseconds=2600 * attempt + dice.below(900))
        found.append(_failed_logon(time, VICTIM, ATTACKER_ADDRESS, 50_200 + attempt))
    user_sid, session = f"{DOMAIN_SID}-1117", 0x8A31F2
    found.append(
        _logon(at("22:05:21", milliseconds=403), VICTIM, user_sid, 10, ATTACKER_ADDRESS, 50_231,
               session)
    )  # fmt: skip
    privileges = event_data(
        ("SubjectUserSid", sid(user_sid)),
        ("SubjectUserName", string(VICTIM)),
        ("SubjectDomainName", string(DOMAIN)),
        ("SubjectLogonId", hex64(session)),
        ("PrivilegeList", string("SeDebugPrivilege\r\n\t\t\tSeImpersonatePrivilege")),
    )
    found.append(_audit(at("22:05:21", milliseconds=404), 4672, 12548, privileges))
    for clock, program, command in COMMANDS:
        found.append(
            _new_process(at(clock), VICTIM, user_sid, program, command, dice.between(4096, 9999))
        )
    installed = event_data(
        ("SubjectUserSid", sid(user_sid)),
        ("SubjectUserName", string(VICTIM)),
        ("SubjectDomainName", string(DOMAIN)),
        ("SubjectLogonId", hex64(session)),
        ("ServiceName", string(SERVICE_NAME)),
        ("ServiceFileName", string(SERVICE_FILE)),
        ("ServiceType", hex32(0x10)),
        ("ServiceStartType", uint32(2)),
        ("ServiceAccount", string("LocalSystem")),
    )
    found.append(_audit(at("22:09:03", milliseconds=118), 4697, 12289, installed))
    return write(found, dice, first_id=881_204)
