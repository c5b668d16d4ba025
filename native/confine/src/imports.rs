//! The walls of a zygote that imports packages of a parser's environment.
//!
//! Importing runs their code, and that before a guest is forked. So the zygote first gives up what an import does not
//! need: the network, other processes and programs, every change to a file (filters), and every file but those that it
//! is told it may read (Landlock, where the kernel has it). It sees no evidence, as ever. What it has given up, its guests
//! never get back; their own lockdown comes on top.

use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::thread::set_no_new_privs;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpOp, SeccompRule, apply_filter,
};

use crate::profile::{KILL, compile, insert, int, unconditional};
use crate::{Arch, ConfineError, Record, walls};

/// What a zygote needs although no guest may have it: it forks guests and holds on to them.
const OF_A_ZYGOTE: &[&str] = &["fork", "vfork", "pidfd_open", "socketpair"];
/// Everything that changes a file, its place, or what is said of it.
pub const CHANGES: &[&str] = &[
    "chmod",
    "chown",
    "creat",
    "fallocate",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "fremovexattr",
    "fsetxattr",
    "ftruncate",
    "lchown",
    "link",
    "linkat",
    "lremovexattr",
    "lsetxattr",
    "memfd_create",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "openat2", // its flags lie in memory
    "removexattr",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "setxattr",
    "symlink",
    "symlinkat",
    "truncate",
    "unlink",
    "unlinkat",
    "utime",
    "utimensat",
    "utimes",
    "futimesat",
    // Other processes.
    "kill",
    "tkill",
    "tgkill",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
];
/// `O_WRONLY | O_RDWR`, `O_CREAT`, `O_TRUNC`, `O_TMPFILE` without `O_DIRECTORY`; the same on both architectures.
const OPEN_TO_CHANGE: [u64; 5] = [1, 2, 0o100, 0o1000, 0o20_000_000];

/// The filters: what kills, and what is refused.
///
/// # Errors
/// Only when a list is wrong, which a test would have seen.
pub fn filters(arch: Arch) -> Result<[BpfProgram; 2], BackendError> {
    let killed: Vec<&str> = KILL
        .iter()
        .copied()
        .filter(|name| !OF_A_ZYGOTE.contains(name))
        .collect();
    let mut refused = unconditional(arch, CHANGES);
    for (name, index) in [("open", 1), ("openat", 2)] {
        let rules = OPEN_TO_CHANGE
            .iter()
            .map(|flag| SeccompRule::new(vec![int(index, SeccompCmpOp::MaskedEq(*flag), *flag)?]))
            .collect::<Result<Vec<_>, _>>()?;
        insert(arch, &mut refused, name, rules);
    }
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    Ok([
        compile(
            arch,
            unconditional(arch, &killed),
            SeccompAction::Allow,
            SeccompAction::KillProcess,
        )?,
        compile(arch, refused, SeccompAction::Allow, denied)?,
    ])
}

/// Put the walls up, for good; for a zygote with one thread, after [`crate::isolate`].
///
/// # Errors
/// `no_new_privs` or `seccomp`: refused; the process must end.
pub fn wall_imports(readable: &[PathBuf]) -> Result<Record, ConfineError> {
    const SECCOMP: &str = "seccomp";
    let arch = Arch::current()
        .ok_or_else(|| ConfineError::refused(SECCOMP, "no profile for this architecture"))?;
    set_no_new_privs(true).map_err(|error| ConfineError::new("no_new_privs", error))?;
    let landlock = match walls::landlock_abi() {
        Err(error) => format!("absent: {}", walls::errno_name(&error)),
        Ok(_) => restrict(readable).unwrap_or_else(|error| format!("failed: {error}")),
    };
    let programs =
        filters(arch).map_err(|error| ConfineError::new(SECCOMP, io::Error::other(error)))?;
    for program in &programs {
        apply_filter(program)
            .map_err(|error| ConfineError::new(SECCOMP, io::Error::other(error)))?;
    }
    Ok(Record::from([(
        "imports",
        format!("{SECCOMP}, landlock {landlock}"),
    )]))
}

fn restrict(readable: &[PathBuf]) -> Result<String, RulesetError> {
    let newest = ABI::V10;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?;
    for path in readable {
        // One that is not there, or that this user may not reach, gives nothing to read.
        if let Ok(descriptor) = PathFd::new(path) {
            ruleset =
                ruleset.add_rule(PathBeneath::new(descriptor, AccessFs::from_read(newest)))?;
        }
    }
    let status = ruleset.restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::NotEnforced => "failed: not enforced".to_owned(),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => "in force".to_owned(),
    })
}
