"""When it was signed, whether it is revoked, and which release it is."""

from __future__ import annotations

from casparian.trust import state
from casparian.trust.origin import Origin
from casparian.trust.policy import ExpiryMode
from tests.factories.trust import DAY_NS, FILES, NOW, POLICY_ENDS, YEAR, statement_for
from tests.trust_attacks.table import OTHER, allowing, artifact_of, attack, verify

attack("asks for a newer program", "trust.runtime")(
    lambda o, _: verify(o, FILES, statement_for(FILES, o.alice, min_runtime="9.0.0"))
)
attack("the policy asks for a newer program", "trust.runtime")(
    lambda o, _: verify(
        o,
        FILES,
        statement_for(FILES, o.alice),
        trusted=o.under(o.policy(2, min_runtime="9.0.0")),
    )
)
attack("expired", "trust.expired")(
    lambda o, _: verify(o, FILES, statement_for(FILES, o.alice, expires_ns=NOW - DAY_NS))
)
attack("expired and deployed, in hard mode", "trust.expired")(
    lambda o, _: verify(
        o,
        FILES,
        statement_for(FILES, o.alice, expires_ns=NOW - DAY_NS),
        trusted=o.under(o.policy(2, expiry_mode=ExpiryMode.HARD)),
        deploying=False,
    )
)
attack("deployed under a policy that expired since", "trust.expired")(
    lambda o, _: verify(o, FILES, statement_for(FILES, o.alice), now_ns=POLICY_ENDS + YEAR)
)
attack("expired, run from a folder", "trust.expired")(
    lambda o, _: verify(
        o,
        FILES,
        statement_for(FILES, o.alice, expires_ns=NOW - DAY_NS),
        origin=Origin.PATH,
        deploying=False,
    )
)
attack("signed in the future", "trust.clock")(
    lambda o, _: verify(o, FILES, statement_for(FILES, o.alice, issued_ns=NOW + 2 * DAY_NS))
)


@attack("the clock wound back to before the expiry", "trust.expired")
def _(o, _):
    trusted = state.with_time(o.state, NOW + 10 * DAY_NS)  # that it was once
    late = state.now(trusted, clock_ns=NOW - YEAR)
    raw = statement_for(FILES, o.alice, expires_ns=NOW + 5 * DAY_NS)
    verify(o, FILES, raw, trusted=trusted, now_ns=late)


@attack("the clock wound back behind the newest signed time", "trust.expired")
def _(o, _):
    trusted = o.under(o.policy(2, issued_ns=NOW))
    late = state.now(trusted, clock_ns=0)
    raw = statement_for(FILES, o.alice, expires_ns=NOW - DAY_NS)
    verify(o, FILES, raw, trusted=trusted, now_ns=late)


@attack("a clock before the program was built", "trust.expired")
def _(o, _):
    raw = statement_for(FILES, o.release, expires_ns=NOW - DAY_NS)
    late = state.now(state.TrustState(), clock_ns=0, built_ns=NOW)
    verify(o, FILES, raw, origin=Origin.FIRST_PARTY, trusted=state.TrustState(), now_ns=late)


@attack("a revoked key", "trust.revoked_key")
def _(o, _):
    trusted = o.under(o.policy(2, revoked_keys=[o.alice.public.keyid]))
    verify(o, FILES, statement_for(FILES, o.alice), trusted=trusted)


@attack("a revoked key, deployed long ago", "trust.revoked_key")
def _(o, _):
    trusted = o.under(o.policy(2, revoked_keys=[o.alice.public.keyid]))
    verify(o, FILES, statement_for(FILES, o.alice), trusted=trusted, deploying=False)


@attack("one of two keys revoked", "trust.revoked_key")
def _(o, _):
    trusted = o.under(o.policy(2, revoked_keys=[o.bob.public.keyid]))
    verify(o, OTHER, statement_for(OTHER, o.bob, o.carol), trusted=trusted)


@attack("a revoked release key", "trust.revoked_key")
def _(o, _):
    trusted = o.under(o.policy(2, revoked_keys=[o.release.public.keyid]))
    verify(o, FILES, statement_for(FILES, o.release), trusted=trusted, origin=Origin.FIRST_PARTY)


@attack("a revoked artifact", "trust.revoked_artifact")
def _(o, _):
    trusted = o.under(o.policy(2, revoked_artifacts=[artifact_of(o)]))
    verify(o, FILES, statement_for(FILES, o.alice), trusted=trusted, deploying=False)


@attack("a revoked artifact, signed anew", "trust.revoked_artifact")
def _(o, _):
    trusted = o.under(o.policy(2, revoked_artifacts=[artifact_of(o)]))
    verify(o, FILES, statement_for(FILES, o.bob, o.carol, serial=9), trusted=trusted)


@attack("a revoked artifact, unsigned where that is allowed", "trust.revoked_artifact")
def _(o, _):
    trusted = o.under(o.policy(2, revoked_artifacts=[artifact_of(o)]))
    verify(o, FILES, None, trusted=allowing(o, trusted))


@attack("an older release of the program's parser, revoked", "trust.revoked_artifact")
def _(o, _):
    trusted = o.under(o.policy(2, revoked_artifacts=[artifact_of(o)]))
    verify(o, FILES, statement_for(FILES, o.release), trusted=trusted, origin=Origin.FIRST_PARTY)


attack("downgrade", "trust.rollback")(
    lambda o, _: verify(
        o,
        FILES,
        statement_for(FILES, o.alice, serial=5),
        trusted=state.with_serial(o.state, "evtx.lab", 6, "0" * 64),
    )
)
attack("another parser with a serial that is taken", "trust.fork")(
    lambda o, _: verify(
        o,
        FILES,
        statement_for(FILES, o.alice, serial=5),
        trusted=state.with_serial(o.state, "evtx.lab", 5, "0" * 64),
    )
)
attack("below the policy's least serial, deployed long ago", "trust.rollback")(
    lambda o, _: verify(
        o,
        FILES,
        statement_for(FILES, o.alice, serial=5),
        trusted=o.under(o.policy(2, min_serial={"evtx.lab": 6})),
        deploying=False,
    )
)
