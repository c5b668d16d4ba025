//! Every call of both tables, through the compiled filters, as the kernel would combine them.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[allow(dead_code)]
mod bpf_machine;

use std::collections::BTreeSet;

use bpf_machine::{ENOSYS, EPERM, GUEST_PID, Guest, Verdict};
use casparian_confine::Arch;
use casparian_confine::profile::{ALLOW, CONDITIONAL, KILL};

/// Attacks by name, with arguments as an attacker would give them. What is not here is covered by
/// `everything_else_is_denied`.
const KILLED: &[(&str, &[u64])] = &[
    ("socket", &[2, 1, 0]),
    ("socketpair", &[1, 1, 0]),
    ("connect", &[3, 0x7000, 16]),
    ("bind", &[3, 0x7000, 16]),
    ("listen", &[3, 1]),
    ("accept4", &[3, 0, 0, 0]),
    ("io_uring_setup", &[8, 0x7000]),
    ("io_uring_enter", &[3, 1, 1, 0]),
    ("ptrace", &[16, 1]),
    ("process_vm_readv", &[1, 0x7000, 1, 0x7000, 1, 0]),
    ("process_vm_writev", &[1, 0x7000, 1, 0x7000, 1, 0]),
    ("pidfd_getfd", &[3, 0, 0]),
    ("mount", &[0, 0x7000, 0, 4096, 0]),
    ("umount2", &[0x7000, 2]),
    ("pivot_root", &[0x7000, 0x7000]),
    ("chroot", &[0x7000]),
    ("unshare", &[0x1000_0000]),
    ("setns", &[3, 0]),
    ("bpf", &[5, 0x7000, 64]),
    ("userfaultfd", &[0]),
    ("keyctl", &[0, 0]),
    ("add_key", &[0, 0]),
    ("request_key", &[0, 0]),
    ("perf_event_open", &[0x7000, 0, 0, 0, 0]),
    ("open_by_handle_at", &[3, 0x7000, 0]),
    ("execve", &[0x7000, 0, 0]),
    ("execveat", &[3, 0x7000, 0, 0, 0x1000]),
    ("fork", &[]),
    ("vfork", &[]),
    ("clone", &[17]),                    // fork() of the C library: SIGCHLD
    ("clone", &[0x0120_0011]),           // with CHILD_SETTID and CHILD_CLEARTID
    ("clone", &[0x4000_0000 | 17]),      // into a network namespace
    ("clone", &[0xFFFF_FFFF_0000_0011]), // bits that the kernel does not look at
    ("kexec_load", &[0, 0, 0, 0]),
    ("init_module", &[0, 0, 0]),
    ("finit_module", &[3, 0, 0]),
    ("personality", &[0x0040_0000]), // READ_IMPLIES_EXEC
    ("iopl", &[3]),
    ("ioperm", &[0, 1, 1]),
    ("modify_ldt", &[1, 0x7000, 16]),
    ("memfd_secret", &[0]),
];

