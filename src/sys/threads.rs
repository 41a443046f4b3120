//! Work in several threads at once.

use std::thread::{self, ScopedJoinHandle};

/// Does each part of some work in a thread of its own, the first one in this, and answers what they gave, in their order. A part for which
/// no thread is to be had (a limit of memory or of tasks) is done here too.
pub fn in_threads<T: Send>(parts: usize, part: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let part = &part;
    thread::scope(|scope| {
        let others: Vec<Option<ScopedJoinHandle<'_, T>>> =
            (1..parts).map(|at| thread::Builder::new().spawn_scoped(scope, move || part(at)).ok()).collect();
        let first = (parts > 0).then(|| part(0));
        let done = |(at, thread): (usize, Option<ScopedJoinHandle<'_, T>>)| match thread.map(ScopedJoinHandle::join) {
            None => part(at),
            Some(Ok(done)) => done,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        };
        first.into_iter().chain((1..).zip(others).map(done)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::in_threads;

    #[test]
    fn parts_stand_in_their_order() {
        assert_eq!(in_threads(5, |part| part * 2), [0, 2, 4, 6, 8]);
        assert!(in_threads(0, |part| part).is_empty());
    }
}
