//! Copies of a journal: records taken over as they are, and the epoch that a restored one begins.

use super::{FileJournal, io};
use crate::domain::id::{Digest, Epoch};
use crate::journal::record::HEADER_VERSION;
use crate::journal::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, BODY_LEN_MAX, Head, Journal as _, JournalError, Outcome, Record,
    Refusal,
};

impl FileJournal {
    /// Stores records of another journal as they are, headers and all, so that the tree is the same. All of them, or
    /// those before the first that does not fit.
    ///
    /// # Errors
    /// A record that does not follow the one before it or does not have the digest in its header; a disk that fails.
    pub fn take_over(&self, records: &[Record]) -> Result<Head, JournalError> {
        let mut rest = records;
        while !rest.is_empty() {
            let (frame, after) = rest.split_at(frame_records(rest));
            rest = after;
            let mut writer = self.writer();
            let mut before = writer.head;
            for record in frame {
                check(record, &before)?;
                (before.seq, before.epoch) = (record.header.seq, record.header.epoch);
            }
            match writer.take_over(frame) {
                Outcome::Done(_) => drop(self.head.send_replace(writer.head)),
                Outcome::Refused(refusal) => return Err(self.failed(refusal)),
                Outcome::Unknown(why) => return Err(self.failed(Refusal::Closed { why })),
            }
        }
        Ok(self.head())
    }

    /// What is appended from now on belongs to this epoch, if it is a later one. It has begun when the next record is
    /// durable.
    pub fn begin_epoch(&self, epoch: Epoch) {
        let mut writer = self.writer();
        writer.head.epoch = writer.head.epoch.max(epoch);
        self.head.send_replace(writer.head);
    }

    fn failed(&self, refusal: Refusal) -> JournalError {
        io("write", &self.dir, std::io::Error::other(refusal))
    }
}

/// How many of the records fit into one frame: at least one.
fn frame_records(records: &[Record]) -> usize {
    let mut len = 0;
    let fits = |record: &&Record| {
        len += record.header.body_len as usize;
        len <= BATCH_BYTES_MAX
    };
    records.iter().take(BATCH_RECORDS_MAX).take_while(fits).count().max(1)
}

fn check(record: &Record, before: &Head) -> Result<(), JournalError> {
    let header = &record.header;
    let unfit = |why| Err(JournalError::Unfit { seq: header.seq, why });
    if header.version != HEADER_VERSION || header.body_len as usize > BODY_LEN_MAX {
        return unfit("its header is not one");
    }
    if header.seq != before.seq.next() {
        return unfit("it is not the next one");
    }
    if header.epoch < before.epoch {
        return unfit("the epoch goes back");
    }
    match &record.body {
        Some(body) if body.len() != header.body_len as usize || Digest::of(body) != header.body => {
            unfit("its body does not have the digest in its header")
        }
        _ => Ok(()),
    }
}
