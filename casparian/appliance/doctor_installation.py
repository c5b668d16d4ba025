"""Whether an installation is what its stick has brought, and can be taken back."""

from __future__ import annotations

import os

from casparian.appliance.doctor_check import Check
from casparian.appliance.service import program
from casparian.appliance.stick import installed
from casparian.appliance.stick.installation_store import InstallationStore
from casparian.errors import CasparianError

_NAME = "installation"


def check_own(*, verify: bool) -> list[Check]:
    """The installation that this program belongs to; nothing when no stick installed it."""
    place = program.destination()
    return [] if place is None else [check(InstallationStore(place), verify=verify)]


def check(store: InstallationStore, *, verify: bool) -> Check:
    """Links and signed documents of an installation, and with `verify` every file of the version in use."""
    if problems := installed.link_problems(store):
        return Check(
            check=_NAME,
            status="fail",
            message="; ".join(problems),
            hint="`casparian bundle apply STICK` again, from the stick it came by",
        )
    current, previous = store.current, store.previous
    assert current is not None
    try:
        floor = store.recorded().floor
        signed, _ = installed.signed_of(store, current)
        differences = installed.verify_version(store, current).differences if verify else ()
    except (CasparianError, OSError) as error:
        message = error.message if isinstance(error, CasparianError) else str(error)
        return Check(check=_NAME, status="fail", message=message, hint="`casparian bundle verify`")
    if differences:
        first = differences[0]
        return Check(
            check=_NAME,
            status="fail",
            message=f"{len(differences)} files of `{current}` are not what was signed: `{first.path}` {first.message}",
            hint="`casparian bundle verify` names them all; `casparian bundle apply STICK` brings them back",
        )
    words = [f"`{current}` of {os.path.basename(store.path)}", f"signed by {signed.fingerprint}"]
    words.append(f"before it `{previous}`" if previous else "no version before it")
    words.append(f"floor {floor}")
    words.append("every file verified" if verify else "its files: `casparian bundle verify`")
    return Check(check=_NAME, status="ok", message=", ".join(words))
