"""Guard the hot loops of the native engine by counting instructions: `make instructions`.

Wall time on a shared machine says little about a change of five per cent; the number of instructions that a loop executes on a
fixed input is the same on every run. `valgrind --tool=callgrind` counts them, `counts.json` keeps what they were, and more
than 5 % beyond that is a failure that names the functions which grew. `make instructions UPDATE=1` takes the new counts.

Counts belong to a compiler and to the processor's instruction set as valgrind shows it: with others there is nothing to compare,
which is said and is no failure.
"""