const DENIED: &[(&str, &[u64])] = &[
    ("open", &[0x7000, 0]),
    ("openat", &[0xFFFF_FF9C, 0x7000, 0]),
    ("openat2", &[3, 0x7000, 0x7000, 24]),
    ("creat", &[0x7000, 0]),
    ("stat", &[0x7000, 0x7000]),
    ("lstat", &[0x7000, 0x7000]),
    ("newfstatat", &[3, 0x7000, 0x7000, 0x1000]),
    ("fstatat", &[3, 0x7000, 0x7000, 0x1000]), // what the table of aarch64 calls newfstatat
    ("statx", &[3, 0x7000, 0x1000, 0, 0x7000]),
    ("access", &[0x7000, 0]),
    ("faccessat2", &[3, 0x7000, 0, 0]),
    ("readlink", &[0x7000, 0x7000, 99]),
    ("readlinkat", &[3, 0x7000, 0x7000, 99]),
    ("getdents64", &[3, 0x7000, 99]),
    ("chdir", &[0x7000]),
    ("fchdir", &[3]),
    ("chmod", &[0x7000, 0o777]),
    ("fchmod", &[4, 0o777]),
    ("fchown", &[4, 0, 0]),
    ("utimensat", &[4, 0, 0, 0]),
    ("fsetxattr", &[4, 0x7000, 0x7000, 1, 0]),
    ("unlink", &[0x7000]),
    ("unlinkat", &[3, 0x7000, 0]),
    ("renameat2", &[3, 0x7000, 3, 0x7000, 0]),
    ("symlinkat", &[0x7000, 3, 0x7000]),
    ("linkat", &[3, 0x7000, 3, 0x7000, 0]),
    ("mkdirat", &[3, 0x7000, 0o700]),
    ("truncate", &[0x7000, 0]),
    ("ftruncate", &[4, 0]),
    ("fallocate", &[4, 0, 0, 1]),
    ("flock", &[4, 2]),
    ("memfd_create", &[0x7000, 0]),
    ("pipe2", &[0x7000, 0]),
    ("kill", &[1, 9]),
    ("tkill", &[1, 9]),
    ("tgkill", &[GUEST_PID as u64, GUEST_PID as u64, 9]),
    ("tgkill", &[GUEST_PID as u64, GUEST_PID as u64, 19]),
    ("tgkill", &[1, 1, 6]), // abort() of somebody else
    ("rt_sigqueueinfo", &[1, 9, 0x7000]),
    ("rt_tgsigqueueinfo", &[1, 1, 9, 0x7000]),
    ("prctl", &[1, 0]),  // PR_SET_PDEATHSIG
    ("prctl", &[4, 1]),  // PR_SET_DUMPABLE
    ("prctl", &[22, 1]), // PR_SET_SECCOMP
    ("seccomp", &[1, 0, 0x7000]),
    ("landlock_create_ruleset", &[0, 0, 1]),
    ("setrlimit", &[2, 0x7000]),
    ("prlimit64", &[0, 2, 0x7000, 0]),
    ("prlimit64", &[0, 2, 0x1_0000_0000, 0]), // a pointer whose lower half is 0
    ("prlimit64", &[1, 2, 0, 0x7000]),
    ("setsid", &[]),
    ("setpgid", &[0, 0]),
    ("setuid", &[0]),
    ("setresuid", &[0, 0, 0]),
    ("setgroups", &[0, 0]),
    ("capset", &[0x7000, 0x7000]),
    ("sendmsg", &[3, 0x7000, 0]),
    ("sendmmsg", &[3, 0x7000, 1, 0]),
    ("sendto", &[3, 0x7000, 1, 0, 0x7000, 16]),
    ("sendto", &[3, 0x7000, 1, 0, 0x1_0000_0000, 16]),
    ("mmap", &[0, 4096, 7, 0x22]), // RWX
    ("mmap", &[0, 4096, 4, 0x22]),
    ("mmap", &[0, 4096, 5, 2, 4, 0]), // a library
    ("mmap", &[0, 4096, 3, 0x21]),    // shared and anonymous: no limit counts it
    ("mmap", &[0, 4096, 3, 0x23]),    // MAP_SHARED_VALIDATE
    ("mprotect", &[0x7000, 4096, 5]),
    ("mprotect", &[0x7000, 4096, 7]),
    ("pkey_mprotect", &[0x7000, 4096, 7, 0]),
    ("remap_file_pages", &[0x7000, 4096, 0, 0, 0]),
    ("shmget", &[0, 1 << 30, 0o1600]),
    ("shmat", &[0, 0, 0]),
    ("msgget", &[0, 0o1600]),
    ("semget", &[0, 1, 0o1600]),
    ("mq_open", &[0x7000, 0, 0, 0]),
    ("mlock", &[0x7000, 4096]),
    ("io_setup", &[1, 0x7000]),
    ("clone", &[0x1_0000 | 0x4000_0000]), // a thread in another network
    ("clone", &[0x1_0000 | 0x2000_0000]),
    ("fcntl", &[4, 8, 1]),    // F_SETOWN
    ("fcntl", &[4, 1024, 1]), // F_SETLEASE
    ("fcntl", &[4, 6, 0x7000]),
    ("ioctl", &[0, 0x5412, 0x7000]), // TIOCSTI
    ("ioctl", &[4, 0x5418, 0]),
    ("sched_setaffinity", &[0, 8, 0x7000]),
    ("setpriority", &[0, 0, 19]),
    ("vmsplice", &[4, 0x7000, 1, 0]),
    ("splice", &[4, 0, 3, 0, 1, 0]),
    ("sendfile", &[3, 4, 0, 1]),
    ("eventfd2", &[0, 0]),
    ("timerfd_create", &[0, 0]),
    ("inotify_init1", &[0]),
];

