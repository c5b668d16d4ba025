"""The command line: it draws and asks, and decides nothing.

`docs/reference/cli.md` is generated from it.
"""
