"""The attacks: what a hostile parser does, and how its job has to end.

The numbers are those of the list that the confinement was designed against. `code` is the body of `attack(ctx)`; names in
capitals and `syscall` come from the arena's prelude. System call numbers are those of x86-64.

`ends` holds the reason codes that are right. DENIED: the attempt raised an error in the parser, which let it pass. KILLED: the
kernel ended the guest. An attack that notices the denial and carries on may commit; it is marked `may_commit`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

DENIED: Final = frozenset({"parser.exception"})
KILLED: Final = frozenset({"confinement.violation"})
CRASHED: Final = frozenset({"guest.crash"})
BRIDGE: Final = frozenset({"bridge.protocol", "bridge.truncated", "bridge.invalid_batch"})


class Attack(msgspec.Struct, frozen=True, kw_only=True):
    """One hostile parser."""

    number: int
    name: str
    code: str
    ends: frozenset[str]
    may_commit: bool = False
    changes: dict[str, Any] = {}

    @property
    def id(self) -> str:
        """Name of the test."""
        return f"{self.number:02}-{self.name.replace(' ', '-')}"


def _attack(number: int, name: str, ends: frozenset[str], code: str, **options: Any) -> Attack:
    may_commit = bool(options.pop("may_commit", False))
    return Attack(
        number=number, name=name, code=code, ends=ends, may_commit=may_commit, changes=options
    )


NETWORK: Final = (
    _attack(1, "tcp connect", KILLED, "socket.create_connection(('127.0.0.1', TCP_PORT), 1)"),
    _attack(
        2,
        "udp send",
        KILLED,
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', UDP_PORT))",
    ),
    _attack(
        3,
        "abstract unix connect",
        KILLED,
        "socket.socket(socket.AF_UNIX).connect('\\0' + ABSTRACT)",
    ),
    _attack(
        4, "netlink", KILLED, "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); return 'open'"
    ),
    _attack(5, "io_uring", KILLED, "return syscall(425, 8, 0)"),
)

FILES: Final = (
    _attack(6, "read a file of the same user", DENIED, "return open(SECRET_FILE).read()"),
    _attack(
        7,
        "environment of the parent",
        DENIED,
        "return open(f'/proc/{os.getppid()}/environ').read()",
    ),
    _attack(
        8,
        "reopen the input for writing",
        DENIED,
        "return os.open(f'/proc/self/fd/{input_descriptor()}', os.O_RDWR)",
    ),
    _attack(9, "write to the input", DENIED, "return os.write(input_descriptor(), b'tampered')"),
    _attack(10, "create a file", DENIED, "open(OPEN_FOLDER + '/evil', 'w').write('x')"),
    _attack(11, "chmod", DENIED, "os.chmod(SECRET_FILE, 0o777)"),
    _attack(12, "utime", DENIED, "os.utime(SECRET_FILE, (1, 1))"),
    _attack(13, "setxattr", DENIED, "os.setxattr(SECRET_FILE, 'user.x', b'1')"),
    _attack(14, "unlink", DENIED, "os.unlink(SECRET_FILE)"),
    _attack(15, "rename", DENIED, "os.rename(SECRET_FILE, OPEN_FOLDER + '/stolen')"),
    _attack(16, "symlink", DENIED, "os.symlink('/etc/passwd', OPEN_FOLDER + '/link')"),
    _attack(17, "chdir and list", DENIED, "os.chdir('/'); return os.listdir('.')"),
    _attack(18, "stat of host paths", DENIED, "return os.stat(SECRET_FILE).st_size"),
    _attack(
        19,
        "plant code",
        DENIED,
        "open(os.path.dirname(os.__file__) + '/casparian_evil.py', 'w').write('x')",
    ),
    _attack(20, "lock the evidence", DENIED, "fcntl.flock(input_descriptor(), fcntl.LOCK_EX)"),
    _attack(21, "open_by_handle_at", KILLED, "return syscall(304, 0, 0, 0)"),
)

PROCESSES: Final = (
    _attack(22, "fork", KILLED, "for _ in range(50): os.fork()"),
    _attack(
        23,
        "execve",
        KILLED | DENIED,
        "os.execv('/bin/sh', ['sh', '-c', 'id > ' + OPEN_FOLDER + '/id'])",
    ),
    _attack(
        24,
        "subprocess",
        KILLED | DENIED,
        "return subprocess.check_output(['/usr/bin/touch', OPEN_FOLDER + '/touched'])",
    ),
    _attack(
        25,
        "memfd and exec",
        KILLED | DENIED,
        "fd = os.memfd_create('x'); os.write(fd, b'#!/bin/sh\\nid\\n'); os.execve(fd, ['x'], {})",
    ),
    _attack(
        26,
        "thread bomb",
        DENIED | {"limit.memory"},
        """
        waiting, count = threading.Event(), 0
        while True:
            threading.Thread(target=waiting.wait, daemon=True).start()
            count += 1
            if count > 5_000:
                return 'five thousand threads'
        """,
    ),
    _attack(27, "kill the parent", DENIED, "os.kill(os.getppid(), 9)"),
    _attack(28, "kill everybody", DENIED, "os.kill(-1, 9)"),
    _attack(29, "ptrace the parent", KILLED, "return syscall(101, 16, os.getppid(), 0, 0)"),
    _attack(
        30, "read the parent's memory", KILLED, "return syscall(310, os.getppid(), 0, 0, 0, 0, 0)"
    ),
    _attack(31, "user namespace", KILLED, "return syscall(272, 0x10000000)"),
    _attack(32, "clear the death signal", DENIED, "return syscall(157, 1, 0, 0, 0, 0)"),
    _attack(33, "own session", DENIED, "os.setsid()"),
    _attack(
        34,
        "raise its limits",
        DENIED,
        "resource.setrlimit(resource.RLIMIT_DATA, (1 << 40, 1 << 40))",
    ),
)

RESOURCES: Final = (
    _attack(
        35,
        "memory bomb",
        frozenset({"limit.memory"}),
        """
        hoard = []
        while True:
            hoard.append(bytearray(16 << 20))
        """,
    ),
    _attack(
        36, "shared anonymous memory", DENIED, "mmap.mmap(-1, 2 << 30); return 'two gibibytes'"
    ),
    _attack(
        37,
        "memory file",
        DENIED,
        "fd = os.memfd_create('x'); os.ftruncate(fd, 1 << 30); return 'one gibibyte'",
    ),
    _attack(
        38,
        "arrow pool bomb",
        frozenset({"limit.memory"}),
        """
        import pyarrow
        hoard = []
        while True:
            hoard.append(pyarrow.allocate_buffer(64 << 20))
        """,
    ),
    _attack(
        39,
        "endless loop",
        frozenset({"limit.cpu"}),
        "while True: pass",
        cpu_seconds=1,
        idle_seconds=60,
    ),
    _attack(
        40,
        "loop that ignores the signal",
        frozenset({"limit.cpu"}),
        """
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        while True:
            pass
        """,
        cpu_seconds=1,
        idle_seconds=60,
    ),
    _attack(
        41,
        "regular expression",
        frozenset({"limit.cpu"}),
        "re.match(r'(a+)+$', 'a' * 40 + 'b')",
        cpu_seconds=1,
        idle_seconds=60,
    ),
    _attack(
        42,
        "sleep for ever",
        frozenset({"limit.idle", "limit.wall"}),
        "time.sleep(1_000_000)",
        idle_seconds=1,
    ),
    _attack(
        43,
        "stop itself",
        DENIED | {"limit.idle"},
        "signal.raise_signal(signal.SIGSTOP)",
        idle_seconds=1,
    ),
    _attack(44, "null pointer", CRASHED, "ctypes.string_at(0)"),
    _attack(45, "abort", CRASHED, "os.abort()"),
    _attack(
        46,
        "endless recursion",
        frozenset({"limit.memory", "guest.crash", "limit.cpu", "parser.exception", "limit.idle"}),
        """
        sys.setrecursionlimit(10**9)
        def deeper(n):
            return deeper(n + 1) + 1
        deeper(0)
        """,
        idle_seconds=3,
    ),
    _attack(47, "exit without an end", BRIDGE, "os._exit(0)"),
    _attack(
        48,
        "writable and executable memory",
        DENIED,
        "mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,"
        " mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
    ),
    _attack(
        49,
        "flood of output",
        frozenset({"limit.log"}),
        """
        block = b'x' * 65_536
        while True:
            os.write(1, block)
        """,
        cpu_seconds=30,
    ),
    _attack(
        50,
        "flood of rows",
        frozenset({"limit.rows", "limit.output"}),
        """
        def attack(ctx):
            raise RuntimeError('unused')
        def parse(ctx):
            while True:
                yield "loot", [Row(0, 1, {"text": "x" * 100})] * 1000
        """,
        cpu_seconds=60,
    ),
)

BRIDGE_ABUSE: Final = (
    _attack(
        51,
        "frame of an impossible length",
        BRIDGE,
        "os.write(3, struct.pack('!BBHQI', 1, 50, 1, 1, 2**32 - 1)); time.sleep(60)",
    ),
    _attack(52, "garbage frames", BRIDGE, "os.write(3, b'garbage!' * 512); time.sleep(60)"),
    _attack(
        53,
        "half a frame",
        frozenset({"limit.idle"}),
        "os.write(3, struct.pack('!BBHQI', 1, 50, 1, 1, 1000) + b'x' * 10); time.sleep(60)",
        idle_seconds=1,
    ),
    _attack(
        54,
        "descriptor to the host",
        DENIED | KILLED,
        "socket.send_fds(socket.socket(fileno=os.dup(3)), [b'x'], [input_descriptor()])",
    ),
    _attack(
        55,
        "close the bridge and spin",
        BRIDGE | {"limit.cpu"},
        """
        os.close(3)
        while True:
            pass
        """,
    ),
    _attack(
        56,
        "rows after the end",
        BRIDGE,
        """
        import msgspec
        from casparian.protocol import frame
        from casparian.protocol.guest import SourceEnd
        end = msgspec.msgpack.encode(SourceEnd(index=0, rows={}))
        for number in range(1, 4):
            os.write(3, frame.encode(frame.Opcode.BRIDGE_END, end, number=number))
        os.write(3, frame.encode(frame.Opcode.BRIDGE_BATCH, b'12345678', number=1, flags=1))
        """,
    ),
)

DECEPTION: Final = (
    _attack(
        60,
        "forged lineage column in a batch",
        frozenset({"parser.output", "parser.exception", "bridge.invalid_batch"}),
        """
        def attack(ctx):
            raise RuntimeError('unused')
        def parse(ctx):
            import pyarrow
            yield "loot", pyarrow.record_batch({
                "@offset": pyarrow.array([0], pyarrow.uint64()),
                "@length": pyarrow.array([1], pyarrow.uint64()),
                "@flags": pyarrow.array([0], pyarrow.uint32()),
                "text": ["forged"],
                "_cf_source_hash": ["0" * 64],
            })
        """,
    ),
    _attack(
        61,
        "rows for a table of another parser",
        frozenset({"parser.output", "parser.exception"}),
        """
        def attack(ctx):
            raise RuntimeError('unused')
        def parse(ctx):
            yield "syslog_events", Row(0, 1, {"text": "forged"})
        """,
    ),
    _attack(
        65,
        "behaves until the third line",
        KILLED,
        """
        def attack(ctx):
            os.fork()
        def parse(ctx):
            for number in range(3):
                yield "loot", Row(number, 1, {"text": "honest so far"})
            attack(ctx)
        """,
    ),
    _attack(
        71,
        "patched libraries in the guest",
        frozenset({"bridge.protocol", "bridge.invalid_batch", "parser.exception", "parser.output"}),
        """
        def attack(ctx):
            raise RuntimeError('unused')
        def parse(ctx):
            import casparian.protocol.frame as frame
            import casparian.guest.bridge as bridge
            frame.VERSION = 99
            real = frame.encode_header
            frame.encode_header = lambda opcode, length, number=0, flags=0: (
                real(opcode, length, number=number + 1, flags=flags))
            frame.encode = lambda opcode, payload=b'', number=0, flags=0: (
                frame.encode_header(opcode, len(payload), number=number, flags=flags) + payload)
            bridge.encode_header = frame.encode_header
            bridge.encode = frame.encode
            bridge.Bridge.send_batch = lambda self, flags, batch: os.write(3, b"x" * 64) and []
            yield "loot", Row(0, 1, {"text": "patched"})
        """,
    ),
    _attack(
        73,
        "games with the abort signal",
        frozenset({"parser.exception", "guest.crash", "limit.cpu"}),
        """
        signal.signal(signal.SIGABRT, lambda *_: None)
        signal.raise_signal(signal.SIGABRT)
        signal.raise_signal(signal.SIGKILL)
        """,
    ),
)

ALL: Final = (*NETWORK, *FILES, *PROCESSES, *RESOURCES, *BRIDGE_ABUSE, *DECEPTION)
