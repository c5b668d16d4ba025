"""Environments: what is locked is what is installed, whatever else lies in the wheelhouse; and nothing half is ever there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from casparian.contracts.requirements import Requirement, read_lock
from casparian.paths import Home
from casparian.protocol import identity
from casparian.worker import environment_cache as cache
from casparian.worker.cancel import Cancellation, Cancelled
from casparian.worker.environment import Environment, prepare
from casparian.worker.faults import JobFault
from tests.factories.wheels import platform_tag, wheel


class Place:
    """A home and its wheelhouse."""

    def __init__(self, folder: Path) -> None:
        self.home = Home.at(folder / "home")
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        self.settings(wheelhouse=str(self.wheels))

    def settings(self, **values: str | int) -> None:
        self.home.root.mkdir(exist_ok=True)
        lines = [
            f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}"
            for name, value in values.items()
        ]
        self.home.config_file.write_text("\n".join(lines) + "\n")

    def prepare(self, *lines: str) -> Environment:
        return prepare(self.home, lock(*lines), Cancellation())

    def names(self) -> list[str]:
        """What lies in the cache beside locks."""
        if not self.home.environments.exists():
            return []
        return sorted(
            name for name in os.listdir(self.home.environments) if not name.endswith(".lock")
        )


def lock(*lines: str) -> tuple[Requirement, ...]:
    return read_lock("\n".join(lines).encode(), file="requirements.lock")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def refused(place: Place, *lines: str) -> str:
    """The code of the refusal; nothing is left behind."""
    with pytest.raises(JobFault) as caught:
        place.prepare(*lines)
    assert place.names() == []
    return caught.value.code


def test_a_locked_package_is_installed_and_found_again(place: Place) -> None:
    line = wheel(place.wheels, "acme_codec", "1.0", {"acme_codec/__init__.py": b"ANSWER = 42\n"})
    with_dash = line.replace("acme_codec", "Acme.Codec", 1)  # how a person may have written it
    first = place.prepare(with_dash)
    assert (Path(first.site) / "acme_codec" / "__init__.py").read_bytes() == b"ANSWER = 42\n"
    assert first.record.modules == ("acme_codec",)
    assert [(p.name, p.version) for p in first.record.packages] == [("acme-codec", "1.0")]
    made = os.stat(first.directory).st_ino
    second = place.prepare(line)
    assert os.stat(second.directory).st_ino == made  # found, not made again
    assert second.record == first.record


def test_the_wheelhouse_is_needed_only_once(place: Place) -> None:
    line = wheel(place.wheels, "once", "1.0", {"once.py": b""})
    place.prepare(line).close()
    (place.wheels / "once-1.0-py3-none-any.whl").unlink()
    place.prepare(line)


def test_a_newer_version_that_was_planted_is_not_taken(place: Place) -> None:
    line = wheel(place.wheels, "acme", "1.0", {"acme.py": b"GOOD = True\n"})
    wheel(place.wheels, "acme", "2.0", {"acme.py": b"GOOD = False\n"})
    wheel(place.wheels, "acme", "1.0.post1", {"acme.py": b"GOOD = False\n"})
    found = place.prepare(line)
    assert (Path(found.site) / "acme.py").read_bytes() == b"GOOD = True\n"


def test_another_file_of_the_same_name_is_not_taken(place: Place, tmp_path: Path) -> None:
    line = wheel(tmp_path / "good", "acme", "1.0", {"acme.py": b"GOOD = True\n"})
    wheel(tmp_path / "bad", "acme", "1.0", {"acme.py": b"GOOD = False\n"})
    place.settings(wheelhouse=f"{tmp_path / 'bad'}:{tmp_path / 'good'}")
    found = place.prepare(line)
    assert (Path(found.site) / "acme.py").read_bytes() == b"GOOD = True\n"
    place.settings(wheelhouse=str(tmp_path / "bad"))
    found.close()
    assert cache.remove(place.home, found.record.env_hash)
    assert refused(place, line) == "env.hash"


def test_a_dependency_that_the_lock_does_not_name_is_not_installed(place: Place) -> None:
    wheel(place.wheels, "helper", "1.0", {"helper.py": b""})
    line = wheel(place.wheels, "acme", "1.0", {"acme.py": b""})
    found = place.prepare(line)
    assert found.record.modules == ("acme",)


def test_what_is_missing_or_only_source_code_or_for_another_machine_is_refused(
    place: Place,
) -> None:
    absent = f"absent==1.0 --hash=sha256:{'0' * 64}"
    assert refused(place, absent) == "env.missing"
    (place.wheels / "absent-1.0.tar.gz").write_bytes(b"source")
    assert refused(place, absent) == "env.sdist"
    other = wheel(place.wheels, "other", "1.0", {"other.py": b""}, tag="cp27-cp27m-win32")
    assert refused(place, other) == "env.incompatible"
    place.settings(wheelhouse=str(place.wheels / "nowhere"))
    assert refused(place, absent) == "env.wheelhouse"
    place.settings()
    assert refused(place, absent) == "env.wheelhouse"


def test_a_wheel_that_is_not_what_its_own_list_says_is_refused(place: Place) -> None:
    lies = wheel(place.wheels, "lies", "1.0", {"lies.py": b"real"}, record={"lies.py": b"said"})
    assert refused(place, lies) == "env.record"
    (place.wheels / "broken-1.0-py3-none-any.whl").write_bytes(b"no archive")
    import hashlib

    digest = hashlib.sha256(b"no archive").hexdigest()
    assert refused(place, f"broken==1.0 --hash=sha256:{digest}") == "env.install"


@pytest.mark.parametrize("module", ["json", "pyarrow", "casparian", "msgspec", "sys"])
def test_no_package_takes_the_place_of_a_module_of_the_program(place: Place, module: str) -> None:
    line = wheel(place.wheels, "shadow", "1.0", {f"{module}/__init__.py": b""})
    assert refused(place, line) == "env.conflict"


def test_two_packages_with_the_same_file_are_refused(place: Place) -> None:
    one = wheel(place.wheels, "one", "1.0", {"shared.py": b"1"})
    two = wheel(place.wheels, "two", "1.0", {"shared.py": b"2"})
    assert refused(place, one, two) in ("env.record", "env.install")


def test_what_is_larger_than_the_limit_is_refused_before_it_is_unpacked(place: Place) -> None:
    line = wheel(place.wheels, "bomb", "1.0", {"bomb.py": b"#" * (3 << 20)})
    assert (place.wheels / "bomb-1.0-py3-none-any.whl").stat().st_size < 1 << 20
    place.settings(wheelhouse=str(place.wheels), environment_mb_max=1)
    assert refused(place, line) == "env.too_large"


def test_those_used_longest_ago_go_first_and_never_one_in_use(place: Place) -> None:
    lines = [
        wheel(place.wheels, f"p{number}", "1.0", {f"p{number}.py": b"#" * 400_000})
        for number in range(4)
    ]
    place.settings(wheelhouse=str(place.wheels), environments_mb_max=1)
    held = place.prepare(lines[0])
    others = []
    for line in lines[1:]:
        one = place.prepare(line)
        others.append(one.record.env_hash)
        one.close()
        time.sleep(0.01)  # their times differ
    # Three fit no more than two and a half: the oldest that nobody holds is gone.
    assert place.names() == sorted([held.record.env_hash, others[2]])
    assert {one.env_hash for one in cache.listed(place.home) if one.in_use} == {
        held.record.env_hash
    }
    assert not cache.remove(place.home, held.record.env_hash)
    held.close()
    removed = cache.prune(place.home, 0, dry_run=True)
    assert len(removed) == 2
    assert len(place.names()) == 2
    cache.prune(place.home, 0)
    assert place.names() == []


def test_a_damaged_environment_is_made_anew(place: Place) -> None:
    line = wheel(place.wheels, "acme", "1.0", {"acme.py": b"GOOD = True\n"})
    first = place.prepare(line)
    (Path(first.site) / "acme.py").write_bytes(b"GOOD = not True\n")
    (Path(first.site) / "sitecustomize.py").write_bytes(b"planted")
    first.close()
    again = place.prepare(line)
    assert (Path(again.site) / "acme.py").read_bytes() == b"GOOD = True\n"
    assert sorted(os.listdir(again.site)) == ["acme-1.0.dist-info", "acme.py"]


def test_an_environment_of_another_interpreter_is_made_anew(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = wheel(place.wheels, "acme", "1.0", {"acme.py": b""})
    before = os.stat(place.prepare(line).directory).st_ino
    monkeypatch.setattr(cache, "interpreter", lambda: "another one")
    with pytest.raises(JobFault):  # it is in use, under the name of the other interpreter
        prepare_for(place, lock(line), 0.5)
    monkeypatch.undo()
    assert os.stat(place.prepare(line).directory).st_ino == before


def prepare_for(place: Place, requirements: tuple[Requirement, ...], seconds: float) -> None:
    """Give up after a while, as a cancelled job does."""
    cancellation = Cancellation()
    timer = threading.Timer(seconds, cancellation.set)
    timer.start()
    try:
        prepare(place.home, requirements, cancellation)
    except Cancelled:
        raise JobFault("env.io", "cancelled") from None
    finally:
        timer.cancel()


def test_many_who_ask_at_once_share_one(place: Place) -> None:
    line = wheel(place.wheels, "acme", "1.0", {"acme.py": b""})
    found: list[int] = []
    said: list[str] = []

    def ask() -> None:
        one = prepare(place.home, lock(line), Cancellation(), said.append)
        found.append(os.stat(one.directory).st_ino)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert sum(text.startswith("installing") for text in said) == 1


def test_who_waits_to_make_one_takes_what_another_made_and_still_uses(place: Place) -> None:
    line = wheel(place.wheels, "acme", "1.0", {"acme.py": b""})
    in_use: list[Environment] = []

    def make_and_keep(text: str) -> None:
        """While the second one waits: the first one is done with making, and does not let go."""
        if text.startswith("another") and not in_use:
            maker.close()
            in_use.append(prepare(place.home, lock(line), Cancellation()))

    env_hash = identity.environment_hash([line])
    maker = cache.Lock(place.home, env_hash)
    assert maker.take()
    second = prepare(place.home, lock(line), Cancellation(), make_and_keep)
    assert second.record == in_use[0].record


def test_a_process_that_is_killed_while_it_makes_one_leaves_nothing_half(place: Place) -> None:
    line = wheel(place.wheels, "acme", "1.0", {"acme.py": b"#" * 10_000})
    program = (
        "import sys; from casparian.paths import Home; from casparian.worker.cancel import Cancellation;"
        "from casparian.contracts.requirements import read_lock;"
        "from casparian.worker.environment import prepare;"
        "prepare(Home.at(sys.argv[1]), read_lock(sys.argv[2].encode(), file='x'), Cancellation(),"
        " lambda text: print(text, flush=True))"
    )
    for moment in ("package", "installing", "making"):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(place.home.root), line],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            for text in process.stdout:
                if text.startswith(moment):
                    break
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert all(name.startswith(".work-") for name in place.names()), moment
        assert cache.listed(place.home) == []
    done = place.prepare(line)
    assert place.names() == [done.record.env_hash]  # what the others left is gone


def test_a_wheel_of_this_very_machine_is_taken(place: Place) -> None:
    line = wheel(place.wheels, "thismachine", "1.0", {"thismachine.py": b""}, tag=platform_tag())
    assert place.prepare(line).record.packages[0].wheel.endswith(f"{platform_tag()}.whl")


def test_the_pip_configuration_of_this_machine_has_no_say(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = tmp_path / "evil"
    line = wheel(place.wheels, "acme", "1.0", {"acme.py": b"GOOD = True\n"})
    wheel(evil, "acme", "1.0", {"acme.py": b"GOOD = False\n"})
    monkeypatch.setenv("PIP_FIND_LINKS", str(evil))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("PIP_REQUIRE_HASHES", "0")
    monkeypatch.setenv("PYTHONPATH", str(evil))
    found = place.prepare(line)
    assert (Path(found.site) / "acme.py").read_bytes() == b"GOOD = True\n"
