"""Whom guests become when the worker runs as root: the setting `guest_user` of the home, as ids.

No guest ever runs as root, and an ordinary user can become nobody else: its guests are its own.
"""

from __future__ import annotations

import os
import pwd

from casparian import config
from casparian.errors import UsageError
from casparian.paths import Home
from casparian.worker.faults import JobFault


def options(home: Home) -> list[str]:
    """What the zygote is told: `--user UID:GID` when this process is root, else nothing.

    Raises:
        JobFault: `config.guest_user`, or the code of what is wrong with the configuration.
    """
    if os.geteuid() != 0:
        return []
    try:
        uid, gid = resolve(config.load(home).settings.guest_user)
    except UsageError as error:
        raise JobFault(error.code, error.message) from error
    return ["--user", f"{uid}:{gid}"]


def resolve(name: str) -> tuple[int, int]:
    """Ids of a user's name, or of `UID:GID`.

    Raises:
        UsageError: `config.guest_user`: there is no such user, or it is root.
    """
    uid_text, colon, gid_text = name.partition(":")
    if colon and _is_id(uid_text) and _is_id(gid_text):
        uid, gid = int(uid_text), int(gid_text)
    else:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise _unusable(name, "there is no such user on this machine") from None
        uid, gid = entry.pw_uid, entry.pw_gid
    if uid == 0 or gid == 0:
        raise _unusable(name, "guests never run as root")
    return uid, gid


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) < 2**32 - 1


def _unusable(name: str, why: str) -> UsageError:
    return UsageError(
        f"`guest_user` is `{name}`: {why}",
        hint="`casparian config set guest_user NAME`, or UID:GID, of a user who owns nothing",
        code="config.guest_user",
        key="guest_user",
    )
