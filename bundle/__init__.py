"""Builds the appliance: the version tree, the stick, and what vouches for them. Not part of the installed program."""
