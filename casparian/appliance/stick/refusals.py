"""Every reason for which a stick or an installation is refused: one code each, what it means, what to do.

`docs/reference/stick.md` is written from this table.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from casparian.display import show
from casparian.errors import CasparianError, Conflict, IntegrityError, Refused


class Reason(NamedTuple):
    """One code's meaning, the next step, and the class whose exit code it has."""

    meaning: str
    hint: str
    kind: type[CasparianError] = Refused


_AGAIN: Final = "do not use this stick; get it again from whoever made it"
_BUILDER: Final = "tell whoever made the stick: its builder would not write this"

REASONS: Final[dict[str, Reason]] = {
    "stick.not_a_stick": Reason(
        "the folder has no signed list of files",
        "name the folder that holds `SHA256SUMS` and `SHA256SUMS.sig`",
    ),
    "stick.unreadable": Reason(
        "the stick could not be read to its end: it was pulled out, or it is failing",
        "put it in again and repeat the command; copy it anew when it fails again",
    ),
    "stick.signature": Reason("the signature does not fit the list of files", _AGAIN),
    "stick.fingerprint": Reason(
        "the key is not the one whose fingerprint was typed",
        "compare with the printed card, letter by letter; when they differ, do not go on",
    ),
    "stick.key": Reason(
        "it was signed with a key that is not accepted here",
        "`casparian trust show` lists the release keys; a newer policy may have to be imported",
    ),
    "stick.revoked_key": Reason(
        "the policy revokes the key that signed it",
        "get a stick that another release key signed",
    ),
    "stick.policy": Reason(
        "this home had a policy, and none is in force",
        "`casparian trust import FILE` with the policy of the organisation",
    ),
    "stick.key_file": Reason("`trust/release.pub` is not the key that signed the stick", _AGAIN),
    "stick.malformed": Reason("a document of the stick is not what it should be", _AGAIN),
    "stick.sum": Reason("a file is not the one that was signed", _AGAIN),
    "stick.missing": Reason("a file that was signed is not there", _AGAIN),
    "stick.extra": Reason(
        "a file is there that was not signed",
        "remove it if you put it there, and ask who else could; otherwise get the stick again",
    ),
    "stick.name": Reason("a file's name is not one that a stick has", _AGAIN),
    "stick.not_regular": Reason(
        "something on the stick is neither a plain file nor a folder", _AGAIN
    ),
    "stick.too_large": Reason("a document of the stick is beyond its limit", _AGAIN),
    "stick.older": Reason(
        "it is older than what was installed here already",
        "use the newest stick; the version before is reached with `casparian bundle rollback`",
    ),
    "stick.fork": Reason(
        "another build of the same version and release is installed here",
        "find out who made the second one before you trust either",
    ),
    "stick.platform": Reason(
        "it holds no program for this kind of machine",
        "get a stick that was built for this machine's platform",
    ),
    "stick.glibc": Reason(
        "its program needs a newer C library than this machine has",
        "use a newer system, or a build made with an older one",
    ),
    "stick.kernel": Reason(
        "the kernel is too old, or lacks what confines parsers",
        "`casparian doctor` says what is missing; use a newer kernel",
    ),
    "stick.space": Reason("there is not enough room", "make room, then repeat the command"),
    "stick.permission": Reason(
        "the place of the installation cannot be written, or others may write to it",
        "run as the owner of the installation; `chmod go-w` where others may write",
    ),
    "stick.noexec": Reason(
        "programs may not be started from that file system",
        "install to a file system that is not mounted `noexec`",
    ),
    "stick.clock": Reason(
        "this machine's clock is before the day the stick was made",
        "set this machine's clock",
    ),
    "stick.archive": Reason("the archive is not what its list of files says", _BUILDER),
    "stick.archive_header": Reason(
        "the archive has a header that a stick's never has: an extension, an owner, another mode",
        _BUILDER,
    ),
    "stick.archive_kind": Reason(
        "the archive holds a link, a device or something else that is no plain file", _BUILDER
    ),
    "stick.archive_path": Reason("a path in the archive leads outside of it", _BUILDER),
    "stick.archive_duplicate": Reason(
        "a path stands twice in the archive, or differs from another in case only", _BUILDER
    ),
    "stick.archive_size": Reason(
        "the archive holds more than its list of files says, or more than any version has",
        _BUILDER,
    ),
    "stick.archive_end": Reason("something follows the end of the archive", _BUILDER),
    "stick.staged": Reason(
        "what was unpacked is not exactly what was signed",
        "run `sh install.sh` again; when it happens again, get the stick again",
    ),
    "stick.self_test": Reason(
        "the new program did not pass its own test on this machine; the old one stays",
        "`casparian doctor` checks this machine; the output of the test says what failed",
    ),
    "stick.trust": Reason(
        "roots, policy or parsers of the stick were not taken over",
        "each is named with its own reason; `casparian bundle apply STICK` tries again",
    ),
    "stick.busy": Reason(
        "another command is changing this installation",
        "wait until it is done, then repeat this one",
        Conflict,
    ),
    "stick.no_installation": Reason(
        "this program does not run from an installation that a stick made",
        "`--into DEST` names one; a first installation is made with `sh install.sh DEST FINGERPRINT`",
    ),
    "stick.no_previous": Reason(
        "there is no version before the current one",
        "`casparian bundle list` shows what is installed",
    ),
    "stick.newer_data": Reason(
        "the home was brought to a newer schema, and work was recorded since",
        "stay with the newer version, or `--discard-newer`: that work is then no longer on record",
    ),
    "stick.altered": Reason(
        "the installation is not exactly what was signed",
        "`casparian bundle apply STICK` with the same stick puts it right",
        IntegrityError,
    ),
    "stick.failed": Reason(
        "the installation could not be written",
        "the version in use is untouched; mend what the message says, then repeat the command",
        CasparianError,
    ),
}


def refused(
    code: str, message: str, *, hint: str | None = None, **fields: str | int | None
) -> CasparianError:
    """The error for one of the reasons above, with its hint."""
    reason = REASONS[code]
    return reason.kind(message, hint=hint or reason.hint, code=code, **fields)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Whatever fails inside failed to read the stick."""
    try:
        yield
    except OSError as error:
        raise refused(
            "stick.unreadable",
            f"`{show(path)}` of the stick cannot be read: {error.strerror or error}",
            path=path,
        ) from error


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Whatever fails inside failed to write the installation."""
    try:
        yield
    except OSError as error:
        code = {
            errno.ENOSPC: "stick.space",
            errno.EDQUOT: "stick.space",
            errno.EACCES: "stick.permission",
            errno.EPERM: "stick.permission",
            errno.EROFS: "stick.permission",
        }.get(error.errno or 0, "stick.failed")
        raise refused(
            code, f"`{show(path)}` cannot be written: {error.strerror or error}", path=path
        ) from error
