//! Claim: threads with mutex, condition variable, channels, thread-local state, barrier and join work as std promises.

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use workloads::claim::Claims;

const THREADS: u64 = 4;
const TURNS: u64 = 1000;

thread_local! {
    static LOCAL: Cell<u64> = const { Cell::new(0) };
}

fn main() -> ExitCode {
    let mut claims = Claims::new("threads");
    baton(&mut claims);
    counter(&mut claims);
    channels(&mut claims);
    locals(&mut claims);
    timeouts(&mut claims);
    many(&mut claims);
    claims.finish("")
}

/// A baton goes round; each thread waits for its turn on one condition variable.
fn baton(claims: &mut Claims) {
    let baton = Arc::new((Mutex::new(0_u64), Condvar::new()));
    let threads: Vec<_> = (0..THREADS)
        .map(|me| {
            let baton = Arc::clone(&baton);
            thread::spawn(move || {
                let (turn, changed) = &*baton;
                for _ in 0..TURNS {
                    let mut turn =
                        changed.wait_while(turn.lock().expect("lock"), |turn| *turn % THREADS != me).expect("wait");
                    *turn += 1;
                    changed.notify_all();
                }
            })
        })
        .collect();
    let joined = threads.into_iter().all(|thread| thread.join().is_ok());
    claims.holds("every thread of the baton joins", joined);
    claims.equal("turns of the baton", *baton.0.lock().expect("lock"), THREADS * TURNS);
}

/// A mutex excludes: unsynchronised reads and writes inside it lose nothing.
fn counter(claims: &mut Claims) {
    let total = Mutex::new(0_u64);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for turn in 0..TURNS {
                    let mut guard = total.lock().expect("lock");
                    let seen = *guard;
                    if turn % 64 == 0 {
                        thread::yield_now();
                    }
                    *guard = seen + 1;
                }
            });
        }
    });
    claims.equal("increments under the mutex", total.into_inner().expect("lock"), THREADS * TURNS);
}

/// A bounded channel makes senders wait; an unbounded one carries the sums back; both end when their senders are gone.
fn channels(claims: &mut Claims) {
    let (numbers, receiver) = mpsc::sync_channel(8);
    let receiver = Arc::new(Mutex::new(receiver));
    let (sums, results) = mpsc::channel();
    for _ in 0..THREADS {
        let (receiver, sums) = (Arc::clone(&receiver), sums.clone());
        thread::spawn(move || {
            let mut sum = 0_u64;
            loop {
                let next = receiver.lock().expect("lock").recv();
                let Ok(number) = next else { break };
                sum += number;
            }
            sums.send(sum).expect("main listens");
        });
    }
    drop(sums);
    (1..=TURNS).for_each(|number| numbers.send(number).expect("somebody listens"));
    drop(numbers);
    claims.equal("sum through channels", results.iter().sum::<u64>(), TURNS * (TURNS + 1) / 2);
}

/// Every thread has its own copy of a thread-local; a barrier makes sure that they all exist at once.
fn locals(claims: &mut Claims) {
    let barrier = Barrier::new(THREADS as usize);
    let wrong = AtomicU64::new(0);
    LOCAL.set(99);
    thread::scope(|scope| {
        for me in 1..=THREADS {
            let (barrier, wrong) = (&barrier, &wrong);
            scope.spawn(move || {
                wrong.fetch_add(LOCAL.get(), Ordering::Relaxed);
                LOCAL.set(me);
                barrier.wait();
                wrong.fetch_add(LOCAL.get().abs_diff(me), Ordering::Relaxed);
            });
        }
    });
    claims.equal("thread-locals seen by others", wrong.into_inner(), 0);
    claims.equal("main's thread-local", LOCAL.get(), 99);
}

/// Waits end on time when nobody comes.
fn timeouts(claims: &mut Claims) {
    const WAIT: Duration = Duration::from_millis(20);
    let start = Instant::now();
    let (lock, never) = (Mutex::new(()), Condvar::new());
    let guard = lock.lock().expect("lock");
    let (_guard, result) = never.wait_timeout_while(guard, WAIT, |()| true).expect("lock");
    claims.holds("a condition nobody signals times out", result.timed_out() && start.elapsed() >= WAIT);

    let start = Instant::now();
    thread::park_timeout(WAIT);
    let sleeper = thread::spawn(thread::park);
    sleeper.thread().unpark();
    claims.holds("a parked thread is woken", sleeper.join().is_ok());
    claims.holds("all that in bearable time", start.elapsed() < Duration::from_secs(20));
}

/// Stacks and numbers of ended threads are given back: there would be no room for as many at once.
fn many(claims: &mut Claims) {
    let total = Arc::new(AtomicU64::new(0));
    for round in 0..200 {
        let total = Arc::clone(&total);
        let worker = move || {
            let on_stack = std::hint::black_box([round; 2048]);
            total.fetch_add(on_stack[2047], Ordering::Relaxed);
        };
        let joined = thread::Builder::new().stack_size(16 << 20).spawn(worker).expect("spawn").join();
        assert!(joined.is_ok(), "round {round}");
    }
    claims.equal("200 threads one after another", total.load(Ordering::Relaxed), 199 * 200 / 2);
}
