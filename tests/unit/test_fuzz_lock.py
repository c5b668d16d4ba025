"""The fuzzers build what the engine is: their own lock file follows the engine's."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _locked(path: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for package in tomllib.loads((ROOT / path).read_text())["package"]:
        found.setdefault(package["name"], set()).add(package["version"])
    return found


def test_the_fuzzers_lock_every_dependency_of_the_engine_as_the_engine_does():
    manifest = tomllib.loads((ROOT / "native/core/Cargo.toml").read_text())
    engine, fuzzers = _locked("Cargo.lock"), _locked("fuzz/Cargo.lock")
    missing = set(manifest["dependencies"]) - fuzzers.keys()
    assert missing == set(), "cd fuzz && cargo metadata >/dev/null"
    other = {name for name in fuzzers.keys() & engine.keys() if not fuzzers[name] <= engine[name]}
    assert other == set()
