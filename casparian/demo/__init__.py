"""Evidence made from nothing: for `casparian demo`, for the tests, for trying a parser out.

`evtx_writer` writes event logs, `syslog_writer` text logs, `damage` breaks them in known ways, and
`world` builds a small case out of all three and says what a complete reading of it must find.
Standard library only; the same seed gives the same bytes on every machine.
"""
