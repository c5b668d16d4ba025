"""Worlds to build for tests, and what a correct reader makes of them."""
