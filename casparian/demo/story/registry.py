"""The registry of the workstation: the service that was installed, and what was deleted again."""

from __future__ import annotations

from casparian.demo.evtx_writer import to_filetime
from casparian.demo.hive_writer import Hive, Key, ValueType, dword, qword, text, texts
from casparian.demo.story.cast import (
    SERVICE_FILE,
    SERVICE_NAME,
    SYSTEM_SID,
    WORKSTATION_ADDRESS,
    at,
)

_SERVICES = (
    ("Larkspur Sync", r"C:\Program Files\Larkspur\larkspur.exe --service", 2),
    ("Spooler", r"%SystemRoot%\System32\spoolsv.exe", 2),
    ("W32Time", r"%SystemRoot%\system32\svchost.exe -k LocalService", 3),
    ("wuauserv", r"%systemroot%\system32\svchost.exe -k netsvcs -p", 3),
)


def system_hive() -> Hive:
    """The hive SYSTEM at the end of the evening; nothing in it depends on chance."""
    morning, evening = to_filetime(at("06:02:11")), to_filetime(at("22:09:03"))
    services = tuple(_service(name, image, start, morning) for name, image, start in _SERVICES)
    stager = Key(
        name="KestrelStage",
        state="deleted",
        last_write=to_filetime(at("22:08:55")),
        owner=SYSTEM_SID,
        values=(text("ImagePath", SERVICE_FILE + " /stage", ValueType.EXPAND_SZ),),
    )
    control = Key(
        name="Control",
        last_write=morning,
        subkeys=(
            Key(
                name="ComputerName",
                last_write=morning,
                values=(text("ComputerName", "FIN-WS07"),),
            ),
            Key(
                name="TimeZoneInformation",
                last_write=morning,
                values=(text("TimeZoneKeyName", "UTC"), dword("Bias", 0)),
            ),
            Key(
                name="Windows",
                last_write=evening,
                values=(qword("ShutdownTime", morning), texts("Sources", "Kernel", "Консоль")),
            ),
        ),
    )
    network = Key(
        name="Tcpip",
        last_write=morning,
        values=(text("DhcpIPAddress", WORKSTATION_ADDRESS), dword("EnableDHCP", 1)),
    )
    new = _service(SERVICE_NAME, SERVICE_FILE, 2, evening)
    current = Key(
        name="ControlSet001",
        last_write=evening,
        subkeys=(
            control,
            Key(name="Services", last_write=evening, subkeys=(*services, network, new, stager)),
        ),
    )
    select = Key(
        name="Select", last_write=morning, values=(dword("Current", 1), dword("Failed", 0))
    )
    root = Key(name="ROOT", last_write=evening, subkeys=(current, select))
    return Hive(root=root, file_name="SYSTEM", last_written=evening)


def _service(name: str, image: str, start: int, written: int) -> Key:
    return Key(
        name=name,
        last_write=written,
        owner=SYSTEM_SID,
        values=(
            text("ImagePath", image, ValueType.EXPAND_SZ),
            text("ObjectName", "LocalSystem"),
            dword("Start", start),
            dword("Type", 0x10),
        ),
    )
