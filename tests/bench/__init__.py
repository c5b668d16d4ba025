"""The benchmark of the engine and of whole runs, beside the readers that people use today: `make bench`.

    python -m tests.bench --stages evtx,directory --runs 5 --size-mb 256

Each stage measures our side and the baselines in turn (A B A B …), so that whatever else the machine does falls on all of
them alike, and says first whether all found the same records. A ratio is taken within each turn; its least, median and
greatest are printed beside its target and written to `build/bench.json`.

`inputs` makes what is read, `processes` runs and measures a command, `ours` and `readers` are the commands (the second
belongs to an environment of its own, which knows nothing of Casparian), `stages` and `stages_runs` put them side by side,
`targets` says what the ratios should be, `report` prints them and `page` draws them.
"""
