//! A parser that does what its source's name says: each thing that a hostile program would try.

#[path = "../../../casparian/control/program/bridge.rs"]
mod bridge;

use std::ffi::{CString, c_char, c_int, c_long};
use std::io::{self, Write};
use std::time::Duration;

use bridge::{Batch, Kind, Rows, Source};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn fork() -> c_int;
    fn getppid() -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
}

const EXECVE: c_long = 59;
const EXECVEAT: c_long = 322;
const EMPTY_PATH: c_int = 0x1000;
const ARCH_PRCTL: c_long = 158;

fn main() -> io::Result<()> {
    bridge::serve(|job, source, rows| {
        let name = source.display_path.clone();
        act(&name, source, rows).map_err(|error| format!("{error} {}", job.outputs.join(",")))
    })
}

/// One row, whose text says what came of it.
fn say(rows: &mut Rows, source: &Source, text: &str) -> io::Result<()> {
    row(rows, 0, source.size_bytes, text)
}

fn row(rows: &mut Rows, offset: u64, length: u64, text: &str) -> io::Result<()> {
    let mut lines = Batch::new(&[Kind::Bytes8, Kind::Utf8]);
    lines.begin(offset, length, 0);
    lines.put(0, Some(&7_i64.to_le_bytes()));
    lines.put(1, Some(text.as_bytes()));
    rows.send(1, &mut lines)
}

fn outcome(result: c_long) -> String {
    if result >= 0 { "done".to_owned() } else { format!("denied {}", io::Error::last_os_error().raw_os_error().unwrap_or(0)) }
}

fn run_path(call: c_long, descriptor: c_int) -> c_long {
    let path = CString::new("/bin/true").expect("no zero");
    let arguments: [*const c_char; 2] = [path.as_ptr(), std::ptr::null()];
    unsafe {
        if call == EXECVE {
            syscall(EXECVE, path.as_ptr(), arguments.as_ptr(), 0_usize)
        } else {
            syscall(EXECVEAT, descriptor, path.as_ptr(), arguments.as_ptr(), 0_usize, EMPTY_PATH)
        }
    }
}

fn act(name: &str, source: &mut Source, rows: &mut Rows) -> io::Result<()> {
    match name {
        "crash" => unsafe { std::ptr::null_mut::<u8>().write_volatile(1) },
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        "leave" => std::process::exit(0),
        "spin" => loop {
            std::hint::spin_loop();
        },
        "sleep" => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        "memory" => {
            let mut held = Vec::new();
            loop {
                held.push(vec![1_u8; 16 << 20]);
            }
        }
        "lie_offset" => row(rows, source.size_bytes, 10, "beyond the end")?,
        "gives_up" => return Err(io::Error::other("that is enough")),
        "chatter" => loop {
            io::stdout().write_all(&[b'x'; 65_536])?;
        },
        "rows" => loop {
            row(rows, 0, 1, "again")?;
        },
        "forge" => {
            // A batch of an output that the parser does not have.
            let mut lines = Batch::new(&[Kind::Bytes8]);
            lines.begin(0, 1, 0);
            lines.put(0, None);
            rows.send(9, &mut lines)?;
        }
        "open" => {
            let text = match std::fs::File::open("/etc/hostname") {
                Ok(_) => "done".to_owned(),
                Err(error) => format!("denied {}", error.raw_os_error().unwrap_or(0)),
            };
            say(rows, source, &text)?;
        }
        "socket" => {
            let result = std::net::UdpSocket::bind("127.0.0.1:0");
            say(rows, source, if result.is_ok() { "done" } else { "refused" })?;
        }
        "fork" => say(rows, source, &outcome(unsafe { fork() }.into()))?,
        "kill_parent" => say(rows, source, &outcome(unsafe { kill(getppid(), 9) }.into()))?,
        "thread" => {
            let sum = std::thread::spawn(|| 40 + 2).join().map_err(|_| io::Error::other("it panicked"))?;
            say(rows, source, &sum.to_string())?;
        }
        "execve" => say(rows, source, &outcome(run_path(EXECVE, 0)))?,
        "execveat_path" => say(rows, source, &outcome(run_path(EXECVEAT, 5)))?,
        "execveat_other" => say(rows, source, &outcome(run_path(EXECVEAT, -100)))?,
        "execveat_again" => {
            let empty: [c_char; 1] = [0];
            let arguments: [*const c_char; 2] = [empty.as_ptr(), std::ptr::null()];
            let result = unsafe { syscall(EXECVEAT, 5, empty.as_ptr(), arguments.as_ptr(), 0_usize, EMPTY_PATH) };
            say(rows, source, &outcome(result))?;
        }
        "arch_prctl" => say(rows, source, &outcome(unsafe { syscall(ARCH_PRCTL, 0x1001, 0_usize) }))?,
        "executable_memory" => {
            let result = unsafe { syscall(9, 0_usize, 4096_usize, 7, 0x22, -1, 0) };
            say(rows, source, &outcome(result))?;
        }
        "environment" => {
            let told: Vec<String> = std::env::args().chain(std::env::vars().map(|(name, _)| name)).collect();
            say(rows, source, &told.join(" "))?;
        }
        "descriptors" => {
            let open: Vec<String> = (0..64).filter(|n| unsafe { syscall(72, *n, 1) } >= 0).map(|n| n.to_string()).collect();
            say(rows, source, &open.join(" "))?;
        }
        _ => say(rows, source, "hello")?,
    }
    Ok(())
}
