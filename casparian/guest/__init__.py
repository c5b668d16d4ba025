"""The confined process: the only place where a parser's code meets evidence.

`python -I -B -m casparian.guest --home DIR --channel-fd N` is the zygote; it forks one guest a request. Nothing here has keys,
configuration or a database, and nothing that a guest says is trusted by the host.
"""
