"""Archives that a trusted key signed and no builder of ours would write: each is refused, and nothing lands outside."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casparian.appliance.stick import documents, layout
from casparian.appliance.stick.archive import Archive, archive_size, header, unpack
from casparian.errors import CasparianError
from tests.factories.sticks import MTIME, entries, make_stick, pack, ustar, version_files

FILES = version_files("2.0")
END = bytes(1024)


def first(_listed, files, *members, after=True):
    """The attack's members before the real ones."""
    raw = b"".join(members)
    return raw + (pack(entries(files), files) if after else END)


def gnu_long_name(path, content=b"x"):
    entry = tarfile.TarInfo(path)
    entry.size = len(content)
    raw = entry.tobuf(format=tarfile.GNU_FORMAT)
    return raw + content + bytes(-len(content) % 512)


def pax(path, content=b"x", **records):
    entry = tarfile.TarInfo(path)
    entry.size = len(content)
    entry.pax_headers = records or {"path": path}
    raw = entry.tobuf(format=tarfile.PAX_FORMAT)
    return raw + content + bytes(-len(content) % 512)


def sparse():
    entry = tarfile.TarInfo("bin/casparian")
    entry.type = tarfile.GNUTYPE_SPARSE
    entry.size = 1
    return entry.tobuf(format=tarfile.GNU_FORMAT) + bytes(512)


def instead(path, **fields):
    """One real member with another header."""

    def build(listed, files):
        out = io.BytesIO()
        for file in listed:
            content = files[file.path]
            if file.path == path:
                out.write(ustar(file.path, content, **fields))
            else:
                out.write(header(file, MTIME) + content + bytes(-len(content) % 512))
        return out.getvalue() + END

    return build


def member(*raw):
    return lambda listed, files: first(listed, files, *raw)


ARCHIVES = {
    "traversal": (member(ustar("../evil", b"x")), "stick.archive_path"),
    "traversal within": (member(ustar("app/../../evil", b"x")), "stick.archive_path"),
    "absolute": (member(ustar("/tmp/evil", b"x")), "stick.archive_path"),
    "symbolic link": (member(ustar("bin", type=tarfile.SYMTYPE, linkname="/etc")), "stick.archive_kind"),
    "hard link": (member(ustar("x", type=tarfile.LNKTYPE, linkname="/etc/passwd")), "stick.archive_kind"),
    "device": (member(ustar("x", type=tarfile.CHRTYPE, devmajor=1, devminor=5)), "stick.archive_kind"),
    "block device": (member(ustar("x", type=tarfile.BLKTYPE)), "stick.archive_kind"),
    "FIFO": (member(ustar("x", type=tarfile.FIFOTYPE)), "stick.archive_kind"),
    "folder": (member(ustar("bin", type=tarfile.DIRTYPE)), "stick.archive_kind"),
    "contiguous": (member(ustar("x", type=tarfile.CONTTYPE)), "stick.archive_kind"),
    "unknown kind": (member(ustar("x", type=b"Q")), "stick.archive_kind"),
    "long name of GNU": (member(gnu_long_name("a/" * 60 + "b" * 90)), "stick.archive_header"),
    "extension of pax": (member(pax("é" * 60)), "stick.archive_header"),
    "size by pax": (member(pax("bin/casparian", size="1")), "stick.archive_header"),
    "global pax": (member(ustar("x", b"11 path=/x\n", type=tarfile.XGLTYPE)), "stick.archive_header"),
    "sparse": (member(sparse()), "stick.archive_header"),
    "one more in front": (member(ustar("aaa", b"x")), "stick.archive"),
    "the same twice": (lambda ls, f: pack([ls[0], *ls], f), "stick.archive"),
    "another order": (lambda ls, f: pack(ls[::-1], f), "stick.archive"),
    "one less": (lambda ls, f: pack(ls[:-1], f), "stick.archive"),
    "one more behind": (
        lambda ls, f: pack(ls, f)[: archive_size(tuple(ls))[0] - 1024] + ustar("zz", b"x") + END, "stick.archive_size"),
    "trailing bytes": (lambda ls, f: pack(ls, f) + b"x", "stick.archive_end"),
    "trailing archive": (lambda ls, f: pack(ls, f) + pack(ls, f), "stick.archive_end"),
    "trailing zeros": (lambda ls, f: pack(ls, f) + bytes(1 << 20), "stick.archive_end"),
    "no end": (lambda ls, f: pack(ls, f)[: archive_size(tuple(ls))[0] - 1024], "stick.archive"),
    "half an end": (lambda ls, f: pack(ls, f)[: archive_size(tuple(ls))[0] - 512], "stick.archive"),
    "cut within a file": (lambda ls, f: pack(ls, f)[:700], "stick.archive"),
    "empty": (lambda ls, f: b"", "stick.archive"),
    "only an end": (lambda ls, f: END, "stick.archive"),
    "compressed": (lambda ls, f: __import__("gzip").compress(pack(ls, f)), "stick.archive"),
    "setuid": (instead("bin/casparian", mode=0o4755), "stick.archive_header"),
    "another mode": (instead("bin/casparian", mode=0o644), "stick.archive_header"),
    "an owner": (instead("bin/casparian", uid=1000), "stick.archive_header"),
    "an owner's name": (instead("bin/casparian", uname="root"), "stick.archive_header"),
    "another time": (instead("runtime/bin/python3", mode=0o755, mtime=1), "stick.archive_header"),
    "padding that says something": (
        lambda ls, f: pack(ls, f).replace(f["app/part1.bin"] + bytes(100), f["app/part1.bin"] + b"x" * 100, 1), "stick.archive"),
    "another content": (lambda ls, f: pack(ls, {**f, "app/part1.bin": b"y" * 700}), "stick.archive"),
    "a bomb": (instead("app/part0.bin", size=4 << 30), "stick.archive_size"),
}  # fmt: skip


