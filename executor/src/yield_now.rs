//! Giving way: the one future that is ready on its second poll.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

/// Gives way: lets kernel tasks and whoever was woken run first.
///
/// The task wakes itself during the poll, which puts a user task behind the woken ones
/// and before the pre-empted ones, as long as its turn lasts ([`Config::turn`](crate::Config)), and a
/// kernel task at the back of the kernel lane. Whose turn is over says so by
/// [`Executor::end_turn`](crate::Executor::end_turn). A kernel task that
/// only ever yields therefore runs beside other kernel tasks and before user tasks; see
/// [`Config::patience`](crate::Config) for what keeps it from starving them.
pub fn yield_now() -> YieldNow {
    YieldNow { state: State::Fresh }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    state: State,
}

#[derive(Debug)]
enum State {
    Fresh,
    Yielded,
}

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.state {
            State::Fresh => {
                self.state = State::Yielded;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            State::Yielded => Poll::Ready(()),
        }
    }
}
