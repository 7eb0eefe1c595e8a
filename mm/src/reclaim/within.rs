//! Reclaim within a group that is at its limit: the same eviction, but only of the group's own pages.
//!
//! Owns the rounds. What a group has and when it is relieved is [`crate::group`]'s; the machine's own reclaim goes on beside it, and
//! takes from every group in proportion.

use super::{CHUNK, CLUSTER, Fate, Mm, Platform, Policy, Replacement, Round};
use crate::group::{GroupId, GroupState};
use crate::manager::Core;
use crate::victim::Scope;

/// Candidates of a group that are looked at in a round: all pages of a small group as often as it takes to find that none can go. If it took
/// two rounds, it would begin anew in the round after, while the machine's own search ends in the one between, and the other way round: one
/// of the two would always have more to do, and reclaim never wait for who holds the pages.
const GLANCES: usize = CHUNK / 2 * Replacement::LOOKS;

impl<P: Platform> Mm<P> {
    /// One round for the groups in which somebody waits, until one of them takes it all.
    pub(super) fn reclaim_in_groups(&self, core: &mut Core<P>) -> Round {
        let (mut most, mut looked) = (Round::Enough, 0_u32);
        // Each at most once: one that waits for something must not keep another from its turn, nor begin anew and say that there is more.
        while let Some(id) = core.groups.first_wanting().filter(|id| looked & 1 << id.raw() == 0) {
            core.groups.set_served(id);
            looked |= 1 << id.raw();
            most = most.max(self.look_in_group(core, id));
            if most == Round::More {
                break;
            }
        }
        most
    }

    fn look_in_group(&self, core: &mut Core<P>, id: GroupId) -> Round {
        let (mut freed, mut copies_asked_for) = (0, false);
        for _ in 0..GLANCES {
            let frame = match core.look_into(id) {
                GroupState::Candidate(frame) => frame,
                GroupState::Relieved => {
                    self.announce_room(core, id);
                    return Round::Enough;
                }
                GroupState::Woken => return Round::Enough,
                GroupState::InTransit => return Round::Blocked,
                GroupState::Held => {
                    core.awaiting_release = true;
                    return Round::Held;
                }
                GroupState::Exhausted => {
                    self.declare_group_exhausted(core, id);
                    return Round::Enough;
                }
            };
            let fate = self.consider(core, frame);
            core.note_fate(id, matches!(fate, Fate::Freed));
            match fate {
                Fate::Freed => freed += 1,
                // Tables are charged to nobody, so none is in a group's lists.
                Fate::Kept | Fate::TableFreed => {}
                Fate::NoSlot if !copies_asked_for => {
                    copies_asked_for = true;
                    self.give_up_copies(core);
                }
                // Only the root's are stranded.
                Fate::NoSlot | Fate::Stranded => {}
                Fate::Busy => return Round::Blocked,
            }
            if freed == CLUSTER {
                return Round::More;
            }
        }
        Round::More
    }

    /// None of a group's pages can go: one of its programs has to end, unless one is about to.
    fn declare_group_exhausted(&self, core: &mut Core<P>, id: GroupId) {
        if core.groups.get_mut(id).is_some_and(|group| group.declare()) {
            self.wake_waiters_in(core, Scope::Group(id));
        }
    }
}
