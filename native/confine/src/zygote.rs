//! What the zygote gives up before its first fork.

use std::io;
use std::sync::OnceLock;

use rustix::process::{
    Signal, getegid, geteuid, getgid, getppid, getuid, set_parent_process_death_signal,
};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::{ConfineError, Isolation, Record, capabilities, namespaces};

/// What was done here, for the record of each guest; a fork inherits it.
static DONE: OnceLock<Record> = OnceLock::new();

/// Enter namespaces, become another user when root, give up every capability, die with the parent.
///
/// For a process with one thread, once.
///
/// # Errors
/// `user`: it runs as root and no other user is named, or the change failed or can be undone;
/// `capabilities`: some are left; `parent_death_signal`: the parent is gone.
pub fn isolate(wanted: &Isolation) -> Result<Record, ConfineError> {
    let user = match (geteuid().is_root(), wanted.user) {
        (true, None | Some((0, _) | (_, 0))) => {
            let why = "guests never run as root: name another user and group";
            return Err(ConfineError::refused("user", why));
        }
        (false, Some(_)) => {
            return Err(ConfineError::refused(
                "user",
                "only root can become another user",
            ));
        }
        (_, user) => user,
    };
    let mut record = Record::from([("namespaces", namespaces::enter())]);
    capabilities::give_up_bounding();
    if let Some((uid, gid)) = user {
        become_user(uid, gid).map_err(|error| ConfineError::new("user", error))?;
    }
    let left =
        capabilities::drop_all().map_err(|error| ConfineError::new("capabilities", error))?;
    record.insert("capabilities", left);
    record.insert("user", format!("uid {}", getuid().as_raw()));
    // The kernel forgets the signal when credentials change: it comes after all of that.
    die_with_parent(wanted.parent_pid)?;
    Ok(DONE.get_or_init(|| record).clone())
}

/// The record of [`isolate`], when this process or the one it was forked from called it.
pub(crate) fn done() -> Option<&'static Record> {
    DONE.get()
}

/// Whether the processes of this user are the guests' own.
pub(crate) fn own_user() -> bool {
    done()
        .and_then(|record| record.get("namespaces"))
        .is_some_and(|text| text.starts_with("user "))
}

/// Be killed when the parent ends; an error when it has ended already.
///
/// The signal is tied to the parent's *thread* that forked: it must live as long as the parent.
pub(crate) fn die_with_parent(parent_pid: i32) -> Result<(), ConfineError> {
    const STEP: &str = "parent_death_signal";
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| ConfineError::new(STEP, error))?;
    if getppid().map(|pid| pid.as_raw_nonzero().get()) == Some(parent_pid) {
        Ok(())
    } else {
        Err(ConfineError::refused(STEP, "the parent has ended"))
    }
}

fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // Calls of one thread: there is only this one.
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    let back = set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_ok()
        || set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).is_ok();
    let ids = (getuid(), geteuid(), getgid(), getegid());
    if back || ids != (uid, uid, gid, gid) {
        return Err(io::Error::other("the way back to root is open"));
    }
    Ok(())
}
