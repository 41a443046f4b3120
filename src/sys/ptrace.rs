//! Threads of other processes, held still for a moment: ptrace(2), by `PTRACE_SEIZE` and never by `PTRACE_ATTACH`.
//!
//! Seizing sends no signal, so that nobody sees a SIGSTOP that was not sent, and a thread that was stopped before is so afterwards.
//! The kernel binds a traced thread to the one thread that traces it. When that one ends, however it ends, the kernel lets go of
//! all that it traces: nothing stays stopped.

use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, size_of};
use std::ptr::null_mut;

use crate::ids::{Address, Tid};

/// A thread that the calling thread traces, running or stopped. Dropped, it goes on if it is stopped; one that has not stopped goes on
/// being traced until the thread that traces it ends.
#[derive(Debug)]
pub struct Tracee {
    tid: Tid,
    state: TraceState,
    /// Whether it stopped because we asked it to, and for nothing else.
    by_request: bool,
    /// Only the thread that seized it may ask the kernel anything about it.
    of_this_thread: PhantomData<*const ()>,
}

/// What a traced thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceState {
    /// It runs, or waits in the kernel.
    Running,
    /// It is held, about to get this signal; 0 for none.
    Stopped(i32),
    /// It has ended.
    Gone,
}

impl Tracee {
    /// Begins to trace a thread, which runs on.
    ///
    /// # Errors
    /// `ESRCH` if it has ended, `EPERM` if we may not, if another traces it, or if it is a zombie, a thread of the kernel or our own.
    pub fn seize(tid: Tid) -> io::Result<Tracee> {
        request(libc::PTRACE_SEIZE, tid, null_mut(), null_mut())?;
        Ok(Tracee { tid, state: TraceState::Running, by_request: false, of_this_thread: PhantomData })
    }

    /// Which thread it is.
    #[must_use]
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// What it did when it was last asked.
    #[must_use]
    pub fn state(&self) -> TraceState {
        self.state
    }

    /// Asks it to stop. It does so when it next leaves the kernel, or at once where it waits for something that a signal may interrupt.
    pub fn interrupt(&mut self) {
        if request(libc::PTRACE_INTERRUPT, self.tid, null_mut(), null_mut()).is_err() {
            self.state = TraceState::Gone;
        }
    }

    /// Looks whether it has stopped or ended, without waiting.
    pub fn poll(&mut self) -> TraceState {
        if self.state == TraceState::Running {
            (self.state, self.by_request) = wait(self.tid);
        }
        self.state
    }

    /// The user registers; the thread must be stopped.
    ///
    /// # Errors
    /// `ESRCH` if it is not, or was killed meanwhile.
    pub fn registers(&self) -> io::Result<UserRegisters> {
        let (registers, compat) = self.raw_registers()?;
        Ok(UserRegisters::new(&registers, compat))
    }

    /// The registers as the kernel gives them, and whether they are those of a 32-bit task.
    fn raw_registers(&self) -> io::Result<(libc::user_regs_struct, bool)> {
        let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
        let mut place = libc::iovec { iov_base: registers.as_mut_ptr().cast(), iov_len: REGISTERS };
        request(libc::PTRACE_GETREGSET, self.tid, GENERAL as *mut c_void, (&raw mut place).cast())?;
        // SAFETY: plain numbers, all zero before the kernel wrote to them.
        let registers = unsafe { registers.assume_init() };
        // A 32-bit task has other registers, and fewer.
        Ok((registers, place.iov_len < REGISTERS))
    }

    /// Some waits come back with `EINTR` from any stop, though no signal came, which not every program expects. Where such a wait has
    /// no time limit, the kernel is told to begin it again, by the answer that it gives itself where it means that
    /// (`ERESTARTNOHAND` of the kernel's errno.h): if a handler is to run after all, it turns that into `EINTR`.
    ///
    /// Only x86-64 decides on it after the stop.
    #[cfg(target_arch = "x86_64")]
    fn restart_wait(&self) -> io::Result<()> {
        const ERESTARTNOHAND: i64 = 514;
        let (mut registers, compat) = self.raw_registers()?;
        let interrupted = registers.rax.cast_signed() == -i64::from(libc::EINTR);
        if compat || !interrupted || !waits_for_ever(&registers) {
            return Ok(());
        }
        registers.rax = (-ERESTARTNOHAND).cast_unsigned();
        let mut place = libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: REGISTERS };
        request(libc::PTRACE_SETREGSET, self.tid, GENERAL as *mut c_void, (&raw mut place).cast())
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn restart_wait(&self) -> io::Result<()> {
        Ok(())
    }
}

/// `NT_PRSTATUS` of elf.h: the general registers.
const GENERAL: usize = 1;
const REGISTERS: usize = size_of::<libc::user_regs_struct>();

