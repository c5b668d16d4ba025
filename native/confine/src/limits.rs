//! Resource limits. A limit that is lower already stays: nobody may raise what an operator set.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::ConfineError;

const STEP: &str = "rlimits";
const DESCRIPTORS_MAX: u64 = 64;
const SIGNALS_MAX: u64 = 64;
/// Processes and threads of a user that only guests have.
const TASKS_MAX: u64 = 512;

/// Set them all and say what is in force, soft values, as `name=value …`.
///
/// The kernel does not hold root to the number of tasks, and for a user who has other processes it
/// counts those too: so it is set only where the count is the guests' own (`own_user`).
pub(crate) fn set(
    memory_bytes: u64,
    cpu_seconds: u64,
    own_user: bool,
) -> Result<String, ConfineError> {
    let mut wanted = vec![
        ("data", Resource::Data, memory_bytes, memory_bytes),
        // SIGXCPU first, which a parser may ignore; then SIGKILL.
        (
            "cpu",
            Resource::Cpu,
            cpu_seconds,
            cpu_seconds.saturating_add(1),
        ),
        ("fsize", Resource::Fsize, 0, 0),
        ("core", Resource::Core, 0, 0),
        ("nofile", Resource::Nofile, DESCRIPTORS_MAX, DESCRIPTORS_MAX),
        ("memlock", Resource::Memlock, 0, 0),
        ("msgqueue", Resource::Msgqueue, 0, 0),
        ("sigpending", Resource::Sigpending, SIGNALS_MAX, SIGNALS_MAX),
    ];
    if own_user {
        wanted.push(("nproc", Resource::Nproc, TASKS_MAX, TASKS_MAX));
    }
    let mut in_force = Vec::new();
    for (name, resource, soft, hard) in wanted {
        let inherited = getrlimit(resource);
        let hard = inherited.maximum.map_or(hard, |limit| limit.min(hard));
        let soft = inherited
            .current
            .map_or(soft, |limit| limit.min(soft))
            .min(hard);
        let limit = Rlimit {
            current: Some(soft),
            maximum: Some(hard),
        };
        setrlimit(resource, limit).map_err(|error| ConfineError::new(STEP, error))?;
        in_force.push(format!("{name}={soft}"));
    }
    Ok(in_force.join(" "))
}
