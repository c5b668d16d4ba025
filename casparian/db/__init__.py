"""The control database. Only the sentinel opens it."""