/// Whether a thread at the end of a system call has waited in one that any stop interrupts, without a time limit. Outside of system calls
/// `orig_rax` is negative.
#[cfg(target_arch = "x86_64")]
fn waits_for_ever(registers: &libc::user_regs_struct) -> bool {
    // The arguments are in rdi, rsi, rdx, r10; a limit of milliseconds is an int.
    match registers.orig_rax.cast_signed() {
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => (registers.r10 as i32) < 0,
        libc::SYS_epoll_pwait2 | libc::SYS_semtimedop => registers.r10 == 0,
        libc::SYS_semop => true,
        libc::SYS_rt_sigtimedwait => registers.rdx == 0,
        _ => false,
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if let TraceState::Stopped(signal) = self.state {
            if self.by_request {
                // Where it fails, the thread was killed, or its wait comes back with EINTR.
                let _ = self.restart_wait();
            }
            // It can only have been killed, which is as good.
            let _ = request(libc::PTRACE_DETACH, self.tid, null_mut(), signal as usize as *mut c_void);
        }
    }
}

/// The user registers of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRegisters {
    /// All that `PERF_SAMPLE_REGS_USER` can bring of the general ones, in its order (`asm/perf_regs.h`).
    pub values: Vec<u64>,
    /// The next instruction.
    pub pc: Address,
    /// The stack pointer.
    pub sp: Address,
    /// The frame pointer.
    pub fp: Address,
    /// Whether the task is a 32-bit one; then nothing else is true.
    pub compat: bool,
}

#[cfg(target_arch = "x86_64")]
impl UserRegisters {
    fn new(r: &libc::user_regs_struct, compat: bool) -> UserRegisters {
        let values = vec![
            r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.rip, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
            r.r14, r.r15,
        ];
        UserRegisters { values, pc: Address(r.rip), sp: Address(r.rsp), fp: Address(r.rbp), compat }
    }
}

#[cfg(target_arch = "aarch64")]
impl UserRegisters {
    fn new(r: &libc::user_regs_struct, compat: bool) -> UserRegisters {
        let values = r.regs.iter().copied().chain([r.sp, r.pc]).collect();
        UserRegisters { values, pc: Address(r.pc), sp: Address(r.sp), fp: Address(r.regs[29]), compat }
    }
}

/// One request. Each pointer is what the request takes in its place, be it a number.
fn request(request: libc::c_uint, tid: Tid, address: *mut c_void, data: *mut c_void) -> io::Result<()> {
    // SAFETY: of the requests that are made here, only PTRACE_GETREGSET writes to our memory: into the iovec that it gets, and as
    // much as that says into the registers. PTRACE_SETREGSET reads as much.
    if unsafe { libc::ptrace(request, tid.0, address, data) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Looks at a traced thread, and whether it has stopped for us alone. `waitpid` of nix knows no real-time signals, so it is asked here.
fn wait(tid: Tid) -> (TraceState, bool) {
    let mut status = 0;
    // SAFETY: the kernel writes one int to the place that we lend it.
    let found = unsafe { libc::waitpid(tid.0, &raw mut status, libc::__WALL | libc::WNOHANG) };
    match found {
        0 => (TraceState::Running, false),
        found if found == tid.0 && libc::WIFSTOPPED(status) => stop(status),
        _ => (TraceState::Gone, false),
    }
}

/// The signal that a stopped thread is about to get. Where it stopped for us (`PTRACE_EVENT_STOP` with SIGTRAP), or for a SIGSTOP or its
/// like that it has had already (with that signal), there is none.
fn stop(status: i32) -> (TraceState, bool) {
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        0 => (TraceState::Stopped(signal), false),
        event => (TraceState::Stopped(0), event == libc::PTRACE_EVENT_STOP && signal == libc::SIGTRAP),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeper() -> (Child, Tid) {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let tid = Tid(child.id() as i32);
        (child, tid)
    }

    #[test]
    fn a_thread_is_held_and_goes_on() {
        let (mut child, tid) = sleeper();
        let mut tracee = Tracee::seize(tid).unwrap();
        assert!(tracee.registers().is_err(), "it runs");
        tracee.interrupt();
        while tracee.poll() == TraceState::Running {
            std::thread::yield_now();
        }
        assert_eq!(tracee.state(), TraceState::Stopped(0));
        let registers = tracee.registers().unwrap();
        assert!(registers.values.contains(&registers.pc.0) && !registers.compat);
        let mut stack = [0; 64];
        assert_eq!(crate::sys::read_memory(tid, registers.sp, &mut stack), 64);
        assert_eq!(crate::sys::read_memory(tid, Address(8), &mut stack), 0);
        drop(tracee);
        // It is traced by nobody, so that it can be seized again.
        drop(Tracee::seize(tid).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_thread_that_ended_is_gone() {
        let (mut child, tid) = sleeper();
        let mut tracee = Tracee::seize(tid).unwrap();
        child.kill().unwrap();
        while tracee.poll() == TraceState::Running {
            std::thread::yield_now();
        }
        assert_eq!(tracee.state(), TraceState::Gone);
        assert_eq!(Tracee::seize(tid).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn a_signal_on_its_way_is_told_from_our_stop() {
        assert_eq!(stop(libc::SIGUSR1 << 8 | 0x7f), (TraceState::Stopped(libc::SIGUSR1), false));
        assert_eq!(stop(libc::PTRACE_EVENT_STOP << 16 | libc::SIGTRAP << 8 | 0x7f), (TraceState::Stopped(0), true));
        assert_eq!(stop(libc::PTRACE_EVENT_STOP << 16 | libc::SIGSTOP << 8 | 0x7f), (TraceState::Stopped(0), false));
    }
}
