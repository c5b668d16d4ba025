"""A worker that lets every parser run: what `trusting_sentinel.py` starts. A program of the tests, never installed."""

from __future__ import annotations

import runpy

from casparian.trust import verdict
from tests.support.allow import anything

verdict.verify_files = lambda _home, **_named: anything()

if __name__ == "__main__":
    runpy.run_module("casparian.worker", run_name="__main__", alter_sys=True)
