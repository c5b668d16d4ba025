//! Numbers of system calls, for both architectures on any host.
//!
//! The numbers are those of the crate `syscalls`, which generates them from the kernel's own tables
//! (`arch/x86/entry/syscalls/syscall_64.tbl`, `include/uapi/asm-generic/unistd.h`).

use seccompiler::TargetArch;
use syscalls::{aarch64, x86_64};

/// An architecture that guests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86; x32 numbers are not among the allowed ones.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The one that this code was built for; `None` on any other.
    pub fn current() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// As the kernel calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// `AUDIT_ARCH_*`: what the kernel puts into `seccomp_data.arch`.
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xC000_003E,
            Self::Aarch64 => 0xC000_00B7,
        }
    }

    /// Number of a system call; `None` when this architecture does not have it.
    pub fn number(self, name: &str) -> Option<i64> {
        match self {
            Self::X86_64 => name.parse::<x86_64::Sysno>().ok().map(|n| n as i64),
            Self::Aarch64 => name.parse::<aarch64::Sysno>().ok().map(|n| n as i64),
        }
    }

    /// Every number up to the last known one that stands for a system call, with its name.
    pub fn all(self) -> Vec<(i64, &'static str)> {
        (0..1024_usize)
            .filter_map(|number| {
                let name = match self {
                    Self::X86_64 => x86_64::Sysno::new(number)?.name(),
                    Self::Aarch64 => aarch64::Sysno::new(number)?.name(),
                };
                i64::try_from(number).ok().map(|number| (number, name))
            })
            .collect()
    }

    pub(crate) fn target(self) -> TargetArch {
        match self {
            Self::X86_64 => TargetArch::x86_64,
            Self::Aarch64 => TargetArch::aarch64,
        }
    }
}
