//! Lock a process down for good before it runs code that nobody vouches for.
//!
//! Two steps, taken by two processes:
//! * [`isolate`], once, in the *zygote*: namespaces when the host allows them, and another user when
//!   it runs as root.
//! * [`lock_down`], in each *guest* just after it was forked: descriptors, limits, `no_new_privs`,
//!   Landlock and, last, the seccomp filters of [`profile`].
//!
//! The filters alone keep a guest from files, network and other processes; everything else is a second
//! wall. An essential step that fails is an error, and the guest must end. A second wall that this
//! kernel does not have is named in the [`Record`], which holds only what was really done.
//!
//! Everywhere but on Linux each call is an error of the step `system`.

use std::collections::BTreeMap;

mod error;

pub use error::ConfineError;

#[cfg(target_os = "linux")]
mod capabilities;
#[cfg(target_os = "linux")]
mod descriptors;
#[cfg(target_os = "linux")]
pub mod imports;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod listener;
#[cfg(target_os = "linux")]
mod lockdown;
#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
pub mod profile;
#[cfg(target_os = "linux")]
pub mod program;
#[cfg(target_os = "linux")]
mod support;
#[cfg(target_os = "linux")]
mod table;
#[cfg(target_os = "linux")]
mod walls;
#[cfg(target_os = "linux")]
mod zygote;

#[cfg(target_os = "linux")]
pub use imports::wall_imports;
#[cfg(target_os = "linux")]
pub use lockdown::{lock_down, prepare, prepare_program};
#[cfg(target_os = "linux")]
pub use program::{allow_program, run_program};
#[cfg(target_os = "linux")]
pub use support::support;
#[cfg(target_os = "linux")]
pub use table::Arch;
#[cfg(target_os = "linux")]
pub use zygote::isolate;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
pub use elsewhere::{
    allow_program, isolate, lock_down, prepare, prepare_program, run_program, support, wall_imports,
};

/// What is in force, by name of the step.
pub type Record = BTreeMap<&'static str, String>;

/// What a zygote is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isolation {
    /// The process whose death ends this one.
    pub parent_pid: i32,
    /// User and group to become; needed by root, refused to everybody else. Never 0.
    pub user: Option<(u32, u32)>,
}

/// What a guest is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The process whose death ends this one.
    pub parent_pid: i32,
    /// An open descriptor that becomes 3.
    pub bridge_fd: i32,
    /// An open descriptor that becomes 1 and 2.
    pub log_fd: i32,
    /// Private writable memory, what is there already included.
    pub memory_bytes: u64,
    /// Processor time; one second more and the kernel kills.
    pub cpu_seconds: u64,
    /// The process may become one program, once: see [`program`].
    pub once: Option<Once>,
}

/// What a guest needs that is to become a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Once {
    /// A socket to the zygote: it is given the listener of the filter, and allows the one `execveat`.
    pub supervisor_fd: i32,
    /// The program, sealed; without it nothing is executed (a guest that only attacks itself).
    pub program_fd: Option<i32>,
}
