//! Files that shrink while they are mapped. A target may truncate its own executable; the kernel then sends `SIGBUS` to
//! whoever touches the part that is gone, and a profiler must not die of what its target does.

use std::sync::Once;

use super::page_size;

/// From now on, a page of a mapped file that has been truncated away reads as zeros.
pub fn survive_truncated_files() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The handler must not have to compute it.
        let _ = page_size();
        // SAFETY: a zeroed sigaction is a valid one, and the handler only does what is safe in a signal handler.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_bus_error as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
        }
    });
}

/// Puts a page of zeros where a page of a file is missing. Only `mmap`, `signal` and `abort` are called, all of them
/// system calls or signal-safe.
extern "C" fn on_bus_error(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let page = page_size() as usize;
    // SAFETY: the kernel passes a valid siginfo. BUS_ADRERR comes only from a file mapping whose page is gone; replacing that
    // read-only page by zeros invalidates nothing that a parser relies on.
    unsafe {
        let address = (*info).si_addr() as usize & !(page - 1);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let code = (*info).si_code;
        let replaced = code == libc::BUS_ADRERR
            && libc::mmap(address as *mut libc::c_void, page, libc::PROT_READ, flags, -1, 0) != libc::MAP_FAILED;
        if !replaced {
            // Not ours: the default action follows when the instruction is tried again.
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_truncated_file_reads_as_zeros() -> io::Result<()> {
        survive_truncated_files();
        let file = tempfile::tempfile()?;
        file.set_len(3 * page_size())?;
        let map = super::super::map_file(&file)?;
        file.set_len(1)?;
        assert_eq!(map[2 * page_size() as usize], 0);
        Ok(())
    }
}
