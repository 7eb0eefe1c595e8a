//! What happens when the store of files has done something: pages become clean, stay dirty, leave, or the error is told.
//!
//! Owns the end of operations on files, as [`crate::pager`] owns that of operations on swap; its task calls here.

use super::file::LEAVING;
use super::{ObjectId, ObjectPage};
use crate::file_store::{FileCompletion, FileError, FileRequest, FileStore as _};
use crate::frame::{IoFrame, Residence};
use crate::home::Home;
use crate::manager::{Core, Mm};
use crate::ops::{Op, OpId, OpKind, Target};
use crate::page::{PageCopy, Record};
use crate::platform::{IoFrames, Platform};
use crate::stats::PageClass;
use core::ops::ControlFlow;

impl<P: Platform> Mm<P> {
    /// Gives a request to the store of files, or queues it until the store has room.
    pub(super) fn submit_file(&self, core: &mut Core<P>, request: FileRequest) {
        let Some(files) = &self.files else { unreachable!("a file without a store") };
        let refused = if core.pending_files.is_empty() { files.try_submit(request).err() } else { Some(request) };
        if let Some(request) = refused {
            core.pending_files.push_back(request);
        }
    }

    fn submit_pending_files(&self, core: &mut Core<P>) {
        let Some(files) = &self.files else { return };
        while let Some(request) = core.pending_files.pop_front() {
            if let Err(request) = files.try_submit(request) {
                core.pending_files.push_front(request);
                return;
            }
        }
    }

    /// Takes in a completion: the operation, and `Break` if that is over, `Continue` if it is tried again.
    pub(crate) fn complete_file(&self, core: &mut Core<P>, completion: FileCompletion) -> ControlFlow<OpId, OpId> {
        let FileCompletion { mut request, result } = completion;
        let id = request.op;
        let Some(op) = core.ops.get_mut(id) else { panic!("completion of {id:?}, which is not under way") };
        core.counters.file_completed += 1;
        let again = op.kind != OpKind::Prepare && result.is_err() && !core::mem::replace(&mut op.retried, true);
        if again {
            *(if op.kind == OpKind::Fill { &mut core.counters.file_reads } else { &mut core.counters.file_writes }) +=
                1;
            self.submit_file(core, request);
            self.submit_pending_files(core);
            return ControlFlow::Continue(id);
        }
        let told = match (op.kind, op.target) {
            // A run that failed is tried again page by page, so that each one's error is its own.
            (OpKind::Fill | OpKind::Prepare, Target::File(object, _, 2..)) if result.is_err() => {
                core.objects.go_singly(object);
                Ok(())
            }
            _ => result,
        };
        let Some(op) = core.ops.end_in(id, told) else { unreachable!("looked up above") };
        let Target::File(object, page, count) = op.target else { unreachable!("swap has completions of its own") };
        match op.kind {
            OpKind::Fill => self.finish_file_fill(core, (object, page), &mut request.frames, result),
            OpKind::Clean => self.finish_file_clean(core, &op, object, &mut request.frames, result),
            OpKind::Prepare if result.is_ok() => core.note_prepared(object, page, count),
            OpKind::Prepare | OpKind::Discard | OpKind::WriteBack => {}
        }
        core.ops.put_back(op, request.frames);
        self.reopen(core, object);
        self.submit_pending_files(core);
        ControlFlow::Break(id)
    }

    fn finish_file_fill(
        &self,
        core: &mut Core<P>,
        (object, first): (ObjectId, ObjectPage),
        frames: &mut IoFrames,
        result: Result<(), FileError>,
    ) {
        for (i, token) in frames.drain().enumerate() {
            if self.reap_orphan(core, &token) {
                self.free_user(core, token.returned());
                continue;
            }
            let page = first.after(i as u64);
            if result.is_ok() {
                self.zero_tail(core, (object, page), token.pfn());
                self.settle_file_page(core, token);
                continue;
            }
            core.counters.file_read_err += 1;
            core.turn(Home::Object(object, page), PageClass::Filling, PageClass::Absent, Record::Absent);
            core.void_holds(token.pfn());
            core.table.get_mut(token.pfn()).set_residence(Residence::None);
            self.free_user(core, token.returned());
        }
    }

    fn settle_file_page(&self, core: &mut Core<P>, token: IoFrame) {
        core.counters.pgfilein += 1;
        let frame = core.table.keep(token);
        core.set_residence(frame, Residence::Clean);
        let desc = core.table.get_mut(frame);
        desc.set_copy(Some(PageCopy::File));
        desc.set_young(true);
        let home = desc.home();
        core.set_record(home, Record::Resident(frame));
        core.readmit(frame);
    }

    fn finish_file_clean(
        &self,
        core: &mut Core<P>,
        op: &Op,
        object: ObjectId,
        frames: &mut IoFrames,
        result: Result<(), FileError>,
    ) {
        if let (Err(error), Some(object)) = (result, core.objects.get_mut(object)) {
            object.write_error = Some(error);
        }
        for (page, token) in op.pages.iter().zip(frames.drain()) {
            core.count_leaving(token.pfn(), -i64::from(page.tag == LEAVING));
            if self.reap_orphan(core, &token) {
                self.free_user(core, token.returned());
            } else if result.is_err() {
                // It stays as it is: dirty, to be written later on.
                core.counters.file_write_err += 1;
                self.stay(core, token, None);
            } else {
                core.counters.pgfileout += 1;
                let desc = core.table.get(token.pfn());
                if desc.residence() == Residence::Evicting {
                    self.leave(core, token.returned(), PageCopy::File);
                } else {
                    self.stay(core, token, Some(PageCopy::File));
                }
            }
        }
    }
}

impl<P: Platform> Core<P> {
    /// The store has blocks for these pages.
    fn note_prepared(&mut self, id: ObjectId, first: ObjectPage, count: u32) {
        let Self { objects, table, .. } = self;
        let Some(object) = objects.get_mut(id) else { return };
        for page in (0..u64::from(count)).map(|i| first.after(i)) {
            if let Record::Resident(frame) = object.index.get(page.key()) {
                table.get_mut(frame).set_prepared(true);
            }
        }
        object.note_prepared(first, count);
    }
}
