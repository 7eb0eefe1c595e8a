//! Faults on pages of objects: shared as they are, private as copies of them.
//!
//! Owns which page of which object a fault is about, and what its mapping may allow. What is then done with the page's record is
//! [`crate::fault`]'s, the same as for any other page: one path, one place that maps.

use super::{ObjectId, ObjectPage, Sharing};
use crate::fault::{FaultError, Holds, Original, Step, Subject};
use crate::home::Home;
use crate::manager::{Core, Mm};
use crate::page::{PageCopy, Record};
use crate::platform::{Access, Platform};

impl<P: Platform> Mm<P> {
    /// A page in an area that maps an object; `own` is the record that the space itself has of it.
    #[cold]
    pub(crate) fn serve_object<'a>(
        &'a self,
        core: &mut Core<P>,
        subject: Subject,
        holds: &mut Holds,
        own: Record,
        (id, page, sharing): (ObjectId, ObjectPage, Sharing),
    ) -> Step<'a, P> {
        // Also for pages that the space has copied: a file that was truncated ends there for everybody (POSIX mmap, SIGBUS).
        let Some(object) = core.objects.get_mut(id).filter(|object| page < object.end()) else {
            return Step::Failed(FaultError::BadPage);
        };
        match own {
            Record::Absent => {}
            Record::Shared(anon) => return self.serve_shared(core, subject, holds, anon),
            own => return self.serve(core, subject, holds, own),
        }
        let record = object.index.get(page.key());
        if object.file().is_some() {
            return self.serve_file(core, subject, holds, (id, page, sharing), record);
        }
        let home = Home::Object(id, page);
        let writes = subject.request.access == Access::Write;
        match (sharing, record) {
            (Sharing::Shared | Sharing::Viewed, record) => self.serve(core, Subject { home, ..subject }, holds, record),
            (Sharing::Private, Record::Resident(frame)) if writes => {
                self.copy_on_write(core, subject, holds, Original::Frame(frame))
            }
            (Sharing::Private, Record::Away(PageCopy::Fill(word))) if writes => {
                self.copy_on_write(core, subject, holds, Original::Word(word))
            }
            (Sharing::Private, Record::Away(PageCopy::Tier(id, tag))) if writes => {
                self.copy_from_tier(core, (subject, home), holds, (id, tag))
            }
            (Sharing::Private, Record::Absent) if writes => self.copy_on_write(core, subject, holds, Original::Word(0)),
            (Sharing::Private, record) => {
                let rights = subject.rights.without_write();
                self.serve(core, Subject { home, rights, ..subject }, holds, record)
            }
        }
    }
}
