"""Numbers that cross a process boundary and are recorded: what a BIGINT column can hold."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

INTEGER_MAX: Final = 2**63 - 1
INTEGER_MIN: Final = -(2**63)

Count = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]  # checked by every decoder
