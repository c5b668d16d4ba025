"""Every reason for which trust says no: one code each, what it means, and what to do about it.

`docs/reference/trust.md` is written from this table.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from casparian.errors import Refused


class Reason(NamedTuple):
    """One code's meaning and the next step."""

    meaning: str
    hint: str


_POLICY: Final = "ask whoever keeps the policy for a newer one, then `casparian trust import FILE`"

REASONS: Final[dict[str, Reason]] = {
    "trust.unsigned": Reason(
        "no statement comes with the parser",
        "a lead examiner signs it with `casparian parser sign DIR --key FILE`",
    ),
    "trust.tampered": Reason(
        "a signature or a hash does not fit the bytes it is for",
        "get the files again from whoever signed them; do not use these",
    ),
    "trust.unknown_signer": Reason(
        "no signature is from a key that the policy or the root lists",
        "`casparian trust show` lists the keys; the policy may have to be newer",
    ),
    "trust.out_of_scope": Reason(
        "the signers are known, and none may sign for this name",
        "let a lead examiner sign whose scope covers it (`casparian trust show`)",
    ),
    "trust.threshold": Reason(
        "fewer people than needed have signed; one person counts once, whatever keys they hold",
        "let another of the role's holders sign the same document",
    ),
    "trust.revoked_key": Reason(
        "without the revoked keys too few signatures are left",
        "let somebody sign whose key is not revoked",
    ),
    "trust.revoked_artifact": Reason(
        "the policy revokes these very files",
        "use another version of the parser",
    ),
    "trust.expired": Reason("a policy, a root or a statement is past its date", _POLICY),
    "trust.rollback": Reason(
        "it is older than what was in force here already",
        "import the newest; an older version is never taken back",
    ),
    "trust.fork": Reason(
        "two different documents carry the same version",
        "find out who signed the second one before you trust either",
    ),
    "trust.clock": Reason(
        "it was signed more than a day after this machine's time",
        "set this machine's clock",
    ),
    "trust.malformed": Reason(
        "the document is not what it should be, or not in canonical form",
        "get it again from whoever signed it; editing a signed document breaks it",
    ),
    "trust.name": Reason(
        "a parser's name is not plain lower-case ASCII",
        "names are `[a-z][a-z0-9]*` joined by `.`, `-` or `_`",
    ),
    "trust.path": Reason(
        "a listed path could lead outside the parser's folder, or collide with another",
        "paths are relative, ASCII, without `..`, `\\` and `:`, and differ in more than case",
    ),
    "trust.extra_file": Reason(
        "a file is there that the statement does not list",
        "remove the file, or sign the folder anew",
    ),
    "trust.missing_file": Reason(
        "a file that the statement lists is not there",
        "get the whole parser again",
    ),
    "trust.too_large": Reason(
        "a document, a file or their number is beyond its limit",
        "see `docs/reference/trust.md` for the limits",
    ),
    "trust.runtime": Reason(
        "it asks for a newer version of this program",
        "update the program",
    ),
    "trust.manifest": Reason(
        "the statement and the parser's own `parser.toml` do not agree",
        "sign the folder anew",
    ),
    "trust.no_root": Reason(
        "no root of trust was set up in this home",
        "`casparian trust init --root FILE`, or for one person `casparian trust init --solo NAME`",
    ),
    "trust.no_policy": Reason(
        "no policy is in force in this home",
        "`casparian trust import FILE` with the policy of the organisation",
    ),
    "trust.root_version": Reason(
        "a version of the root is left out: each must be signed by the one before it",
        "import the missing versions too, in one go: `casparian trust import DIR`",
    ),
    "trust.duplicate_key": Reason(
        "one key is listed twice, under a wrong id, or in another spelling",
        "list each key once, as `casparian trust key export` writes it",
    ),
    "trust.scheme": Reason(
        "the kind of key is not one that is accepted, or the key is weak",
        "use ed25519, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384 or ml-dsa-65",
    ),
    "trust.package": Reason(
        "the package is not exactly what `casparian parser pack` writes",
        "get the package again",
    ),
    "trust.decision": Reason(
        "the signed decision is about something else",
        "decide again: `casparian approve show ID`",
    ),
    "trust.passphrase": Reason("the passphrase is wrong", "try again"),
    "trust.key_damaged": Reason(
        "the key file is damaged",
        "restore it from its copy",
    ),
    "trust.key_exists": Reason(
        "a key file of this name is there already",
        "choose another name; a key is never overwritten",
    ),
    "trust.fingerprint": Reason(
        "the fingerprint is not the one that was expected",
        "do not go on: compare with the printed card, and ask who gave you the file",
    ),
    "trust.words": Reason(
        "the words are not those of the root",
        "read them from the printed card again; when they differ, do not go on",
    ),
    "trust.token": Reason(
        "the hardware token cannot be used",
        "`pip install 'casparian[tokens]'`, and name the token's own PKCS#11 library",
    ),
}


def refused(
    code: str, message: str, *, hint: str | None = None, **fields: str | int | None
) -> Refused:
    """The error for one of the reasons above, with its hint."""
    return Refused(message, hint=hint or REASONS[code].hint, code=code, **fields)
