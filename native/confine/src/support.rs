//! What this kernel offers, found out by trying.
#![allow(unsafe_code, reason = "questions that have no wrapper")]

use std::fs;
use std::io;

use rustix::process::geteuid;

use crate::walls::{errno_name, landlock_abi};
use crate::{Arch, Record, namespaces};

const SECCOMP_GET_ACTION_AVAIL: libc::c_uint = 2;

/// Ask the kernel for each wall: `yes…`, or `no: …` with its answer. Changes nothing in this process.
pub fn support() -> Record {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let arch = match Arch::current() {
        Some(arch) => format!("yes: {}", arch.name()),
        None => format!("no: {} has no profile", std::env::consts::ARCH),
    };
    let user = if geteuid().is_root() {
        "root"
    } else {
        "ordinary"
    };
    Record::from([
        ("system", format!("linux {}", kernel.trim())),
        ("architecture", arch),
        ("user", user.to_owned()),
        ("seccomp", answer(seccomp())),
        (
            "landlock",
            answer(landlock_abi().map(|abi| format!("abi {abi}"))),
        ),
        (
            "namespaces",
            answer(namespaces::try_in_child(user != "root").map(|()| String::new())),
        ),
        ("close_range", answer(close_range())),
        ("pidfd", answer(pidfd())),
    ])
}

fn answer(result: io::Result<String>) -> String {
    match result {
        Ok(detail) if detail.is_empty() => "yes".to_owned(),
        Ok(detail) => format!("yes: {detail}"),
        Err(error) => format!("no: {}", errno_name(&error)),
    }
}

/// Whether a filter may kill the process and answer errors.
fn seccomp() -> io::Result<String> {
    for action in [libc::SECCOMP_RET_KILL_PROCESS, libc::SECCOMP_RET_ERRNO] {
        // SAFETY: the kernel reads one u32 behind the pointer, which lives until it returns.
        let known = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                SECCOMP_GET_ACTION_AVAIL,
                0,
                &raw const action,
            )
        };
        if known != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok("kill_process errno".to_owned())
}

fn close_range() -> io::Result<String> {
    // SAFETY: closes the one number that no descriptor can have.
    match unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) } {
        0 => Ok(String::new()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn pidfd() -> io::Result<String> {
    // SAFETY: a new descriptor of this very process, closed again at once.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    let Ok(descriptor) = libc::c_int::try_from(descriptor) else {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is ours and nobody else knows it.
    unsafe { libc::close(descriptor) };
    Ok(String::new())
}
