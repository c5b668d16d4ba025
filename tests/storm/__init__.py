"""A storm: real processes over real files, killed at random moments; afterwards every row is there exactly once.

history   the evidence and how it changes from step to step          strike   kills, cancels, retries, interruptions
arena     one sink in one mode: rounds of clients and strikes        verdict  what must hold when it is calm again
"""
