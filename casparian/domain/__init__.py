"""Frozen values and pure rules: no clock, no disk, no database."""
