//! A machine for classic BPF over `struct seccomp_data`, as `kernel/seccomp.c` and `net/core/filter.c` run it.

use casparian_confine::profile::{Filters, own_signals, sealed};
use casparian_confine::program::{ProgramFilters, filters};
use casparian_confine::{Arch, imports};
use seccompiler::BpfProgram;

/// `struct seccomp_data`, without the instruction pointer.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub number: u32,
    pub arch: u32,
    pub arguments: [u64; 6],
}

/// What the kernel does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Kill,
    Errno(u32),
    Ask,
    Allow,
}

pub const EPERM: Verdict = Verdict::Errno(1);
pub const ENOSYS: Verdict = Verdict::Errno(38);
pub const GUEST_PID: u32 = 4711;

const ACTION: u32 = 0xFFFF_0000;

/// The stack of a guest on one architecture.
pub struct Guest {
    pub arch: Arch,
    stack: Vec<BpfProgram>,
}

impl Guest {
    pub fn new(arch: Arch) -> Self {
        let Filters {
            kill,
            absent,
            allow,
        } = sealed(arch).unwrap();
        let own = own_signals(arch, GUEST_PID).unwrap();
        Self {
            arch,
            stack: vec![kill, absent, own, allow],
        }
    }

    /// A guest that may become a program, in the order in which its filters are installed.
    pub fn program(arch: Arch) -> Self {
        let ProgramFilters { once, filters } = filters(arch).unwrap();
        let own = own_signals(arch, GUEST_PID).unwrap();
        Self {
            arch,
            stack: vec![once, filters.kill, filters.absent, own, filters.allow],
        }
    }

    /// A zygote that imports packages.
    pub fn importing(arch: Arch) -> Self {
        let stack = imports::filters(arch).unwrap().into();
        Self { arch, stack }
    }

    /// The verdict on a call by name; `None` when this architecture does not have it.
    pub fn call(&self, name: &str, arguments: &[u64]) -> Option<Verdict> {
        let number = u32::try_from(self.arch.number(name)?).unwrap();
        Some(self.number(number, arguments))
    }

    pub fn number(&self, number: u32, arguments: &[u64]) -> Verdict {
        self.judge(number, self.arch.audit(), arguments)
    }

    /// All filters run, newest first; the most restrictive action wins, of equal ones the newest.
    pub fn judge(&self, number: u32, arch: u32, arguments: &[u64]) -> Verdict {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let call = Call {
            number,
            arch,
            arguments: all,
        };
        let mut result = run(self.stack.last().unwrap(), &call);
        for program in self.stack.iter().rev().skip(1) {
            let other = run(program, &call);
            // As the kernel: signed, so that killing the process (0x8000_0000) is the least.
            if ((other & ACTION) as i32) < ((result & ACTION) as i32) {
                result = other;
            }
        }
        match result & ACTION {
            0x8000_0000 => Verdict::Kill,
            0x0005_0000 => Verdict::Errno(result & 0xFFFF),
            0x7FC0_0000 => Verdict::Ask,
            0x7FFF_0000 => Verdict::Allow,
            other => panic!("an action that nobody asked for: {other:#x}"),
        }
    }
}

/// Run one program to its `RET`.
fn run(program: &BpfProgram, call: &Call) -> u32 {
    let mut data = Vec::with_capacity(64);
    data.extend(call.number.to_le_bytes());
    data.extend(call.arch.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    for argument in call.arguments {
        data.extend(argument.to_le_bytes());
    }
    let (mut accumulator, mut at) = (0_u32, 0_usize);
    loop {
        let step = &program[at];
        at += 1;
        let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
        match step.code {
            0x20 => {
                let offset = step.k as usize; // LD W ABS
                accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
            }
            0x54 => accumulator &= step.k,                 // ALU AND K
            0x05 => at += step.k as usize,                 // JMP JA
            0x15 => at += jump(accumulator == step.k),     // JMP JEQ K
            0x25 => at += jump(accumulator > step.k),      // JMP JGT K
            0x35 => at += jump(accumulator >= step.k),     // JMP JGE K
            0x45 => at += jump(accumulator & step.k != 0), // JMP JSET K
            0x06 => return step.k,                         // RET K
            other => panic!("an instruction that no filter of ours has: {other:#x}"),
        }
    }
}
