//! The descriptors of a guest: 0 as it was, 1 and 2 the log, 3 the bridge, and no other but those that a program takes to begin.
#![allow(
    unsafe_code,
    reason = "descriptors are plain numbers here, and they are replaced by number"
)]

use std::io;
use std::os::fd::RawFd;

use crate::ConfineError;

const STEP: &str = "descriptors";
const BRIDGE_FD: RawFd = 3;
/// Above everything that is replaced.
const SPARE_FD: RawFd = 10;

/// Put both descriptors into their places and close all others.
///
/// Whoever still holds the number of another descriptor holds nothing from then on, so this is for
/// a process that was just forked and is about to forget what it was.
///
/// `further` get the numbers after the bridge's, in their order, and are closed when a program is executed.
pub(crate) fn keep_only(
    bridge_fd: RawFd,
    log_fd: RawFd,
    further: &[RawFd],
) -> Result<String, ConfineError> {
    // First out of the way: one may stand in the other's place.
    let bridge = duplicate(bridge_fd)?;
    let log = duplicate(log_fd)?;
    let further = further
        .iter()
        .map(|number| duplicate(*number))
        .collect::<Result<Vec<_>, _>>()?;
    for (from, to) in [(log, 1), (log, 2), (bridge, BRIDGE_FD)] {
        // SAFETY: dup2 takes two numbers; a wrong one is an error.
        if unsafe { libc::dup2(from, to) } < 0 {
            return Err(ConfineError::new(STEP, io::Error::last_os_error()));
        }
    }
    let mut next = BRIDGE_FD + 1;
    for from in further {
        // SAFETY: dup3 takes numbers; a wrong one is an error.
        if unsafe { libc::dup3(from, next, libc::O_CLOEXEC) } < 0 {
            return Err(ConfineError::new(STEP, io::Error::last_os_error()));
        }
        next += 1;
    }
    // SAFETY: close_range takes three numbers.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, next, u32::MAX, 0) };
    if closed != 0 {
        return Err(ConfineError::new(STEP, io::Error::last_os_error()));
    }
    Ok("closed".to_owned())
}

fn duplicate(number: RawFd) -> Result<RawFd, ConfineError> {
    // SAFETY: fcntl takes numbers; one that is not open is an error.
    match unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, SPARE_FD) } {
        -1 => Err(ConfineError::new(STEP, io::Error::last_os_error())),
        copy => Ok(copy),
    }
}
