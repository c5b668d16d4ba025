//! The profile `sealed`: which system calls a guest may make, and what happens at all others.
//!
//! A guest has everything loaded and all its descriptors, so it needs no name of any file: no `open`,
//! no `stat`, no socket, no program, no process, no signal to others, no executable memory, no memory
//! that `RLIMIT_DATA` does not count.
//!
//! A compiled filter has one action for what it matches, so there are four, one on top of the other,
//! and the kernel takes the most restrictive answer:
//! 1. `KILL`: what no honest parser ever tries kills the process; the host sees SIGSYS.
//! 2. `clone3` does not exist (ENOSYS): its flags lie in memory that a filter cannot read, and the C
//!    library then uses `clone`.
//! 3. `tgkill` reaches this process only. This one is made in the guest, which knows its own id.
//! 4. The list of what is allowed; everything else fails with EPERM.
//!
//! Numbers of another architecture are killed by each filter. x32 numbers (bit 30) are on no list.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use crate::table::Arch;

/// Its name in the record.
pub const NAME: &str = "sealed";

/// Any arguments do.
pub const ALLOW: &[&str] = &[
    // Descriptors that are open already. `recvmsg` brings those of the sources.
    "close",
    "dup",
    "dup2",
    "dup3",
    "fstat",
    "getsockname",
    "getsockopt",
    "lseek",
    "poll",
    "ppoll",
    "pread64",
    "preadv",
    "preadv2",
    "pselect6",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "select",
    "shutdown",
    "write",
    "writev",
    // Memory; what could make a page executable is below.
    "brk",
    "madvise",
    "mremap",
    "munmap",
    // Threads of a decoder. `clone3` is refused by a filter of its own, and would be by this one too.
    "clone3",
    "exit",
    "exit_group",
    "futex",
    "gettid",
    "restart_syscall",
    "rseq",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    // Its own signals: a crash leaves a stack in the log.
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    // Time and chance.
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "getcpu",
    "getrandom",
    "gettimeofday",
    "nanosleep",
    "time",
    // Who and where it is.
    "getcwd", // always `/`
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getppid",
    "getrlimit",
    "getrusage",
    "getuid",
    "sysinfo",
    "times",
    "uname",
];

/// Only with some arguments: see `conditional`.
pub const CONDITIONAL: &[&str] = &[
    "clone",
    "fcntl",
    "ioctl",
    "mmap",
    "mprotect",
    "prctl",
    "prlimit64",
    "sendto",
    "tgkill",
];

/// Never by mistake: the process is killed. `clone` that makes a process is killed as well.
pub const KILL: &[&str] = &[
    // Network and other ways to talk to somebody.
    "accept",
    "accept4",
    "bind",
    "connect",
    "listen",
    "socket",
    "socketpair",
    // Work that the kernel does in our name, past the filters.
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    // Other processes.
    "execve",
    "execveat",
    "fork",
    "kcmp",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "vfork",
    // Namespaces and mounts.
    "chroot",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "setns",
    "umount2",
    "unshare",
    // Files by other means than their names.
    "fanotify_init",
    "memfd_secret",
    "name_to_handle_at",
    "open_by_handle_at",
    // The kernel itself.
    "acct",
    "add_key",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "finit_module",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "modify_ldt",
    "perf_event_open",
    "personality",
    "quotactl",
    "reboot",
    "request_key",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "userfaultfd",
];

const SIGABRT: u64 = 6;
// Values of `include/uapi/asm-generic/{ioctls,fcntl,mman}.h` and `sched.h`; the same on both architectures.
const PROT_EXEC: u64 = 4;
const MAP_SHARED: u64 = 1;
const MAP_PRIVATE: u64 = 2;
const MAP_TYPE: u64 = 0xF;
const MAP_ANONYMOUS: u64 = 0x20;
const CLONE_THREAD: u64 = 0x1_0000;
/// What C libraries ask for when they make a thread: VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID,
/// CHILD_CLEARTID.
const CLONE_PTHREAD: u64 = 0x003D_0F00;
/// Said by musl, and without a meaning since long.
const CLONE_DETACHED: u64 = 0x0040_0000;
const FCNTL: [u64; 6] = [0, 1, 2, 3, 4, 1030]; // DUPFD, GETFD, SETFD, GETFL, SETFL, DUPFD_CLOEXEC
const IOCTL: [u64; 5] = [0x5401, 0x541B, 0x5421, 0x5450, 0x5451]; // TCGETS, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
const PRCTL: [u64; 3] = [15, 16, 0x5356_4D41]; // SET_NAME, GET_NAME, SET_VMA (names of maps)

pub(crate) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The filters that are the same for every guest, in the order of their installation. The third
/// one, [`own_signals`], belongs between the last two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filters {
    /// What kills.
    pub kill: BpfProgram,
    /// What does not exist.
    pub absent: BpfProgram,
    /// What is allowed: the last one, since it does not allow `seccomp` itself.
    pub allow: BpfProgram,
}

