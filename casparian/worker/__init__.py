"""The worker: runs one job at a time in confined guests and stages what they give.

It has no database and decides nothing about a job's life: it answers a dispatch with a receipt.
"""
