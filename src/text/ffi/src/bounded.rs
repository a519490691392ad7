//! Work that cannot be interrupted, within limits of time and memory: on a thread of its own, which
//! the caller stops waiting for.

use crate::guard::guarded;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Fuel bounds how deep a loop can nest lists, but dropping, comparing or printing them takes stack by
/// the level: hence a stack that the deepest fit. Its pages are taken only when they are used.
const STACK_BYTES: usize = 256 << 20;

/// Given-up threads beside which no further work begins. One bad request leaves room for the next;
/// what does this to all of them must not take a processor and the memory limit with each.
const MAX_STRAYS: usize = 2;

pub struct Limits {
    pub time: Duration,
    /// What the work may hold at once, from the call of `count_memory` on.
    pub memory_bytes: usize,
}

/// Why there is no result.
#[derive(Debug, PartialEq)]
pub enum Stop {
    Failed(String),
    Time,
    Memory,
    /// So many threads that were given up before still run.
    Strays(usize),
}

/// Counts the threads that were given up and still run. All callers of one kind of work share it.
#[derive(Default)]
pub struct Strays(AtomicUsize);

enum State {
    Running { thread: libc::pid_t }, // 0: not yet
    Ended(Result<String, String>),
    OutOfMemory, // waits for ever
    GivenUp,
}

/// What a caller and its thread share.
struct Job {
    state: Mutex<State>,
    changed: Condvar,
    strays: Arc<Strays>,
}

impl Job {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On the job's thread.
    fn end(&self, result: Result<String, String>) {
        let mut state = self.lock();
        if let State::GivenUp = *state {
            // Pairs with the load in run().
            self.strays.0.fetch_sub(1, Ordering::Release);
        } else {
            *state = State::Ended(result);
            self.changed.notify_one();
        }
    }

    /// On the job's thread, inside an allocation, which must neither fail (Rust ends the process) nor
    /// unwind: the thread stays where it is, with all it holds, and takes no more.
    fn wait_for_ever(&self) -> ! {
        {
            let mut state = self.lock();
            if let State::Running { .. } = *state {
                self.strays.0.fetch_add(1, Ordering::Relaxed);
                *state = State::OutOfMemory;
                self.changed.notify_one();
            }
        }
        loop {
            std::thread::sleep(Duration::from_secs(1 << 20));
        }
    }

    /// On the caller's thread.
    fn wait(&self, time: Duration) -> Result<String, Stop> {
        let (mut state, _) = self
            .changed
            .wait_timeout_while(self.lock(), time, |s| matches!(s, State::Running { .. }))
            .unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::GivenUp) {
            State::Ended(result) => result.map_err(Stop::Failed),
            State::Running { thread } => {
                self.strays.0.fetch_add(1, Ordering::Relaxed);
                if thread != 0 {
                    // From now on it gets the time that nobody else wants.
                    // SAFETY: no memory is passed; the thread lives, as it has not called end().
                    unsafe { libc::setpriority(libc::PRIO_PROCESS, thread as libc::id_t, 19) };
                }
                Err(Stop::Time)
            }
            State::OutOfMemory | State::GivenUp => Err(Stop::Memory),
        }
    }
}

/// Runs `work` on a thread with a large stack. A thread that reaches a limit is given up: it owns all
/// that it uses, and ends when its work does, or with the process.
pub fn run(
    limits: &Limits,
    strays: &Arc<Strays>,
    work: impl FnOnce() -> Result<String, String> + Send + 'static,
) -> Result<String, Stop> {
    // Pairs with the decrement in end().
    let running = strays.0.load(Ordering::Acquire);
    if running >= MAX_STRAYS {
        return Err(Stop::Strays(running));
    }
    let job = Arc::new(Job {
        state: Mutex::new(State::Running { thread: 0 }),
        changed: Condvar::new(),
        strays: strays.clone(),
    });
    let memory_bytes = limits.memory_bytes;
    let own = job.clone();
    let thread = std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || {
            if let State::Running { thread } = &mut *own.lock() {
                // SAFETY: takes nothing and cannot fail.
                *thread = unsafe { libc::gettid() };
            }
            LEFT.set(isize::try_from(memory_bytes).unwrap_or(isize::MAX));
            JOB.set(Arc::as_ptr(&own));
            let result = guarded(work);
            stop_counting();
            own.end(result);
        })
        .map_err(|e| Stop::Failed(format!("no thread for the chat template: {e}")))?;
    let result = job.wait(limits.time);
    if !matches!(result, Err(Stop::Time | Stop::Memory)) {
        // It is at its end. Thread sanitizers see what is handed over by this, not by std's locks.
        let _ = thread.join();
    }
    result
}

