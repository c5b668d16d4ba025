"""The tape: an append-only, hash-chained record of every transition, decision and approval."""
