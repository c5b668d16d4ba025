"""Casparian: evidence in, typed tables out, and a proof of how each row came to be."""

__version__ = "0.1.0"

if "__compiled__" in globals():  # before anything else is imported: it may lie in the runtime
    from casparian import installation

    installation.join_runtime()
