"""The control plane: the single mutation authority of a home.

main      boot: lock, database, recovery, event loop
state     what is alive, as values                events, effects   what comes in, what goes out
step      step(state, event) -> state, effects: pure; `requests`, `scheduling`, `committing`, `runs`, `totals` are its parts
io        all input and output, behind one class that a test can replace
planner   discovery and the plan (runs beside the loop)
records   a finished job as rows of the control database
catalog   what readers may see, from the control database
recovery  what a crash left behind
"""
