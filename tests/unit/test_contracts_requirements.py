"""The lock of an environment: what it may say, and that it means the same however it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casparian.contracts.requirements import canonical_name, from_lines, read_lock
from casparian.errors import ContractError
from casparian.protocol import identity

HASH = "0123456789abcdef" * 4
OTHER = "f" * 64
LOCK = f"""\
# written by pip-compile --generate-hashes
Acme.Codec==1.4.2 \\
    --hash=sha256:{OTHER} \\
    --hash=sha256:{HASH}
    # via -r requirements.in
small_one==0.1 --hash=sha256:{HASH}   # and why
"""

names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
versions = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}((a|b|rc)[0-9])?(\.post1)?", fullmatch=True)
hashes = st.lists(
    st.text("0123456789abcdef", min_size=64, max_size=64), min_size=1, max_size=4, unique=True
)
pins = st.lists(
    st.tuples(names, versions, hashes),
    min_size=1,
    max_size=6,
    unique_by=lambda pin: canonical_name(pin[0]),
)


def lines(raw: str) -> tuple[str, ...]:
    return tuple(one.line for one in read_lock(raw.encode(), file="requirements.lock"))


def test_a_lock_is_read_into_canonical_lines() -> None:
    assert lines(LOCK) == (
        f"acme-codec==1.4.2 --hash=sha256:{HASH} --hash=sha256:{OTHER}",
        f"small-one==0.1 --hash=sha256:{HASH}",
    )


@given(pins, st.randoms(use_true_random=False))
def test_the_same_lock_has_the_same_identity_however_it_is_written(pins, random) -> None:  # type: ignore[no-untyped-def]
    def written(order: list[tuple[str, str, list[str]]]) -> str:
        parts = []
        for name, version, digests in order:
            random.shuffle(digests)
            joint = random.choice([" ", " \\\n    ", "  "])
            spelled = random.choice([name, name.upper(), name.replace("-", "_")])
            parts.append(
                joint.join([f"{spelled}=={version}", *(f"--hash=sha256:{d}" for d in digests)])
            )
        return random.choice(["", "# a comment\n\n"]) + "\n".join(parts) + "\n"

    first = lines(written(pins))
    random.shuffle(pins)
    second = lines(written(pins).replace("\n", "\r\n"))
    assert first == second
    assert identity.environment_hash(first) == identity.environment_hash(second)
    assert tuple(one.line for one in from_lines(first)) == first


@pytest.mark.parametrize(
    "line",
    [
        "acme",
        "acme==1.0",
        f"acme>=1.0 --hash=sha256:{HASH}",
        f"acme~=1.0 --hash=sha256:{HASH}",
        f"acme==1.* --hash=sha256:{HASH}",
        f"acme[extra]==1.0 --hash=sha256:{HASH}",
        f"acme==1.0 ; python_version<'3.12' --hash=sha256:{HASH}",
        f"acme @ https://example.org/acme.whl --hash=sha256:{HASH}",
        f"./acme-1.0-py3-none-any.whl --hash=sha256:{HASH}",
        f"../acme==1.0 --hash=sha256:{HASH}",
        f"-e acme==1.0 --hash=sha256:{HASH}",
        "-r other.txt",
        "--index-url https://example.org/simple",
        "--extra-index-url https://example.org/simple",
        "--find-links /tmp",
        "--trusted-host example.org",
        f"acme==1.0 --hash=md5:{'0' * 32}",
        f"acme==1.0 --hash=sha256:{HASH[:-1]}",
        f"acme==1.0 --hash=sha256:{HASH.upper()}",
        f"acme==1.0 --global-option=x --hash=sha256:{HASH}",
        f"acme==1.0 --hash=sha256:{HASH}\nAcme==1.0 --hash=sha256:{HASH}",
        f"ácme==1.0 --hash=sha256:{HASH}",
        "",
    ],
)
def test_what_is_no_pin_with_a_hash_has_no_place_in_a_lock(line: str) -> None:
    with pytest.raises(ContractError) as caught:
        lines(line)
    assert caught.value.code == "manifest.environment"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_lock_or_an_error_of_their_own(raw: bytes) -> None:
    code = "manifest.environment"
    try:
        assert read_lock(raw, file="x")
    except ContractError as error:
        code = error.code
    assert code == "manifest.environment"


def test_lines_that_are_not_canonical_are_refused() -> None:
    with pytest.raises(ContractError):
        from_lines((f"Acme==1.0 --hash=sha256:{HASH}",))
