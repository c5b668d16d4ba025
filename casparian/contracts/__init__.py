"""Contracts: read them, tighten them, check rows against them."""
