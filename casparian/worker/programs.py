"""The program of a parser that is an executable, from its verified files."""

from __future__ import annotations

from collections.abc import Mapping

from casparian.contracts import elf
from casparian.display import show
from casparian.domain.trust import TrustRecord
from casparian.protocol.worker import ParserTask
from casparian.worker.faults import JobFault


def program_of(files: Mapping[str, bytes], parser: ParserTask, trust: TrustRecord) -> bytes:
    """The bytes that a guest becomes.

    Raises:
        JobFault: `trust.unsigned`: nobody signed it, and no setting or approval lets such a program run.
        JobFault: `parser.executable`: there is no such file, it is no static program, or it is one for another processor.
    """
    if trust.is_unsigned:
        raise JobFault(
            "trust.unsigned",
            f"the program of `{show(parser.name)}` is unsigned; unsigned programs never run, whatever is allowed",
            transient=False,
        )
    content = files.get(parser.entry)
    problem = "is not in the parser's folder" if content is None else elf.problem_of(content)
    if content is not None and not problem and not elf.is_for_this_machine(content):
        problem = "is made for another processor"
    if content is None or problem:
        raise JobFault("parser.executable", f"the program `{show(parser.entry)}` {problem}")
    return content
