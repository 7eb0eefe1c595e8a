//! What threads of the storm do when they fork: the same thread goes on as the child for a while, among the other threads of the parent.

use super::{CHILDREN, LANES, Supply, Thread};
use std::pin::Pin;

/// Most operations that a child lives for.
const LIFE: usize = 60;

impl Thread {
    /// Forks, lives as the child, which may fork again, and comes back when that has ended.
    pub(super) fn fork(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let machine = self.stage.machine.clone();
            // What others do to the areas of the parent meanwhile is not the model's concern.
            let all = self.stage.config.arenas + 1 + LANES;
            let claims: Vec<_> = (0..all).map_while(|arena| self.claim(arena)).collect();
            if claims.len() < all {
                return;
            }
            let Some(child) = self.child_to_be() else { return };
            let Some(space) = machine.create_space() else { return self.end_child(child) };
            let parent = self.space;
            self.stage.spaces.lock().expect("nobody panicked")[child] = space;
            self.stage.model().begin_fork(parent, child);
            let forked = machine.mm().fork_space(self.id(), space).await;
            self.stage.model().finish_fork(parent, child);
            drop(claims);
            self.stage.journal.note("fork", forked.is_ok().into());
            if forked.is_err() {
                assert!(self.has_ended() || self.stage.config.supply == Supply::Tight, "there is memory");
                machine.mm().destroy_space(space).await;
                return self.end_child(child);
            }
            self.stage.counts.lock().expect("nobody panicked").forks += 1;
            self.space = child;
            for _ in 0..self.below(LIFE) {
                if self.has_ended() {
                    break;
                }
                self.operate().await;
            }
            machine.mm().release_holds(&mut self.holds);
            if !self.has_ended() {
                machine.mm().destroy_space(space).await;
            }
            self.space = parent;
            self.end_child(child);
        })
    }

    /// A number for a child, if there may be another one.
    fn child_to_be(&self) -> Option<usize> {
        let first = self.stage.config.spaces;
        let mut children = self.stage.children.lock().expect("nobody panicked");
        let child = (first..first + CHILDREN).find(|child| !children.contains(child))?;
        children.insert(child);
        self.stage.ended.lock().expect("nobody panicked").remove(&child);
        Some(child)
    }

    fn end_child(&self, child: usize) {
        self.stage.children.lock().expect("nobody panicked").remove(&child);
    }
}