/// Compile the filters for an architecture, which need not be this one's.
///
/// # Errors
/// Only when a list in this file is wrong, which a test would have seen.
pub fn sealed(arch: Arch) -> Result<Filters, BackendError> {
    stack(arch, killing(arch)?, allowing(arch)?)
}

/// What kills in every guest.
pub(crate) fn killing(arch: Arch) -> Result<Rules, BackendError> {
    let mut kill = unconditional(arch, KILL);
    let process = int(0, SeccompCmpOp::MaskedEq(CLONE_THREAD), 0)?;
    insert(
        arch,
        &mut kill,
        "clone",
        vec![SeccompRule::new(vec![process])?],
    );
    Ok(kill)
}

/// What every guest may do.
pub(crate) fn allowing(arch: Arch) -> Result<Rules, BackendError> {
    let mut allow = unconditional(arch, ALLOW);
    for name in CONDITIONAL {
        insert(arch, &mut allow, name, conditional(name)?);
    }
    Ok(allow)
}

/// Compile both lists, and the one between them.
pub(crate) fn stack(arch: Arch, kill: Rules, allow: Rules) -> Result<Filters, BackendError> {
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    Ok(Filters {
        kill: compile(arch, kill, SeccompAction::Allow, SeccompAction::KillProcess)?,
        absent: compile(
            arch,
            unconditional(arch, &["clone3"]),
            SeccompAction::Allow,
            errno(libc::ENOSYS),
        )?,
        allow: compile(arch, allow, errno(libc::EPERM), SeccompAction::Allow)?,
    })
}

/// A filter that keeps `tgkill` within the process `pid`.
///
/// # Errors
/// None that a test would not have seen.
pub fn own_signals(arch: Arch, pid: u32) -> Result<BpfProgram, BackendError> {
    let mut rules = Rules::new();
    let other = SeccompRule::new(vec![int(0, SeccompCmpOp::Ne, u64::from(pid))?])?;
    insert(arch, &mut rules, "tgkill", vec![other]);
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    compile(arch, rules, SeccompAction::Allow, refuse)
}

/// When a call is allowed: any one of the rules, each with all its conditions.
fn conditional(name: &str) -> Result<Vec<SeccompRule>, BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let any_of = |index: u8, values: &[u64]| {
        values
            .iter()
            .map(|value| SeccompRule::new(vec![int(index, Eq, *value)?]))
            .collect::<Result<Vec<_>, _>>()
    };
    match name {
        // A thread of this process as C libraries make it, and nothing that is only like it.
        "clone" => Ok(vec![SeccompRule::new(vec![int(
            0,
            MaskedEq(u64::from(u32::MAX) & !CLONE_DETACHED),
            CLONE_PTHREAD,
        )?])?]),
        "fcntl" => any_of(1, &FCNTL),
        "ioctl" => any_of(1, &IOCTL),
        // Never executable. Shared memory without a file is not counted by RLIMIT_DATA.
        "mmap" => [MAP_PRIVATE, MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED]
            .into_iter()
            .map(|kind| {
                SeccompRule::new(vec![
                    int(2, MaskedEq(PROT_EXEC), 0)?,
                    int(3, MaskedEq(MAP_TYPE | MAP_ANONYMOUS), kind)?,
                ])
            })
            .collect(),
        "mprotect" => Ok(vec![SeccompRule::new(vec![int(
            2,
            MaskedEq(PROT_EXEC),
            0,
        )?])?]),
        "prctl" => any_of(0, &PRCTL),
        // Its own limits, to read.
        "prlimit64" => Ok(vec![SeccompRule::new(vec![
            int(0, Eq, 0)?,
            pointer(2, Eq, 0)?,
        ])?]),
        // Over a connected socket, to nobody else.
        "sendto" => Ok(vec![SeccompRule::new(vec![pointer(4, Eq, 0)?])?]),
        // `abort()`. That it reaches only this process is the business of `own_signals`.
        "tgkill" => any_of(2, &[SIGABRT]),
        // An empty chain would allow every argument.
        _ => Err(BackendError::EmptyRule),
    }
}

/// A condition on an argument of which the kernel looks at the lower 32 bits only, as it does with
/// everything declared `int`. (Flags of `mmap` and `mprotect` are wider, and all known bits are in there.)
pub(crate) fn int(
    index: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
}

/// A condition on all 64 bits.
fn pointer(
    index: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, operator, value)
}

pub(crate) fn unconditional(arch: Arch, names: &[&str]) -> Rules {
    let mut rules = Rules::new();
    for name in names {
        insert(arch, &mut rules, name, Vec::new());
    }
    rules
}

/// Names that this architecture does not have are left out: their numbers mean something else there.
pub(crate) fn insert(arch: Arch, rules: &mut Rules, name: &str, chain: Vec<SeccompRule>) {
    if let Some(number) = arch.number(name) {
        rules.insert(number, chain);
    }
}

pub(crate) fn compile(
    arch: Arch,
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, otherwise, matched, arch.target())?.try_into()
}
