"""Dead letters, attempts and breakers as commands show them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner
from fake_sentinel import fake_sentinel, rows

from casparian.cli.breakers import described, line_of, lines_of
from casparian.cli.commands.jobs_act import attempt_lines, attempts_of
from casparian.cli.main import root
from casparian.domain.breakers import COOL_DOWN_NS
from casparian.domain.faults import meaning_of
from casparian.paths import Home
from casparian.protocol import control

DEAD = rows(
    "job_id run_id parser code message attempts epoch sources permanent first_source since_ns",
    (5, "r", "p@1", "guest.crash", "signal 11\x07", 1, 2, 3, True, "a.log", 10),
)


def run(home: Home, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(root, ["--home", str(home.root), *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return int(done.return_value or 0), done.stdout


@pytest.fixture
def home(tmp_path: Any) -> Home:
    return Home.at(tmp_path / "home")


def test_dead_letters_are_listed_with_what_their_reason_means(home: Home) -> None:
    with fake_sentinel(home, lambda _: [DEAD]) as sentinel:
        _, text = run(home, "jobs", "dead", "--parser", "p", "--code", "guest")
        _, document = run(home, "jobs", "dead", "--json")
    assert sentinel.requests[0] == control.Read(
        view="dead_jobs", filters={"parser": "p", "code": "guest"}
    )
    assert meaning_of("guest.crash") in text
    assert "signal 11\\x07" in text
    (job,) = json.loads(document)["jobs"]
    assert job["permanent"] is True
    assert job["meaning"] == meaning_of("guest.crash")


REQUESTS: dict[tuple[str, ...], control.Request] = {
    ("retry", "1", "2"): control.RetryJobs(request_id="", job_ids=(1, 2)),
    ("retry", "--all"): control.RetryJobs(request_id=""),
    ("retry", "--all", "--parser", "p", "--code", "limit", "--run", "r"): control.RetryJobs(
        request_id="", parser="p", code="limit", run_id="r"
    ),
    ("retry", "--all", "--dry-run"): control.RetryJobs(request_id="", dry_run=True),
    ("retry", "1"): control.RetryJob(request_id="", job_id=1),
    ("cancel", "--run", "r"): control.CancelJob(request_id="", run_id="r"),
    ("cancel", "--all"): control.CancelJob(request_id="", everything=True),
}


@pytest.mark.parametrize("arguments", REQUESTS, ids=" ".join)
def test_one_command_is_one_request(home: Home, arguments: tuple[str, ...]) -> None:
    import msgspec

    with fake_sentinel(home, lambda _: [control.Done(message="3 jobs", count=3)]) as sentinel:
        _, document = run(home, "jobs", *arguments, "--json")
    (request,) = sentinel.requests
    assert msgspec.structs.replace(request, request_id="") == REQUESTS[arguments]
    assert json.loads(document)["count"] == 3


@pytest.mark.parametrize(
    "arguments",
    [("retry",), ("retry", "1", "--all"), ("retry", "1", "--code", "x"), ("cancel",), ("cancel", "1", "--all")],
    ids=" ".join,
)  # fmt: skip
def test_what_could_mean_two_things_is_refused_before_anything_is_asked(
    home: Home, arguments: tuple[str, ...]
) -> None:
    from casparian.errors import UsageError

    with pytest.raises(UsageError):
        run(home, "jobs", *arguments)


def event(epoch: int, before: str | None, after: str, detail: str = "") -> dict[str, Any]:
    return {
        "epoch": epoch,
        "from_state": before,
        "to_state": after,
        "detail": detail,
        "at_ns": epoch,
    }


def test_the_chain_of_attempts_says_how_each_ended() -> None:
    attempts = attempts_of(
        [
            event(0, None, "queued", "enqueued"),
            event(1, "queued", "dispatched", "to worker w1"),
            event(1, "running", "queued", "worker.lost: gone"),
            event(2, "queued", "dispatched", "to worker w2"),
            event(1, None, "running", "fenced: a late receipt"),
            event(2, "running", "failed", "guest.crash: signal 11"),
        ]
    )
    assert [(a["epoch"], a["outcome"]) for a in attempts] == [(1, "tried again"), (2, "failed")]
    text = "\n".join(attempt_lines(attempts))
    assert "worker.lost: gone" in text
    assert "guest.crash: signal 11" in text
    assert "fenced" in text
    assert attempt_lines(attempts_of([event(1, "queued", "dispatched")])) == []


FAILURE = {"job_id": 3, "code": "limit.memory", "message": "m\x1b[31m", "at_ns": 5}


def breaker(state: str) -> dict[str, Any]:
    row = {
        "parser": "p@1",
        "artifact_hash": "a",
        "state": state,
        "opened_at_ns": 7 if state != "closed" else None,
        "failures": json.dumps([FAILURE]),
        "changed_at_ns": 7,
    }
    return described([row])[0]


def test_an_open_breaker_says_since_when_why_and_what_to_do() -> None:
    found = breaker("open")
    assert found["tries_again_at_ns"] == 7 + COOL_DOWN_NS
    line = line_of(found) or ""
    assert "is open since" in line
    assert "limit.memory" in line
    text = "\n".join(lines_of(found))
    assert "parser reset p" in text
    assert "job 3  limit.memory" in text
    assert "\x1b" not in text


def test_a_breaker_that_is_not_open_is_no_alarm() -> None:
    assert line_of(breaker("closed")) is None
    assert "half open" in (line_of(breaker("half_open")) or "")


def test_jobs_prints_open_breakers(home: Home) -> None:
    shut = rows(
        "parser artifact_hash state opened_at_ns failures changed_at_ns",
        ("p@1", "a", "open", 7, json.dumps([FAILURE]), 7),
    )
    empty = rows("job_id state")

    def answer(request: control.Request) -> list[control.Rows]:
        assert isinstance(request, control.Read)
        return [shut if request.view == "breakers" else empty]

    with fake_sentinel(home, answer):
        _, text = run(home, "jobs")
        _, document = run(home, "jobs", "--json")
    assert "breaker p@1 is open" in text
    assert json.loads(document)["breakers"][0]["failures"] == [FAILURE]
