"""What a stick is asked before it is used: who signed it, whether that counts here, whether this machine and place fit.

    accept     its signature; newer roots and a policy, which count at once; then its key
    payload    for this platform, and not older than what was installed here already
    fit        this machine, this place: what does not fit is on the checklist

Nothing is written but newer roots and a policy: a stick whose key they revoke is refused, and they stay.
"""

from __future__ import annotations

from collections.abc import Callable

from casparian.appliance.stick import acceptance, layout, preflight, staging, verify
from casparian.appliance.stick.checklist import Checklist
from casparian.appliance.stick.folder import StickFolder
from casparian.appliance.stick.installation_store import InstallationStore
from casparian.appliance.stick.preflight import Machine
from casparian.appliance.stick.refusals import refused
from casparian.appliance.stick.verify import Signed
from casparian.paths import Home

TakeTrust = Callable[[tuple[bytes, ...]], str]


class Judge:
    """Asks one stick.

    Args:
        stick: its path.
        store: the installation; `None` for parsers, roots and policy alone.
        home: whose roots and policy count.
        checklist: told what was checked.
        machine: what we run on.
        fingerprint: of the release key, typed from the card.
        unpacked: the archive's files are on the disk already and need no room there.
        take_trust: puts newer roots and a policy into force and says so; `None`: the stick's are left.
    """

    def __init__(
        self,
        stick: str,
        store: InstallationStore | None,
        home: Home,
        checklist: Checklist,
        machine: Machine,
        *,
        fingerprint: str | None,
        unpacked: bool,
        take_trust: TakeTrust | None,
    ) -> None:
        self._stick = stick
        self._store = store
        self._home = home
        self._list = checklist
        self._machine = machine
        self._fingerprint = fingerprint
        self._unpacked = unpacked
        self._take_trust = take_trust

    def accept(self, folder: StickFolder, *, dry_run: bool) -> tuple[Signed, str]:
        """The signed documents, and what became of newer roots and a policy.

        Raises:
            CasparianError: `stick.…`: it is not signed, or not by a key that counts here.
        """
        with self._list.step("signature") as say:
            signed = verify.read_signed(folder)
            say(f"{signed.stick.version}, release {signed.stick.release}, of {signed.stick.built}")
        trust = acceptance.load(self._home)
        told = "left, as asked"
        with self._list.step("roots and policy") as say:
            if self._take_trust is not None:
                found = acceptance.news(trust, signed.roots, signed.policy)
                trust, told = found.state, found.message
                if found.documents and not dry_run:
                    told = self._take_trust(found.documents)
            say(told)
        with self._list.step("release key") as say:
            say(acceptance.check_key(signed.key, trust, fingerprint=self._fingerprint))
        return signed, told

    def payload(self, signed: Signed) -> layout.Payload | None:
        """The program for this machine; `None` when the stick brings none.

        Raises:
            Refused: `stick.platform`, `stick.older`, `stick.fork`.
        """
        if signed.stick.kind == "trust":
            return None
        with self._list.step("platform") as say:
            payload = verify.payload_for(signed, self._machine.platform)
            say(payload.platform)
        with self._list.step("floor") as say:
            say(_check_floor(self._store, signed.stick))
        return payload

    def fit(self, signed: Signed, payload: layout.Payload) -> None:
        """Look at machine and place; what does not fit is on the checklist alone."""
        preflight.check_machine(self._list, payload, signed.stick, self._machine)
        if self._store is None:
            return
        files = signed.files[payload.platform]
        wheels = staging.wheels_of(signed, payload.platform)
        with StickFolder(self._stick) as folder:
            others = sum(folder.size_bytes(path) for path in (*wheels, payload.files))
        preflight.check_place(
            self._list,
            self._store.path,
            bytes_needed=others
            if self._unpacked
            else preflight.room_needed(files, others, payload.needs.disk_bytes),
            files_needed=len(wheels) + (0 if self._unpacked else 2 * len(files.files)),
            home=self._home if self._store.current else None,
        )


def _check_floor(store: InstallationStore | None, stick: layout.Stick) -> str:
    """Refuse what is older than the floor, and another build under a release that was used.

    Raises:
        Refused: `stick.older`, `stick.fork`.
    """
    if store is None:
        return f"release {stick.release}"
    recorded, name = store.recorded(), layout.version_folder(stick)
    if stick.release < recorded.floor:
        raise refused(
            "stick.older",
            f"the stick is release {stick.release}, {recorded.floor} was installed here",
        )
    used = {change.version for change in recorded.history} | set(store.names())
    for other in sorted(used - {name}):
        if other.rpartition("-")[2] == str(stick.release):
            raise refused(
                "stick.fork",
                f"`{other}` was installed here under the same release, the stick is `{name}`",
            )
    return f"release {stick.release}, the floor is {recorded.floor}"