@pytest.mark.parametrize("case", ARCHIVES)
def test_an_archive_that_no_builder_writes_is_refused(place, tmp_path, case):
    build, code = ARCHIVES[case]
    stick = make_stick(tmp_path / "stick", files=FILES, archive=build)
    around = sorted(tmp_path.rglob("*"))
    assert place.checked(stick) == code
    assert place.refusal(stick) == code
    new = [p for p in sorted(tmp_path.rglob("*")) if p not in around]
    allowed = Path(place.store.path)
    for path in new:
        assert path in (allowed, allowed.parent, allowed / ".lock", allowed / "versions"), path


def test_each_attack_has_a_code_that_says_what_it_was(place, tmp_path):
    """The first header also fixes the time, so the attack itself must be named where it is not first."""
    files = {"aaa": b"first", **FILES}

    def second(listed, files):
        raw = pack(listed, files)
        return raw[:1024] + ustar("../evil", b"x") + raw[1024:]

    stick = make_stick(tmp_path / "stick", files=files, archive=second)
    assert place.checked(stick) == "stick.archive_path"


LISTS = {
    "traversal": (["../evil"], "stick.archive_path"),
    "absolute": (["/tmp/evil"], "stick.archive_path"),
    "dot": (["a/./b"], "stick.archive_path"),
    "empty part": (["a//b"], "stick.archive_path"),
    "empty": ([""], "stick.archive_path"),
    "backslash": (["a\\b"], "stick.archive_path"),
    "line feed": (["a\nb"], "stick.archive_path"),
    "beyond ASCII": (["ä"], "stick.archive_path"),
    "too long": (["a/" * 200], "stick.archive_path"),
    "twice": (["a", "a"], "stick.archive_duplicate"),
    "another case": (["app/Aa", "app/aA"], "stick.archive_duplicate"),
    "folders in another case": (["App/a", "app/b"], "stick.archive_duplicate"),
    "a file that is a folder": (["a", "a/b"], "stick.archive_duplicate"),
    "the documents of a version": (["stick/SHA256SUMS"], "stick.archive_path"),
    "wheels": (["wheels/x.whl"], "stick.archive_path"),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_list_of_files_that_leads_elsewhere_is_refused(place, tmp_path, case):
    paths, code = LISTS[case]
    listed = [
        layout.PayloadFile(path=path, size=1, sha256="0" * 64) for path in ["bin/casparian", *paths]
    ]
    stick = make_stick(tmp_path / "stick", listed=listed, archive=lambda _l, _f: END)
    assert place.checked(stick) == code
    assert place.refusal(stick) == code


@pytest.mark.parametrize("size", [-1, 5 << 30, 2**63])
def test_sizes_beyond_what_a_version_has_are_refused(place, tmp_path, size):
    listed = [layout.PayloadFile(path="bin/casparian", size=1, sha256="0" * 64)]
    stick = make_stick(tmp_path / "stick", listed=listed, archive=lambda _l, _f: END)
    document = msgspec.to_builtins(layout.PayloadFiles(files=tuple(listed)))
    document["files"][0]["size"] = size
    stick.write(stick.stick.payloads[0].files, msgspec.json.encode(document))
    stick.seal()
    assert place.checked(stick) in ("stick.malformed", "stick.archive_size")


# -- any archive at all


def read_all(raw: bytes, listed) -> dict[str, bytes]:
    stream = io.BytesIO(raw)
    return {
        file.path: b"".join(content)
        for file, content in Archive(stream.read, tuple(listed)).members()
    }


names = st.sampled_from(
    [f"{a}{b}{c}" for a in ("", "x/", "x/y/", "z/") for b in "abc" for c in ("", "1", "22")]
)
trees = st.dictionaries(names, st.binary(max_size=1300), min_size=1, max_size=6)


@given(trees)
@settings(max_examples=60, deadline=None)
def test_what_was_packed_is_what_is_read(files):
    listed = entries(files)
    assert read_all(pack(listed, files), listed) == files


@given(trees, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_any_change_of_an_archive_gives_the_signed_files_or_is_refused(
    files, chance: random.Random
):
    listed = entries(files)
    raw = bytearray(pack(listed, files))
    match chance.randrange(4):
        case 0:
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        case 1:
            at = chance.randrange(len(raw))
            raw[at:at] = chance.randbytes(chance.choice([1, 512]))
        case 2:
            at = chance.randrange(len(raw))
            del raw[at : at + chance.choice([1, 512, 5000])]
        case 3:
            raw += chance.randbytes(chance.choice([1, 512]))
    try:
        found = read_all(bytes(raw), listed)
    except CasparianError as error:
        assert error.code.startswith("stick.archive")  # noqa: PT017 - either is right
    else:
        assert found == files


@given(st.binary(max_size=4000))
@settings(max_examples=80, deadline=None)
def test_bytes_that_are_no_archive_never_do_anything_else(raw):
    listed = entries({"bin/a": b"abc"})
    with pytest.raises(CasparianError) as caught:
        read_all(raw, listed)
    assert caught.value.code.startswith("stick.archive")


def test_nothing_that_exists_is_opened(tmp_path):
    """A link that waits in the folder is not followed."""
    files = {"app/a": b"content"}
    listed = entries(files)
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    inside = tmp_path / "stage"
    (inside / "app").mkdir(parents=True)
    (inside / "app/a").symlink_to(target)
    with pytest.raises(CasparianError) as caught:
        unpack(Archive(io.BytesIO(pack(listed, files)).read, tuple(listed)), str(inside), 7)
    assert caught.value.code == "stick.failed"
    assert target.read_bytes() == b"mine"


def test_documents_come_back_as_they_were_written():
    files = layout.PayloadFiles(files=tuple(entries(FILES)))
    assert documents.read_files(documents.encode(files)) == files
