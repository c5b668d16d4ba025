//! Landlock: the second wall before files, TCP ports, abstract sockets and signals.
//!
//! Every right that the kernel can handle is handled, and no rule gives any of them back.
#![allow(
    unsafe_code,
    reason = "the crate keeps the kernel's answer about its ABI to itself"
)]

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset,
    RulesetAttr, RulesetError, RulesetStatus, Scope,
};

/// `LANDLOCK_CREATE_RULESET_VERSION`.
const VERSION_FLAG: u32 = 1;

/// Landlock's ABI in this kernel, or why there is none.
pub(crate) fn landlock_abi() -> io::Result<i64> {
    // SAFETY: with this flag the call takes no pointer and only answers a number.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            VERSION_FLAG,
        )
    };
    if abi < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(abi)
}

/// Restrict this thread for good; `abi N`, or `absent: …` where the kernel has no Landlock.
pub(crate) fn landlock() -> String {
    if let Err(error) = landlock_abi() {
        return format!("absent: {}", errno_name(&error));
    }
    match restrict() {
        Ok(text) => text,
        Err(error) => format!("failed: {error}"),
    }
}

fn restrict() -> Result<String, RulesetError> {
    let newest = ABI::V10;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?
        .restrict_self()?;
    let LandlockStatus::Available { effective_abi, .. } = status.landlock else {
        return Ok("absent: not enabled".to_owned());
    };
    Ok(match status.ruleset {
        RulesetStatus::NotEnforced => "failed: not enforced".to_owned(),
        // Partially: of what the crate knows, this kernel knows less.
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => {
            format!("abi {effective_abi}")
        }
    })
}

/// The name of an error number as manuals write it, for those that mean something here.
pub(crate) fn errno_name(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => "ENOSYS".to_owned(),
        Some(libc::EOPNOTSUPP) => "EOPNOTSUPP".to_owned(),
        Some(libc::EPERM) => "EPERM".to_owned(),
        Some(libc::EACCES) => "EACCES".to_owned(),
        Some(libc::EINVAL) => "EINVAL".to_owned(),
        Some(libc::ENOSPC) => "ENOSPC".to_owned(),
        Some(libc::EUSERS) => "EUSERS".to_owned(),
        _ => error.to_string(),
    }
}
