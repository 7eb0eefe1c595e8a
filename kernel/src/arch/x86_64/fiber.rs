//! A fiber: synchronous code on a stack of its own, seen from outside as a future.
//!
//! Owns the switch between the stacks (by `corosensei`) and the rule of [`Suspender::block_on`]: the code inside waits for a
//! future by leaving its stack until the future's waker has been called. Does not own stacks (`stack.rs` makes them) nor what
//! runs inside: that is the file system's library, which knows no async (`fs/actor.rs`).
//!
//! ```text
//!   poll(cx) ─► resume(waker) ─► … library … block_on(disk) ─► pending: suspend ─► Poll::Pending
//!                                                           └► ready: goes on
//! ```
//! Host tests include this file as it is, with a stack from the host.
#![expect(unsafe_code, reason = "moves a suspended stack between polls")]

use core::cell::RefCell;
use core::future::Future;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};

use corosensei::stack::Stack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

/// See the module's head.
pub struct Fiber<S: Stack> {
    coroutine: Coroutine<Waker, (), (), S>,
}

// SAFETY: the closure is `Send`, and so is the stack. What the closure keeps on the stack across a suspension must not be tied to a
// thread either: the one user, `fs/actor.rs`, keeps the mounted file system there, which is plain owned data (rsext4 has no Rc, no
// thread-local and no raw pointer in what it owns), and the suspender, which only this stack uses.
unsafe impl<S: Stack + Send> Send for Fiber<S> {}

impl<S: Stack + 'static> Fiber<S> {
    /// A fiber that runs `body` when it is first polled.
    ///
    /// It must be polled to its end: a suspended stack cannot be unwound, so dropping a fiber halfway is a bug and panics.
    pub fn new(stack: S, body: impl FnOnce(&Suspender<'_>) + Send + 'static) -> Self {
        let body = |yielder: &Yielder<Waker, ()>, waker| body(&Suspender { yielder, waker: RefCell::new(waker) });
        Self { coroutine: Coroutine::with_stack(stack, body) }
    }
}

impl<S: Stack + Unpin> Future for Fiber<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.coroutine.resume(cx.waker().clone()) {
            CoroutineResult::Yield(()) => Poll::Pending,
            CoroutineResult::Return(()) => Poll::Ready(()),
        }
    }
}

/// What the code inside waits with.
pub struct Suspender<'a> {
    yielder: &'a Yielder<Waker, ()>,
    /// Of the poll under way.
    waker: RefCell<Waker>,
}

impl Suspender<'_> {
    /// Waits for a future, off the stack while it is pending.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            let waker = self.waker.borrow().clone();
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return value;
            }
            let next = self.yielder.suspend(());
            self.waker.replace(next);
        }
    }
}
