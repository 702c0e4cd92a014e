//! A reader that counts: no record and no file is longer than allowed, whatever the parser above would take in.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::rc::Rc;

use aws_lc_rs::digest::{Context, SHA256};

use super::{FILE_LEN_MAX, RECORD_LEN_MAX};
use crate::domain::id::Digest;

/// What was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    File,
    Record,
}

/// What is known of the bytes that were read so far.
pub(super) struct Counts {
    total: Cell<u64>,
    since_record: Cell<u64>,
    quotes: Cell<u64>,
    last: Cell<u8>,
    passed: Cell<Option<Passed>>,
    hash: RefCell<Context>,
}

impl Counts {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            total: Cell::new(0),
            since_record: Cell::new(0),
            quotes: Cell::new(0),
            last: Cell::new(0),
            passed: Cell::new(None),
            hash: RefCell::new(Context::new(&SHA256)),
        })
    }

    /// A record is complete. What the parser has read ahead, a few KiB, is not counted for the next one.
    pub(super) fn record_ends(&self) {
        self.since_record.set(0);
    }

    pub(super) fn passed(&self) -> Option<Passed> {
        self.passed.get()
    }

    pub(super) fn has_open_quote(&self) -> bool {
        self.quotes.get() % 2 == 1
    }

    pub(super) fn ends_with_newline(&self) -> bool {
        self.last.get() == b'\n'
    }

    pub(super) fn file(&self) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.hash.borrow().clone().finish().as_ref());
        Digest(digest)
    }

    fn count(&self, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        self.total.set(self.total.get().saturating_add(len));
        self.since_record.set(self.since_record.get().saturating_add(len));
        let quotes = bytes.iter().filter(|byte| **byte == b'"').count() as u64;
        self.quotes.set(self.quotes.get().wrapping_add(quotes));
        if let Some(last) = bytes.last() {
            self.last.set(*last);
        }
        self.hash.borrow_mut().update(bytes);
        let passed = match () {
            () if self.total.get() > FILE_LEN_MAX => Passed::File,
            () if self.since_record.get() > RECORD_LEN_MAX => Passed::Record,
            () => return Ok(()),
        };
        self.passed.set(Some(passed));
        Err(io::Error::other("longer than allowed"))
    }
}

/// Reads and counts.
pub(super) struct Guard<R> {
    inner: R,
    counts: Rc<Counts>,
}

impl<R> Guard<R> {
    pub(super) fn new(inner: R, counts: &Rc<Counts>) -> Self {
        Self { inner, counts: Rc::clone(counts) }
    }
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.counts.count(buffer.get(..len).unwrap_or_default())?;
        Ok(len)
    }
}
