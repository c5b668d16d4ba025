//! A filter that asks: made in the guest, answered in the zygote. And the call that it asks about.
#![allow(
    unsafe_code,
    reason = "seccomp with a listener, its ioctls and execveat have no safe wrapper"
)]

use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use seccompiler::BpfProgram;

/// `SECCOMP_SET_MODE_FILTER`, `SECCOMP_FILTER_FLAG_NEW_LISTENER` of `include/uapi/linux/seccomp.h`.
const SET_MODE_FILTER: libc::c_ulong = 1;
const NEW_LISTENER: libc::c_ulong = 8;
/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`: carry the call out as it was made.
const CONTINUE: u32 = 1;

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    arch: u32,
    instruction: u64,
    arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `_IOWR('!', number, T)` of `include/uapi/asm-generic/ioctl.h`.
const fn request<T>(number: u64) -> u64 {
    (3 << 30) | ((size_of::<T>() as u64) << 16) | ((b'!' as u64) << 8) | number
}

/// What somebody asks for.
pub(crate) struct Call {
    pub(crate) number: i32,
    pub(crate) pid: u32,
    pub(crate) arguments: [u64; 6],
}

/// Install a filter and send its listener over a socket; this process keeps none of it.
pub(crate) fn install_and_send(filter: &BpfProgram, socket: RawFd) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog {
        len: length,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `program` names `filter`, which lives; the kernel copies both and writes to neither.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            NEW_LISTENER,
            &raw const program,
        )
    };
    let number = RawFd::try_from(listener).map_err(io::Error::other)?;
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    let listener = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: an open descriptor of this process that nobody closes meanwhile.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    sendmsg(
        socket,
        &[IoSlice::new(b"listener")],
        &mut ancillary,
        SendFlags::empty(),
    )?;
    Ok(())
}

/// Answer the one call that waits: carry it out if `is_meant`, else refuse it.
pub(crate) fn allow(listener: RawFd, is_meant: impl Fn(&Call) -> bool) -> io::Result<()> {
    let mut asked = Notification::default();
    let receive = request::<Notification>(0) as libc::Ioctl;
    // SAFETY: the kernel writes a `struct seccomp_notif`, which `asked` is, zeroed as it wants it.
    if unsafe { libc::ioctl(listener, receive, &raw mut asked) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let meant = is_meant(&Call {
        number: asked.number,
        pid: asked.pid,
        arguments: asked.arguments,
    });
    let mut answer = Answer {
        id: asked.id,
        value: 0,
        error: if meant { 0 } else { -libc::EPERM },
        flags: if meant { CONTINUE } else { 0 },
    };
    let send = request::<Answer>(1) as libc::Ioctl;
    // SAFETY: the kernel reads a `struct seccomp_notif_resp`, which `answer` is.
    if unsafe { libc::ioctl(listener, send, &raw mut answer) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if meant {
        Ok(())
    } else {
        Err(io::Error::other("the guest asked for another call"))
    }
}

/// `fexecve` without a C library's detours: the descriptor, no path, one argument, no environment.
pub(crate) fn execute(program: RawFd) -> io::Error {
    let arguments = [c"casparian-parser".as_ptr(), std::ptr::null()];
    let environment: [*const libc::c_char; 1] = [std::ptr::null()];
    // SAFETY: both lists end with null and live until the call has ended, well or not.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}
