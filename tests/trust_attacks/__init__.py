"""Every attack on trust that we know, one line each in `table.ATTACKS`, with the reason it must end with."""