/// What interpreter, Arrow, the decoders and the bridge do.
const NEEDED: &[(&str, &[u64])] = &[
    ("read", &[4, 0x7000, 99]),
    ("pread64", &[4, 0x7000, 99, 1 << 40]),
    ("preadv", &[4, 0x7000, 1, 0]),
    ("preadv2", &[4, 0x7000, 1, 0, 0]),
    ("lseek", &[4, 0, 2]),
    ("fstat", &[4, 0x7000]),
    ("write", &[1, 0x7000, 99]),
    ("writev", &[3, 0x7000, 2]),
    ("sendto", &[3, 0x7000, 99, 0x4000, 0, 0]),
    ("recvmsg", &[3, 0x7000, 0x4000_0000]),
    ("recvfrom", &[3, 0x7000, 99, 0, 0, 0]),
    ("ppoll", &[0x7000, 1, 0, 0, 8]),
    ("close", &[4]),
    ("fcntl", &[4, 1030, 0]),
    ("fcntl", &[4, 3]),
    ("ioctl", &[1, 0x5401, 0x7000]),
    ("mmap", &[0, 1 << 30, 3, 0x22]),
    ("mmap", &[0, 1 << 20, 0, 0x2_0022]), // the stack of a thread
    ("mmap", &[0, 4096, 1, 1, 4, 0]),     // evidence, to read
    ("mprotect", &[0x7000, 4096, 3]),
    ("mremap", &[0x7000, 4096, 8192, 1]),
    ("munmap", &[0x7000, 4096]),
    ("madvise", &[0x7000, 4096, 4]),
    ("brk", &[0]),
    ("clone", &[0x003D_0F00]), // pthread_create of the C library
    ("clone", &[0x007D_0F00]), // of musl
    ("futex", &[0x7000, 128, 1]),
    ("set_robust_list", &[0x7000, 24]),
    ("rseq", &[0x7000, 32, 0, 0x5305_3053]),
    ("prctl", &[15, 0x7000]),
    ("tgkill", &[GUEST_PID as u64, GUEST_PID as u64 + 1, 6]),
    ("prlimit64", &[0, 2, 0, 0x7000]),
    ("rt_sigaction", &[11, 0x7000, 0, 8]),
    ("rt_sigreturn", &[]),
    ("sigaltstack", &[0x7000, 0]),
    ("getrandom", &[0x7000, 16, 0]),
    ("clock_gettime", &[0, 0x7000]),
    ("clock_nanosleep", &[0, 0, 0x7000, 0]),
    ("getcwd", &[0x7000, 99]),
    ("exit", &[0]),
    ("exit_group", &[0]),
];

fn guests() -> [Guest; 2] {
    Arch::ALL.map(Guest::new)
}

fn check(calls: &[(&str, &[u64])], expected: Verdict) {
    for guest in guests() {
        let mut seen = 0;
        for (name, arguments) in calls {
            if let Some(verdict) = guest.call(name, arguments) {
                assert_eq!(
                    verdict, expected,
                    "{name}{arguments:x?} on {:?}",
                    guest.arch
                );
                seen += 1;
            }
        }
        // aarch64 lacks the old calls only.
        assert!(
            seen * 10 >= calls.len() * 7,
            "{seen} of {} on {:?}",
            calls.len(),
            guest.arch
        );
    }
}

#[test]
fn attacks_kill_the_process() {
    check(KILLED, Verdict::Kill);
}

#[test]
fn other_attempts_are_denied() {
    check(DENIED, EPERM);
}

#[test]
fn what_a_guest_needs_is_allowed() {
    check(NEEDED, Verdict::Allow);
}