thread_local! {
    // Without a destructor, so that the allocator may read them at any time.
    static JOB: Cell<*const Job> = const { Cell::new(std::ptr::null()) };
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static LEFT: Cell<isize> = const { Cell::new(0) };
}

/// From now on what the work holds counts: what it was given does not.
pub fn count_memory() {
    COUNTS.set(!JOB.get().is_null());
}

fn stop_counting() {
    COUNTS.set(false);
    JOB.set(std::ptr::null());
}

/// The system's allocator with an account for the threads of run(): some of what templates do makes
/// lists and texts that nothing in the engine bounds.
struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

fn take(bytes: usize) {
    if COUNTS.get() {
        let left = LEFT.get().saturating_sub_unsigned(bytes);
        LEFT.set(left);
        if left < 0 {
            COUNTS.set(false);
            // SAFETY: run() keeps the job until it has called stop_counting() on this thread.
            unsafe { &*JOB.get() }.wait_for_ever();
        }
    }
}

fn give(bytes: usize) {
    if COUNTS.get() {
        LEFT.set(LEFT.get().saturating_add_unsigned(bytes));
    }
}

// SAFETY: the system's allocator does all of it, with the arguments as they came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        System.alloc_zeroed(layout)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        give(layout.size());
        System.dealloc(at, layout)
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        give(layout.size());
        System.realloc(at, layout, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Instant;

    fn limits(milliseconds: u64, memory_bytes: usize) -> Limits {
        Limits { time: Duration::from_millis(milliseconds), memory_bytes }
    }

    fn wait_for(strays: &Strays, count: usize) {
        let begin = Instant::now();
        while strays.0.load(Ordering::Acquire) != count {
            assert!(begin.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn results_and_failures_come_through() {
        let (limits, strays) = (limits(30_000, 1 << 20), Arc::new(Strays::default()));
        assert_eq!(run(&limits, &strays, || Ok("x".into())), Ok("x".into()));
        let failed = run(&limits, &strays, || Err("why".into()));
        assert_eq!(failed, Err(Stop::Failed("why".into())));
        match run(&limits, &strays, || panic!("boom")) {
            Err(Stop::Failed(text)) => assert!(text.contains("boom"), "{text}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(strays.0.load(Ordering::Acquire), 0);
    }

    #[test]
    fn who_takes_too_long_is_given_up_and_counted_until_it_ends() {
        let (short, strays) = (limits(20, 1 << 20), Arc::new(Strays::default()));
        let mut ends = Vec::new();
        for count in 1..=MAX_STRAYS {
            let (send, receive) = channel::<()>();
            ends.push(send);
            let begin = Instant::now();
            let stopped = run(&short, &strays, move || {
                let _ = receive.recv();
                Ok("late".into())
            });
            assert_eq!(stopped, Err(Stop::Time));
            assert!(begin.elapsed() < Duration::from_secs(10));
            wait_for(&strays, count);
        }
        let refused = run(&short, &strays, || panic!("it must not run"));
        assert_eq!(refused, Err(Stop::Strays(MAX_STRAYS)));
        ends.clear();
        wait_for(&strays, 0);
        assert_eq!(run(&limits(30_000, 1 << 20), &strays, || Ok("x".into())), Ok("x".into()));
    }

    #[test]
    fn who_takes_too_much_memory_is_stopped_at_once() {
        let (limits, strays) = (limits(30_000, 1 << 20), Arc::new(Strays::default()));
        let begin = Instant::now();
        let stopped = run(&limits, &strays, || {
            count_memory();
            let mut grows = Vec::new();
            loop {
                grows.push(vec![1u8; 1000]);
            }
        });
        assert_eq!(stopped, Err(Stop::Memory));
        assert!(begin.elapsed() < Duration::from_secs(10));
        assert_eq!(strays.0.load(Ordering::Acquire), 1); // it keeps what it has
        // What is given back is free again, and what came before count_memory() does not count.
        let used = run(&limits, &strays, || {
            let before = vec![1u8; 8 << 20];
            count_memory();
            let sum: usize = (0..100).map(|_| vec![1u8; 1 << 19].len()).sum();
            Ok((before.len() + sum).to_string())
        });
        assert_eq!(used, Ok(((8 << 20) + 100 * (1 << 19)).to_string()));
    }
}
