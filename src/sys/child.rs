//! A child that waits between its fork and its exec, so that events can be opened on it before its first instruction.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, pipe2};

use crate::ids::Pid;

/// A command that runs, or waits to be released.
#[derive(Debug)]
pub struct Child {
    program: String,
    pid: nix::unistd::Pid,
    /// Readable once the child has ended.
    pidfd: Option<OwnedFd>,
    release: Option<File>,
    failure: File,
    status: Option<i32>,
    /// What it is told when it is released.
    go: u8,
}

/// What a child is told when it is released: to execute its command,
const GO: u8 = 1;
/// with its standard output where its standard error goes,
const DIVERT_STDOUT: u8 = 2;
/// with nothing in the place of its standard input,
const NO_STDIN: u8 = 4;
/// of its standard output,
const NO_STDOUT: u8 = 8;
/// and of its standard error.
const NO_STDERR: u8 = 16;

impl Child {
    /// Forks a child that will execute a command, found by `PATH`, once it is released.
    ///
    /// # Errors
    /// If there is no room for a process, or an argument holds a NUL.
    pub fn start(command: &[impl AsRef<OsStr>]) -> io::Result<Child> {
        let arguments =
            command.iter().map(|word| CString::new(word.as_ref().as_bytes())).collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = arguments.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let (wait, release) = pipe2(OFlag::O_CLOEXEC)?;
        let (failure, fail) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: the child calls nothing but async-signal-safe functions on memory that was prepared before.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop((release, failure));
                let mut go = [0];
                // Nothing is read if our parent ended instead of releasing us.
                if nix::unistd::read(&wait, &mut go) == Ok(1) {
                    // SAFETY: a system call. Rust's programs ignore SIGPIPE, which would outlast the exec.
                    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
                    arrange(go[0]);
                    // SAFETY: a list of NUL-terminated words, ended by a null pointer.
                    unsafe { libc::execvp(pointers[0], pointers.as_ptr()) };
                    let _ = nix::unistd::write(&fail, &(Errno::last_raw()).to_ne_bytes());
                }
                // SAFETY: ends the child without running what the parent registered for its own end.
                unsafe { libc::_exit(127) }
            }
            ForkResult::Parent { child } => Ok(Child {
                program: command.first().map_or(String::new(), |word| word.as_ref().to_string_lossy().into_owned()),
                pid: child,
                pidfd: pidfd(child),
                release: Some(File::from(release)),
                failure: File::from(failure),
                status: None,
                go: GO,
            }),
        }
    }

    /// The program that it executes, as it was asked for.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Its PID.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid(self.pid.as_raw())
    }

    /// What it will write to its standard output goes to the standard error: something else goes there.
    pub fn divert_stdout(&mut self) {
        self.go |= DIVERT_STDOUT;
    }

    /// What it would read from a terminal and write to one is nothing: somebody else has the terminal.
    pub fn leave_the_terminal(&mut self) {
        let parts = [(0, NO_STDIN), (1, NO_STDOUT), (2, NO_STDERR)];
        // SAFETY: a system call on a number.
        let taken = parts.into_iter().filter(|(fd, _)| unsafe { libc::isatty(*fd) } == 1);
        self.go |= taken.fold(0, |all, (_, part)| all | part);
    }

    /// Lets it execute its command, and waits until it has.
    ///
    /// # Errors
    /// Why the command could not be executed.
    pub fn release(&mut self) -> io::Result<()> {
        if let Some(mut release) = self.release.take() {
            release.write_all(&[self.go])?;
        }
        let mut code = [0; 4];
        match self.failure.read(&mut code)? {
            // Closed by the exec.
            0 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(code))),
        }
    }

    /// Readable once it has ended (Linux 5.3).
    #[must_use]
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Its exit status as a shell would give it, once it has ended: 128 and the signal's number if one ended it.
    pub fn try_wait(&mut self) -> Option<i32> {
        self.wait_with(Some(WaitPidFlag::WNOHANG))
    }

    /// Asks it to end, if it has not.
    pub fn terminate(&mut self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends it, if it has not ended.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(&mut self, signal: Signal) {
        // Until it is reaped, its PID is no one else's.
        if self.try_wait().is_none() {
            let _ = kill(self.pid, signal);
        }
    }

    fn wait_with(&mut self, flags: Option<WaitPidFlag>) -> Option<i32> {
        if self.status.is_none() {
            self.status = match waitpid(self.pid, flags) {
                Ok(WaitStatus::Exited(_, code)) => Some(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(128 + signal as i32),
                _ => None,
            };
        }
        self.status
    }
}

impl Drop for Child {
    /// A child that was never released ends by itself when the pipe closes; it is reaped here.
    fn drop(&mut self) {
        if self.release.take().is_some() {
            let _ = self.wait_with(None);
        }
    }
}

/// Arranges the descriptors of a child between its fork and its exec.
fn arrange(go: u8) {
    // SAFETY: a system call on a path that ends with NUL.
    let nothing = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    let parts = [(NO_STDIN, libc::STDIN_FILENO), (NO_STDOUT, libc::STDOUT_FILENO), (NO_STDERR, libc::STDERR_FILENO)];
    for (_, fd) in parts.into_iter().filter(|(part, _)| go & part != 0 && nothing >= 0) {
        // SAFETY: a system call on two descriptors that are open.
        unsafe { libc::dup2(nothing, fd) };
    }
    if go & DIVERT_STDOUT != 0 {
        // SAFETY: a system call on two descriptors that every program has.
        unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) };
    }
}

fn pidfd(pid: nix::unistd::Pid) -> Option<OwnedFd> {
    // SAFETY: takes no pointer.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    // SAFETY: a descriptor that the kernel just gave us, and nothing else owns.
    i32::try_from(fd).ok().filter(|&fd| fd >= 0).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_status_is_that_of_the_command() {
        let mut child = Child::start(&["sh", "-c", "exit 7"]).unwrap();
        assert_eq!(child.try_wait(), None);
        child.release().unwrap();
        while child.try_wait().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(child.try_wait(), Some(7));
    }

    #[test]
    fn a_command_that_is_not_there_says_so() {
        let mut child = Child::start(&["/nonexistent/command"]).unwrap();
        assert_eq!(child.release().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(child.wait_with(None), Some(127));
    }

    #[test]
    fn one_that_is_asked_to_end_tells_the_signal() {
        let mut child = Child::start(&["sleep", "1000"]).unwrap();
        child.release().unwrap();
        child.terminate();
        assert_eq!(child.wait_with(None), Some(143));
        child.kill();
    }

    #[test]
    fn one_that_is_never_released_goes_away() {
        let child = Child::start(&["sleep", "1000"]).unwrap();
        let pid = child.pid();
        drop(child);
        assert!(!std::path::Path::new(&format!("/proc/{}", pid.0)).exists());
    }
}
