"""Casparian: evidence in, typed tables out, and a proof of how each row came to be."""

__version__ = "0.1.0"
