"""Deterministic simulation of the sentinel: one seed is one history, and nothing in it is real.

jobs         specifications and receipts of the simulated evidence
disk         stages, output files and sink databases as values
workers      worker processes       clients     front ends and what they were told
world        one history: the pure `step`, the model of the control database, and everything around them
faults       what may go wrong      histories   drawing, repeating and shortening histories
invariants   what must hold after each step
mutations    wrong products, in which the simulation must find what is wrong

`python -m tests.simulation --seeds 10000`
"""
