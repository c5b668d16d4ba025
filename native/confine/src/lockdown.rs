//! The lockdown of a guest, step by step. Each step still has the rights it needs.
//!
//! 1. another session; the death signal of the parent, and a look whether it is gone already
//! 2. every descriptor closed but its own
//! 3. resource limits, 4. `no_new_privs`, 5. Landlock, 6. no capability
//! 7. not dumpable: no core file, no ptrace by the same user, `/proc` entries belong to root
//! 8. seccomp, last: from then on nothing of the above can be done, nor undone

use std::fs;
use std::io;
use std::sync::OnceLock;

use rustix::process::{
    DumpableBehavior, dumpable_behavior, getpid, getuid, set_dumpable_behavior, setsid,
};
use rustix::thread::{no_new_privs, set_no_new_privs};
use seccompiler::apply_filter;

use crate::profile::{self, Filters};
use crate::program::{self, ProgramFilters};
use crate::{
    Arch, ConfineError, Record, Request, capabilities, descriptors, limits, listener, walls, zygote,
};

const SECCOMP: &str = "seccomp";

static FILTERS: OnceLock<Filters> = OnceLock::new();
static PROGRAM: OnceLock<ProgramFilters> = OnceLock::new();

/// Compile the filters, so that guests which are forked later need not.
///
/// # Errors
/// `seccomp`: there is no profile for this architecture.
pub fn prepare() -> Result<(), ConfineError> {
    filters().map(|_| ())
}

fn filters() -> Result<(Arch, &'static Filters), ConfineError> {
    let arch = Arch::current()
        .ok_or_else(|| ConfineError::refused(SECCOMP, "no profile for this architecture"))?;
    if let Some(filters) = FILTERS.get() {
        return Ok((arch, filters));
    }
    let made = profile::sealed(arch).map_err(seccomp_error)?;
    Ok((arch, FILTERS.get_or_init(|| made)))
}

/// The filters of a guest that becomes a program; few zygotes fork such guests, so they are compiled when first needed.
///
/// # Errors
/// `seccomp`: there is no profile for this architecture.
pub fn prepare_program() -> Result<(), ConfineError> {
    program_filters().map(|_| ())
}

fn program_filters() -> Result<&'static ProgramFilters, ConfineError> {
    let (arch, _) = filters()?;
    if let Some(made) = PROGRAM.get() {
        return Ok(made);
    }
    let made = program::filters(arch).map_err(seccomp_error)?;
    Ok(PROGRAM.get_or_init(|| made))
}

/// Lock this process down for good and say what is in force.
///
/// For a process with one thread that was just forked: descriptors of its parent are closed whoever
/// holds them.
///
/// # Errors
/// An essential step failed: `user` (it is root), `parent_death_signal`, `descriptors`, `rlimits`,
/// `no_new_privs`, `capabilities`, `dumpable`, `seccomp`. The process is half locked down and must end.
pub fn lock_down(request: &Request) -> Result<Record, ConfineError> {
    if getuid().is_root() {
        return Err(ConfineError::refused("user", "guests never run as root"));
    }
    let (arch, filters) = filters()?;
    let once = request
        .once
        .map(|once| program_filters().map(|made| (once, made)))
        .transpose()?;
    let further: Vec<_> = request
        .once
        .iter()
        .flat_map(|once| std::iter::once(once.supervisor_fd).chain(once.program_fd))
        .collect();
    let mut record = zygote::done().cloned().unwrap_or_default();
    record
        .entry("namespaces")
        .or_insert_with(|| "none".to_owned());
    record.insert("user", format!("uid {}", getuid().as_raw()));

    record.insert("session", attempt(setsid().map(|_| "own".to_owned())));
    zygote::die_with_parent(request.parent_pid)?;
    record.insert("parent_death_signal", "SIGKILL".to_owned());
    record.insert("oom_score_adj", attempt(prefer_as_oom_victim()));
    record.insert(
        "descriptors",
        descriptors::keep_only(request.bridge_fd, request.log_fd, &further)?,
    );
    let limits = limits::set(
        request.memory_bytes,
        request.cpu_seconds,
        zygote::own_user(),
    )?;
    record.insert("rlimits", limits);
    step("no_new_privs", set_no_new_privs(true))?;
    if !step("no_new_privs", no_new_privs())? {
        return Err(ConfineError::refused(
            "no_new_privs",
            "the kernel did not keep it",
        ));
    }
    record.insert("no_new_privs", "yes".to_owned());
    record.insert("landlock", walls::landlock());
    record.insert(
        "capabilities",
        step("capabilities", capabilities::drop_all())?,
    );
    step(
        "dumpable",
        set_dumpable_behavior(DumpableBehavior::NotDumpable),
    )?;
    if step("dumpable", dumpable_behavior())? != DumpableBehavior::NotDumpable {
        return Err(ConfineError::refused(
            "dumpable",
            "the kernel did not keep it",
        ));
    }
    record.insert("dumpable", "no".to_owned());

    let own = profile::own_signals(arch, getpid().as_raw_nonzero().get().unsigned_abs())
        .map_err(seccomp_error)?;
    let (name, filters) = once.map_or((profile::NAME, filters), |(_, made)| {
        (program::NAME, &made.filters)
    });
    let stack = [&filters.kill, &filters.absent, &own, &filters.allow];
    let mut instructions: usize = stack.iter().map(|program| program.len()).sum();
    if let Some((_, made)) = once {
        instructions += made.once.len();
        // First of all: the list does not allow to hand the listener over.
        listener::install_and_send(&made.once, program::SUPERVISOR_FD)
            .map_err(|error| ConfineError::new(SECCOMP, error))?;
    }
    let in_force = format!("{name} {}, {instructions} instructions", arch.name());
    record.insert(SECCOMP, in_force);
    for program in stack {
        apply_filter(program).map_err(|error| ConfineError::new(SECCOMP, to_io(error)))?;
    }
    Ok(record)
}

/// The kernel shall choose a guest before anybody else when memory runs out.
fn prefer_as_oom_victim() -> io::Result<String> {
    // A process that changed its user is not dumpable, and then the file belongs to root.
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    fs::write("/proc/self/oom_score_adj", "1000")?;
    Ok("1000".to_owned())
}

fn step<T>(name: &'static str, result: rustix::io::Result<T>) -> Result<T, ConfineError> {
    result.map_err(|error| ConfineError::new(name, error))
}

fn attempt<E: Into<io::Error>>(result: Result<String, E>) -> String {
    result.unwrap_or_else(|error| format!("failed: {}", walls::errno_name(&error.into())))
}

fn seccomp_error(error: seccompiler::BackendError) -> ConfineError {
    ConfineError::new(SECCOMP, io::Error::other(error))
}

fn to_io(error: seccompiler::Error) -> io::Error {
    match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
        other => io::Error::other(other),
    }
}
