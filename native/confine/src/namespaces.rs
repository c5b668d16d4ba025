//! Namespaces of the zygote: a bonus. The filters do not need them.
//!
//! No process-id namespace: its first process has to live as an init that reaps, and the ids in the
//! messages between zygote and worker would mean something else on each side. A guest cannot make
//! processes, so there is no tree to take down.
#![allow(
    unsafe_code,
    reason = "fork, and unshare without the flag that makes it unsafe"
)]

use std::fs;
use std::io;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::walls::errno_name;

const APART: UnshareFlags = UnshareFlags::NEWNET
    .union(UnshareFlags::NEWIPC)
    .union(UnshareFlags::NEWUTS)
    .union(UnshareFlags::NEWNS);

/// Enter them for good; `net ipc uts mnt`, with `user` before for an ordinary user, or `refused: …`.
///
/// Tried in a child first: half of the way into a user namespace there is no way back. The process
/// must have one thread.
pub(crate) fn enter() -> String {
    let own_user = !geteuid().is_root();
    if let Err(error) = try_in_child(own_user) {
        return format!("refused: {}", errno_name(&error));
    }
    match enter_now(own_user) {
        Ok(()) if own_user => "user net ipc uts mnt".to_owned(),
        Ok(()) => "net ipc uts mnt".to_owned(),
        Err(error) => format!("refused: {}", errno_name(&error)),
    }
}

/// Whether a child of ours could enter them.
pub(crate) fn try_in_child(own_user: bool) -> io::Result<()> {
    // SAFETY: the child only makes system calls on prepared text, and ends without unwinding.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let number = match enter_now(own_user) {
                Ok(()) => 0,
                Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
            };
            // SAFETY: ends this process, at once and without any handler.
            unsafe { libc::_exit(number.min(255)) }
        }
        child => {
            let mut status = 0;
            loop {
                // SAFETY: `status` is ours, and `child` is a child that nobody else waits for.
                let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
                if waited == child {
                    break;
                }
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::EINTR) {
                    return Err(error);
                }
            }
            match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
                (true, 0) => Ok(()),
                (true, number) => Err(io::Error::from_raw_os_error(number)),
                (false, _) => Err(io::Error::other("killed")),
            }
        }
    }
}

fn enter_now(own_user: bool) -> io::Result<()> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let flags = if own_user {
        APART | UnshareFlags::NEWUSER
    } else {
        APART
    };
    // SAFETY: only UnshareFlags::FILES is unsafe, and it is not among them.
    unsafe { unshare_unsafe(flags) }?;
    if own_user {
        // Everybody keeps the own id, so that signals and credentials mean what they meant.
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    Ok(())
}
