"""Exactly what is locked is brought, from a folder or an index; what fails leaves nothing that was not checked."""

from __future__ import annotations

import hashlib
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from index_server import Index
from wheel_worlds import LINUX, locked, wheel

from bundle import fetch, locks
from bundle.locks import Locked
from bundle.steps import Failed

COMPILED = "cp311-cp311-manylinux_2_17_x86_64"


class Shop:
    """Wheels that can be had, and the folder that they are to come to."""

    def __init__(self, folder: Path) -> None:
        self.stock, self.out = folder / "stock", folder / "out"
        self.out.mkdir()
        pure = [wheel(self.stock, f"pure{number}") for number in range(7)]
        self.wheels = [*pure, wheel(self.stock, "compiled", tag=COMPILED)]
        # What a resolver could take by mistake: newer, or of another machine.
        wheel(self.stock, "pure0", "9.0")
        wheel(self.stock, "compiled", tag="cp311-cp311-manylinux_2_17_aarch64")
        wheel(self.stock, "compiled", tag="cp311-cp311-musllinux_1_2_x86_64")
        self.wanted = [locked(path) for path in self.wheels]
        self.said: list[str] = []

    def get(self, index: Index | None = None, *, wanted: list[Locked] | None = None) -> int:
        return fetch.get(
            LINUX,
            self.wanted if wanted is None else wanted,
            self.out,
            sources=() if index else (self.stock,),
            index=index.address if index else None,
            tell=self.said.append,
        )

    def there(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.out.iterdir()}

    def whole(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.wheels}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def index(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Index(shop.stock) as running:
        yield running


def test_what_is_locked_comes_from_a_folder_and_is_readable_by_all(shop: Shop) -> None:
    for path in shop.wheels:
        path.chmod(0o600)
    assert shop.get() == len(shop.wheels)
    assert shop.there() == shop.whole()
    assert {stat.S_IMODE(path.stat().st_mode) for path in shop.out.iterdir()} == {0o644}
    assert shop.get() == 0


def test_a_damaged_wheel_is_replaced_and_what_no_line_names_goes_but_our_own(shop: Shop) -> None:
    shop.get()
    own = wheel(shop.out, "casparian")
    wheel(shop.out, "removed")
    damaged = shop.out / shop.wheels[2].name
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert shop.get() == 1
    assert shop.there() == {**shop.whole(), own.name: own.read_bytes()}
    assert any("removed-1.0" in said for said in shop.said)


def test_a_folder_without_the_locked_bytes_is_refused(shop: Shop) -> None:
    """The name is right, the bytes are not."""
    shop.wheels[3].write_bytes(b"PK")
    with pytest.raises(Failed, match=r"no wheel of pure3 1\.0 with the locked hash"):
        shop.get()
    assert shop.there() == {path.name: path.read_bytes() for path in shop.wheels[:3]}


def test_an_index_gives_what_is_locked_for_the_platform_and_is_asked_for_nothing_else(
    shop: Shop, index: Index
) -> None:
    assert shop.get(index) == len(shop.wheels)
    assert shop.there() == shop.whole()
    assert sorted(index.served) == sorted(shop.whole())
    assert shop.get(index) == 0
    assert len(index.served) == len(shop.wheels)


def test_an_index_that_serves_other_bytes_is_refused_and_nothing_of_it_stays(
    shop: Shop, index: Index
) -> None:
    name = shop.wheels[0].name
    index.instead[name] = wheel(shop.stock.parent / "forged", "pure0", licence="0BSD").read_bytes()
    with pytest.raises(Failed, match="DO NOT MATCH THE HASHES"):
        shop.get(index)
    assert shop.there() == {}


def test_an_interrupted_run_goes_on_where_it_ended(shop: Shop, index: Index) -> None:
    """Eight wheels are two runs of pip; the second meets an index that has lost a wheel."""
    last = shop.wheels[-1].name
    index.instead[last] = None
    with pytest.raises(Failed):
        shop.get(index)
    kept = shop.there()
    assert 0 < len(kept) < len(shop.wheels)
    assert kept.items() <= shop.whole().items()
    index.instead.clear()
    index.served.clear()
    assert shop.get(index) == len(shop.wheels) - len(kept)
    assert set(index.served) == set(shop.whole()) - set(kept)
    assert shop.there() == shop.whole()


def test_what_the_user_has_set_for_pip_adds_no_place_to_take_from(
    shop: Shop, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = tmp_path / "aside"
    aside.mkdir()
    shutil.move(shop.wheels[0], aside)
    settings = tmp_path / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"[global]\nfind-links = {aside}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("PIP_FIND_LINKS", str(aside))
    with pytest.raises(Failed, match="pure0"):
        shop.get(index)
    assert shop.there() == {}


RESOLVER = """#!{python}
# What `uv pip compile` would write: every hash that the index has of a version, whichever machine it is for.
import json, sys
text = open({full!r}).read()
open(sys.argv[sys.argv.index("--output-file") + 1], "w").write(text)
json.dump(sys.argv[1:], open({told!r}, "w"))
"""


class Resolving:
    """A stand-in for the resolver; `offline-wheels/` and `requirements/` of a tree of their own."""

    def __init__(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        base = shop.out.parent
        self.shop, self.root, self.folder = shop, base, base / "offline-wheels"
        self.folder.mkdir()
        self.full = base / "full.txt"
        bin_folder = base / "bin"
        bin_folder.mkdir()
        uv = bin_folder / "uv"
        uv.write_text(
            RESOLVER.format(python=sys.executable, full=str(self.full), told=str(base / "told"))
        )
        uv.chmod(0o755)
        monkeypatch.setattr(fetch, "_uv", lambda: str(uv))

    def lock(self, index: Index) -> Path:
        return fetch.lock(
            LINUX,
            self.shop.out,
            index=index.address,
            folder=self.folder,
            root=self.root,
            tell=self.shop.said.append,
        )


def test_a_new_lock_names_the_one_wheel_of_each_package_that_fits(
    shop: Shop, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving = Resolving(shop, monkeypatch)
    every = {}
    for path in sorted(shop.stock.glob("*-1.0-*.whl")):
        each = locked(path)
        known = every.get(each.name, ())
        every[each.name] = (*known, *each.hashes)
    assert len(every["compiled"]) == 3
    resolving.full.write_text(
        locks.write([Locked(name=n, version="1.0", hashes=h) for n, h in every.items()], "full")
    )
    path = resolving.lock(index)
    assert path == resolving.folder / "locks" / "linux-x86_64.txt"
    assert locks.read(path) == sorted(shop.wanted, key=lambda each: each.name)
    assert shop.there() == shop.whole()


def test_what_has_no_wheel_for_the_platform_is_not_locked(
    shop: Shop, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving = Resolving(shop, monkeypatch)
    other = next(shop.stock.glob("compiled-*musllinux*"))
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    resolving.full.write_text(f"compiled==1.0 --hash=sha256:{digest}\n")
    with pytest.raises(Failed, match="compiled"):
        resolving.lock(index)
    assert not (resolving.folder / "locks").exists()
