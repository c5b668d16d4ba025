//! The profile `program`: `sealed`, and the process may become one program, once.
//!
//! A parser that is an executable has to be executed, and after that moment nothing but its own code runs: every filter
//! must stand before. No filter can tell one `execveat` from the next, nor see the path behind its pointer (with
//! `AT_EMPTY_PATH` an absolute path is followed all the same), so the kernel is given somebody to ask:
//! * a first filter answers `USER_NOTIF` to the one form of the call that starts a descriptor; its listener goes to the
//!   zygote, through a socket, before the other filters are there;
//! * the zygote lets one call pass, made by our own code in a process with one thread, and closes the listener;
//! * without a listener the kernel answers ENOSYS to every later call, whoever makes it.
//!
//! Every other form of `execveat`, and `execve`, kill. The design is in `docs/adr/0008-executables.md`.

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompRule,
};

use crate::profile::{self, Filters, Rules, insert, int};
use crate::table::Arch;
use crate::{ConfineError, listener};

/// Its name in the record.
pub const NAME: &str = "program";
/// Where a guest has its socket to the zygote; closed by `execveat`.
pub const SUPERVISOR_FD: i32 = 4;
/// Where a guest has the program; closed by `execveat`.
pub const PROGRAM_FD: i32 = 5;

const STEP: &str = "program";
/// `AT_EMPTY_PATH`, the same on both architectures.
pub(crate) const EMPTY_PATH: u64 = 0x1000;
/// `ARCH_SET_FS` of `arch/x86/include/uapi/asm/prctl.h`: where a C library keeps its thread; x86_64 only.
const ARCH_SET_FS: u64 = 0x1002;
/// `SECCOMP_RET_TRAP` and `SECCOMP_RET_USER_NOTIF`; the compiler has no name for the second.
const RET_TRAP: u32 = 0x0003_0000;
const RET_USER_NOTIF: u32 = 0x7FC0_0000;
const RET: u16 = 0x06;

/// All filters of a guest that becomes a program but `own_signals`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFilters {
    /// Asks the listener; installed before the others.
    pub once: BpfProgram,
    /// As for `sealed`.
    pub filters: Filters,
}

/// Compile them for an architecture, which need not be this one's.
///
/// # Errors
/// Only when a list is wrong, which a test would have seen.
pub fn filters(arch: Arch) -> Result<ProgramFilters, BackendError> {
    let this_form = || -> Result<Vec<SeccompCondition>, BackendError> {
        Ok(vec![
            int(0, SeccompCmpOp::Eq, fd())?,
            int(4, SeccompCmpOp::Eq, EMPTY_PATH)?,
        ])
    };
    let mut kill = profile::killing(arch)?;
    insert(
        arch,
        &mut kill,
        "execveat",
        vec![
            SeccompRule::new(vec![int(0, SeccompCmpOp::Ne, fd())?])?,
            SeccompRule::new(vec![int(4, SeccompCmpOp::Ne, EMPTY_PATH)?])?,
        ],
    );
    let mut allow = profile::allowing(arch)?;
    insert(
        arch,
        &mut allow,
        "execveat",
        vec![SeccompRule::new(this_form()?)?],
    );
    let set_thread = int(0, SeccompCmpOp::Eq, ARCH_SET_FS)?;
    insert(
        arch,
        &mut allow,
        "arch_prctl",
        vec![SeccompRule::new(vec![set_thread])?],
    );
    let mut asked = Rules::new();
    insert(
        arch,
        &mut asked,
        "execveat",
        vec![SeccompRule::new(this_form()?)?],
    );
    let mut once = profile::compile(arch, asked, SeccompAction::Allow, SeccompAction::Trap)?;
    for step in &mut once {
        if step.code == RET && step.k == RET_TRAP {
            step.k = RET_USER_NOTIF;
        }
    }
    Ok(ProgramFilters {
        once,
        filters: profile::stack(arch, kill, allow)?,
    })
}

fn fd() -> u64 {
    u64::from(PROGRAM_FD.unsigned_abs())
}

/// In the zygote: let the guest's one `execveat` pass. Close the listener after it, whatever comes of it.
///
/// # Errors
/// `program`: it asks for something else, it is another process, or it is gone.
pub fn allow_program(listener_fd: i32, pid: i32) -> Result<(), ConfineError> {
    let number = Arch::current().and_then(|arch| arch.number("execveat"));
    listener::allow(listener_fd, |call| {
        i64::from(call.number) == number.unwrap_or(-1)
            && call.pid == pid.unsigned_abs()
            && call.arguments[0] == fd()
            && call.arguments[4] == EMPTY_PATH
    })
    .map_err(|error| ConfineError::new(STEP, error))
}

/// In the guest: become the program, which is told nothing but the bridge. Returns only when that failed.
pub fn run_program() -> ConfineError {
    ConfineError::new(STEP, listener::execute(PROGRAM_FD))
}
