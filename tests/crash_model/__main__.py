"""Print the table of states: `python -m tests.crash_model [--large | --mutations]`."""

from __future__ import annotations

import sys

from tests.crash_model.mutations import MUTATIONS
from tests.crash_model.table import LARGE, SMALL, print_table

if __name__ == "__main__":
    if "--mutations" in sys.argv:
        print("| done wrong | in | violation |\n|---|---|---|")
        for mutation in MUTATIONS:
            found = mutation.expect or f"*no difference*: {mutation.why}"
            print(f"| {mutation.name} | {mutation.scenario.name} | {found} |")
    else:
        sys.exit(not print_table(LARGE if "--large" in sys.argv else SMALL))
