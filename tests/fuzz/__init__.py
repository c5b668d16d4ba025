"""Coverage-guided fuzzing of the native engine: `make fuzz`, or `python -m tests.fuzz --help`.

The targets are in `fuzz/`, what they check is in `native/core/tests/fuzz_checks`. An input that breaks a check is kept in
`build/fuzz/TARGET/findings`; once the fault is mended, it belongs into `native/core/tests/fuzz_inputs/TARGET`, under a name
that says what was wrong: the ordinary tests replay everything that lies there.
"""
