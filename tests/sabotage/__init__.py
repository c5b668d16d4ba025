"""A decoder that loses records on purpose, and the ledger that must notice."""