#[test]
fn only_what_a_c_library_asks_for_makes_a_thread() {
    const PTHREAD: u64 = 0x003D_0F00;
    const THREAD: u64 = 0x1_0000;
    const DETACHED: u64 = 0x0040_0000;
    for guest in guests() {
        for bit in (0..32).map(|place| 1_u64 << place) {
            let verdict = guest.call("clone", &[PTHREAD ^ bit]);
            let expected = match bit {
                THREAD => Verdict::Kill, // a process
                DETACHED => Verdict::Allow,
                _ => EPERM,
            };
            assert_eq!(verdict, Some(expected), "{bit:#x} on {:?}", guest.arch);
        }
        // A signal at the end is what a child has, not a thread.
        assert_eq!(guest.call("clone", &[PTHREAD | 17]), Some(EPERM));
        assert_eq!(guest.call("clone", &[THREAD]), Some(EPERM));
    }
}

#[test]
fn clone3_does_not_exist() {
    check(&[("clone3", &[0x7000, 88])], ENOSYS);
}

#[test]
fn everything_else_is_denied() {
    let listed: BTreeSet<_> = [ALLOW, CONDITIONAL, KILL].concat().into_iter().collect();
    for guest in guests() {
        for (number, name) in guest.arch.all() {
            if !listed.contains(name) {
                let verdict = guest.number(u32::try_from(number).unwrap(), &[]);
                assert_eq!(verdict, EPERM, "{name} on {:?}", guest.arch);
            }
        }
        for unknown in [600, 1023, 4096, u32::MAX] {
            assert_eq!(
                guest.number(unknown, &[]),
                EPERM,
                "{unknown} on {:?}",
                guest.arch
            );
        }
    }
}

#[test]
fn what_kills_kills_whatever_the_arguments() {
    for guest in guests() {
        for name in KILL {
            for arguments in [[0; 6], [1; 6], [u64::MAX; 6]] {
                let verdict = guest.call(name, &arguments);
                assert!(
                    matches!(verdict, None | Some(Verdict::Kill)),
                    "{name} on {:?}",
                    guest.arch
                );
            }
        }
    }
}

#[test]
fn foreign_architectures_are_killed() {
    const I386: u32 = 0x4000_0003;
    for guest in guests() {
        for arch in [I386, 0, 0xC000_00F3] {
            for number in 0..500 {
                assert_eq!(guest.judge(number, arch, &[]), Verdict::Kill);
            }
        }
    }
}

#[test]
fn x32_numbers_are_denied() {
    let guest = Guest::new(Arch::X86_64);
    for number in 0..1024 {
        let verdict = guest.number(0x4000_0000 | number, &[]);
        assert!(matches!(verdict, EPERM | Verdict::Kill), "{number}");
    }
}

#[test]
fn executable_and_uncounted_memory_is_denied_whatever_other_bits_say() {
    for guest in guests() {
        for extra in 0..32_u64 {
            let noise = (extra & 3) | (extra >> 2) << 24;
            assert_eq!(guest.call("mprotect", &[0, 4096, 4 | noise]), Some(EPERM));
            assert_eq!(
                guest.call("mmap", &[0, 4096, 4 | noise, 0x22 | noise << 8]),
                Some(EPERM)
            );
            let flags = 0x21 | (extra << 8); // shared and anonymous
            assert_eq!(guest.call("mmap", &[0, 4096, 3, flags]), Some(EPERM));
        }
    }
}

#[test]
fn every_name_in_the_lists_is_a_call_and_in_one_list_only() {
    let mut seen = BTreeSet::new();
    for name in [ALLOW, CONDITIONAL, KILL].concat() {
        assert!(seen.insert(name), "{name} is listed twice");
        assert!(
            Arch::ALL.iter().any(|arch| arch.number(name).is_some()),
            "{name} is no call"
        );
    }
    for (name, _) in [KILLED, DENIED, NEEDED].concat() {
        let known = Arch::ALL.iter().any(|arch| arch.number(name).is_some());
        assert!(known || name == "fstatat", "{name} is no call");
    }
}

#[test]
fn the_tables_are_those_of_the_kernel() {
    // arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h
    let known = [
        ("read", 0, 63),
        ("socket", 41, 198),
        ("execve", 59, 221),
        ("seccomp", 317, 277),
    ];
    for (name, x86_64, aarch64) in known {
        assert_eq!(Arch::X86_64.number(name), Some(x86_64));
        assert_eq!(Arch::Aarch64.number(name), Some(aarch64));
    }
    assert_eq!(Arch::X86_64.number("open"), Some(2));
    assert_eq!(Arch::Aarch64.number("open"), None);
    assert_eq!(Arch::Aarch64.number("clone3"), Some(435));
}
