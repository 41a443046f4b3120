//! What happens where there is no memory: a message and an exit status, as for every other failure, instead of a signal.
//!
//! Rust aborts once an allocation fails that nobody can do without. Its hook for that is not stable, so the allocator notes what failed,
//! and a handler of the abort's signal looks at the note. Allocations whose caller can do without (`try_reserve`) stay theirs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;

/// The exit status, which is that of every failure.
const FAILURE: i32 = 255;

thread_local! {
    /// The size of the last allocation of this thread, if it failed.
    static FAILED: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which notes what failed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory;

// SAFETY: every call is the system allocator's, with the same arguments and answers.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that are asked for.
        noted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        noted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        noted(unsafe { System.realloc(place, layout, size) }, size)
    }
}

fn noted(place: *mut u8, size: usize) -> *mut u8 {
    if place.is_null() {
        // A thread that has given back its own is past allocating.
        let _ = FAILED.try_with(|failed| failed.set(size));
    }
    place
}

/// From now on, a program that has no memory says so and exits with status 255. It must have [`Memory`] as its allocator.
pub fn exit_where_memory_ends() {
    // SAFETY: a zeroed sigaction is a valid one, and the handler only does what is safe in a signal handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_abort as *const () as usize;
        libc::sigaction(libc::SIGABRT, &raw const action, std::ptr::null_mut());
    }
}

/// Tells an abort for want of memory from all others, which go on. Only `write`, `signal` and `_exit` are called.
extern "C" fn on_abort(_signal: libc::c_int) {
    let failed = FAILED.try_with(Cell::get).unwrap_or(0);
    // SAFETY: all three may be called in a handler; the text lies on this stack.
    unsafe {
        if failed == 0 {
            libc::signal(libc::SIGABRT, libc::SIG_DFL);
            return;
        }
        let mut text = [0_u8; 200];
        let mut rest = &mut text[..];
        let _ = writeln!(
            rest,
            "rprof: out of memory: {failed} bytes more are not to be had; give it more (ulimit -v, MemoryMax=) or ask for less at once"
        );
        let length = 200 - rest.len();
        libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), length);
        libc::_exit(FAILURE);
    }
}
