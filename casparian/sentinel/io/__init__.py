"""All input and output of the sentinel, behind one class.

    SentinelIO   waits for events and carries effects out      Clients   the Control API's sockets
    Workers      worker processes and their channels          Writer    the database's single writer thread
    tasks        plan, promote, publish, read: beside the loop, each on a thread of its own kind

A test replaces `SentinelIO` by a simulated world: `wait` and `perform` are its whole surface.
"""

from casparian.sentinel.io.world import SentinelIO

__all__ = ["SentinelIO"]
