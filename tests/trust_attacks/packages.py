"""Packages."""

from __future__ import annotations

import gzip
import io
import tarfile

from casparian.trust import package
from tests.factories.trust import FILES, statement_for
from tests.trust_attacks.table import attack, verify


def packed(o):
    return package.pack_bytes(FILES, statement_for(FILES, o.alice))


def tar_with(o, *members, form=tarfile.USTAR_FORMAT):
    """A package with more members, as another tool would write them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for entry, content in members:
            tar.addfile(entry, io.BytesIO(content))
        end = tar.offset
    return packed(o)[:-1024] + out.getvalue()[:end] + bytes(1024)


def member(name, kind=tarfile.REGTYPE, link="", **more):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    for field, value in more.items():
        setattr(made, field, value)
    return made


MEMBERS = {
    "a symbolic link": member("x", tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link": member("x", tarfile.LNKTYPE, "parser.py"),
    "a folder": member("x", tarfile.DIRTYPE),
    "a device": member("x", tarfile.CHRTYPE, devmajor=1, devminor=3),
    "a FIFO": member("x", tarfile.FIFOTYPE),
    "a sparse file": member("x", tarfile.GNUTYPE_SPARSE),
    "a long name": member("x", tarfile.GNUTYPE_LONGNAME),
    "an owner": member("zz", uid=1),
    "a mode": member("zz", mode=0o4755),
    "a time": member("zz", mtime=1),
    "a user's name": member("zz", uname="root"),
}
for _name, _member in MEMBERS.items():
    attack(f"package: {_name}", "trust.package")(
        lambda o, _, member=_member: package.parse_package(tar_with(o, (member, b"")))
    )

attack("package: a path that leads up", "trust.path")(
    lambda o, _: package.parse_package(tar_with(o, (member("zz/../../x", mode=0o644), b"")))
)
attack("package: names that differ in case", "trust.path")(
    lambda o, _: package.pack_bytes({**FILES, "PARSER.py": b""}, None)
)
attack("package: a file twice", "trust.package")(
    lambda o, _: package.parse_package(tar_with(o, (member("parser.py", mode=0o644), b"")))
)
attack("package: a second statement", "trust.package")(
    lambda o, _: package.parse_package(
        tar_with(o, (member("statement.dsse.json", mode=0o644), b""))
    )
)
attack("package: not in order", "trust.package")(
    lambda o, _: package.parse_package(tar_with(o, (member("aa", mode=0o644), b"")))
)
attack("package: extended headers", "trust.package")(
    lambda o, _: package.parse_package(
        tar_with(o, (member("zz", pax_headers={"path": "../x"}), b""), form=tarfile.PAX_FORMAT)
    )
)
attack("package: compressed", "trust.package")(
    lambda o, _: package.parse_package(gzip.compress(packed(o)))
)
attack("package: something behind its end", "trust.package")(
    lambda o, _: package.parse_package(packed(o) + b"x" + bytes(511) + bytes(1024))
)
attack("package: more nothing behind its end", "trust.package")(
    lambda o, _: package.parse_package(packed(o) + bytes(512))
)
attack("package: cut off", "trust.package")(lambda o, _: package.parse_package(packed(o)[:-1024]))
attack("package: empty", "trust.too_large")(lambda o, _: package.parse_package(bytes(1024)))
attack("package: no bytes", "trust.package")(lambda o, _: package.parse_package(b""))
attack("package: gigabytes", "trust.too_large")(lambda o, _: package.read_package("/dev/zero"))


@attack("package: a size that is a lie", "trust.package")
def _(o, _):
    raw = bytearray(packed(o))
    raw[124:135] = b"77777777777"
    package.parse_package(bytes(raw))


@attack("package: a file that the statement does not list", "trust.extra_file")
def _(o, _):
    raw = package.pack_bytes({**FILES, "zz.py": b""}, statement_for(FILES, o.alice))
    verify(o, *package.parse_package(raw))


@attack("package: too many files", "trust.too_large")
def _(o, _):
    package.parse_package(
        b"".join(package._header(f"f{n:05}", 0) for n in range(2_000)) + bytes(1024)
    )


@attack("package: a file that is not there", "trust.package")
def _(o, _):
    package.parse_package(packed(o)[:-1024] + package._header("zz", 4_096) + bytes(1024))


@attack("package: data in the padding", "trust.package")
def _(o, _):
    padded = package._header("zz", 1) + b"x" + b"hidden" + bytes(505)
    package.parse_package(packed(o)[:-1024] + padded + bytes(1024))
