//! The filters of guests that become a program, and of zygotes that import packages, as the kernel would combine them.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[allow(dead_code)]
mod bpf_machine;

use bpf_machine::{EPERM, Guest, Verdict};
use casparian_confine::Arch;
use casparian_confine::imports::CHANGES;
use casparian_confine::profile::KILL;
use casparian_confine::program::PROGRAM_FD;

const EMPTY_PATH: u64 = 0x1000;
const FD: u64 = PROGRAM_FD as u64;

fn programs() -> [Guest; 2] {
    Arch::ALL.map(Guest::program)
}

#[test]
fn only_one_form_of_execveat_asks_and_every_other_kills() {
    for guest in programs() {
        let ask = |fd, flags| guest.call("execveat", &[fd, 0x7000, 0x7000, 0, flags]);
        assert_eq!(ask(FD, EMPTY_PATH), Some(Verdict::Ask));
        for fd in (0..64)
            .filter(|fd| *fd != FD)
            .chain([u64::from(u32::MAX) - 99])
        {
            assert_eq!(ask(fd, EMPTY_PATH), Some(Verdict::Kill), "{fd}");
        }
        for bit in (0..32).map(|place| 1_u64 << place) {
            assert_eq!(ask(FD, EMPTY_PATH ^ bit), Some(Verdict::Kill), "{bit:#x}");
        }
        // The path lies in memory that no filter sees: so whoever asks is asked about, whatever it points to.
        for path in [0, 1, u64::MAX] {
            let verdict = guest.call("execveat", &[FD, path, 0, 0, EMPTY_PATH]);
            assert_eq!(verdict, Some(Verdict::Ask));
        }
    }
}

#[test]
fn beside_that_and_its_threads_a_program_may_do_what_every_guest_may() {
    for (program, sealed) in programs().into_iter().zip(Arch::ALL.map(Guest::new)) {
        for (number, name) in program.arch.all() {
            if name == "execveat" || name == "arch_prctl" {
                continue;
            }
            let number = u32::try_from(number).unwrap();
            for arguments in [[0; 6], [1; 6], [5; 6], [0x1002; 6], [u64::MAX; 6]] {
                assert_eq!(
                    program.number(number, &arguments),
                    sealed.number(number, &arguments),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn a_thread_pointer_can_be_set_and_nothing_else_of_that_call() {
    let guest = Guest::program(Arch::X86_64);
    assert_eq!(
        guest.call("arch_prctl", &[0x1002, 0x7000]),
        Some(Verdict::Allow)
    );
    for code in [0, 0x1001, 0x1003, 0x1004, 0x1011, 0x1012, 0x3001, 0x4001] {
        assert_eq!(
            guest.call("arch_prctl", &[code, 0]),
            Some(EPERM),
            "{code:#x}"
        );
    }
    assert_eq!(Arch::Aarch64.number("arch_prctl"), None);
}

#[test]
fn foreign_architectures_are_killed_there_too() {
    for guest in programs() {
        for number in 0..500 {
            assert_eq!(
                guest.judge(number, 0x4000_0003, &[FD, 0, 0, 0, EMPTY_PATH]),
                Verdict::Kill
            );
        }
    }
}

#[test]
fn an_import_reaches_nobody_starts_nothing_and_changes_nothing() {
    const NEEDED: &[&str] = &["fork", "vfork", "pidfd_open", "socketpair"];
    for guest in Arch::ALL.map(Guest::importing) {
        for name in KILL.iter().filter(|name| !NEEDED.contains(name)) {
            assert!(
                matches!(guest.call(name, &[0; 6]), None | Some(Verdict::Kill)),
                "{name}"
            );
        }
        for name in CHANGES {
            assert!(
                matches!(guest.call(name, &[0; 6]), None | Some(EPERM)),
                "{name}"
            );
        }
        for flags in [1, 2, 0o101, 0o1102, 0o1000, 0o100, 0o20_200_002] {
            assert_eq!(
                guest.call("openat", &[0, 0x7000, flags, 0o600]),
                Some(EPERM),
                "{flags:o}"
            );
            assert!(matches!(
                guest.call("open", &[0x7000, flags, 0o600]),
                None | Some(EPERM)
            ));
        }
        let read_only = [0, 0o2_000_000, 0o2_200_000, 0o10_000_000];
        for flags in read_only {
            let verdict = guest.call("openat", &[0, 0x7000, flags, 0]);
            assert_eq!(verdict, Some(Verdict::Allow), "{flags:o}");
        }
        for name in [
            "read", "mmap", "clone", "sendmsg", "recvmsg", "seccomp", "prctl", "wait4",
        ] {
            assert_eq!(guest.call(name, &[0; 6]), Some(Verdict::Allow), "{name}");
        }
    }
}

#[test]
fn every_name_of_a_change_is_a_call() {
    for name in CHANGES {
        assert!(
            Arch::ALL.iter().any(|arch| arch.number(name).is_some()),
            "{name} is no call"
        );
    }
}
