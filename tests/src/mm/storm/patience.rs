//! Calls that may be given up: the future is dropped where it waits, as that of a thread that is killed.

use super::{Stage, Thread};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A call that is given up when it has been polled so often; `None` then.
pub(super) struct Patient<F> {
    call: Option<Pin<Box<F>>>,
    polls: Option<u32>,
    stage: Arc<Stage>,
}

impl<F: Future> Future for Patient<F> {
    type Output = Option<F::Output>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.call.as_mut().expect("it is not over");
        if let Poll::Ready(output) = call.as_mut().poll(cx) {
            self.call = None;
            return Poll::Ready(Some(output));
        }
        let Some(polls) = &mut self.polls else { return Poll::Pending };
        *polls -= 1;
        if *polls > 0 {
            return Poll::Pending;
        }
        self.call = None;
        self.stage.count(|counts| counts.given_up += 1);
        Poll::Ready(None)
    }
}

impl Thread {
    /// One call in twenty is given up after a few polls, if it is not over by then.
    pub(super) fn patience(&mut self) -> Option<u32> {
        let impatient = self.rng.below(20) == 0;
        impatient.then(|| 1 + self.rng.below(6) as u32)
    }

    /// Has a call made, perhaps not to its end.
    pub(super) fn patiently<F: Future>(&mut self, call: F) -> Patient<F> {
        let polls = self.patience();
        self.stage.patiently(polls, call)
    }
}

impl Stage {
    /// Has a call made, for so many polls at most.
    pub(super) fn patiently<F: Future>(self: &Arc<Self>, polls: Option<u32>, call: F) -> Patient<F> {
        Patient { call: Some(Box::pin(call)), polls, stage: self.clone() }
    }
}
