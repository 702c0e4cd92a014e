//! Calls that are not on disk yet: one line for each, and for those that repeat one line with a count, so that a flood cannot
//! push out evidence. Pure: who has the clock says when.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

use crate::domain::call::{AGGREGATED, CallLine, CallerName, DROPPED, NO_METHOD, Origin};
use crate::domain::id::{RequestId, Seq};
use crate::domain::time::Timestamp;

/// For how long repeated calls are one line: a flood then writes as many lines an hour as a working day has hours.
const WINDOW_MS: u64 = 60_000;
/// Kinds of calls (caller, address, method, code and reason) that are told apart at once: every officer and gateway of a large
/// fleet with several methods each, in some MiB.
const KINDS_MAX: usize = 16_384;
/// Of those, kinds of strangers, who choose their addresses.
const STRANGER_KINDS_MAX: usize = 4_096;
/// Calls with a record of their own between two writes: ten times what a machine issues in a second. One that is dropped is on
/// record all the same.
const RECORDED_MAX: usize = 50_000;
/// Callers whose refusals are counted one by one when there is no room for their kinds.
const CROWDED_MAX: usize = 4_096;

/// One call that was answered.
#[derive(Debug, Clone)]
pub struct Call {
    /// When.
    pub at: Timestamp,
    /// Its name.
    pub request: RequestId,
    /// Its method; none: there is no such method.
    pub method: Option<&'static str>,
    /// Who.
    pub caller: CallerName,
    /// A principal's address, or the network of anybody else.
    pub address: Option<IpAddr>,
    /// gRPC's code, in words.
    pub code: &'static str,
    /// The stable reason of an error, or empty.
    pub reason: Cow<'static, str>,
    /// How long it took.
    pub took_us: u64,
    /// The record that it made.
    pub seq: Option<Seq>,
    /// What was asked for, if it is no method.
    pub detail: Option<String>,
}

impl Call {
    fn line(self) -> CallLine {
        CallLine {
            at: self.at,
            last: self.at,
            count: 1,
            request: Some(self.request),
            method: self.method.unwrap_or(NO_METHOD).to_owned(),
            caller: self.caller,
            address: self.address.map(|address| address.to_string()),
            code: self.code.to_owned(),
            reason: self.reason.into_owned(),
            took_us: self.took_us,
            seq: self.seq,
            detail: self.detail,
        }
    }

    fn is_refusal(&self) -> bool {
        self.code != "OK"
    }
}

type Kind = (Option<&'static str>, CallerName, Option<IpAddr>, &'static str, Cow<'static, str>);

/// Calls of one kind since the window began.
#[derive(Debug)]
struct Repeated {
    /// None: nothing since the last line was written.
    line: Option<CallLine>,
    /// When the last line was written; none: the first is not yet.
    written_ms: Option<u64>,
}

/// What is not written yet.
#[derive(Debug, Default)]
pub(super) struct Book {
    kinds: HashMap<Kind, Repeated>,
    stranger_kinds: usize,
    recorded: Vec<CallLine>,
    crowded: HashMap<(CallerName, String), CallLine>,
    /// Calls that left no line, since the last line that says so.
    dropped: u64,
    /// Those of them that were returned as news already.
    told: u64,
}

impl Book {
    /// Notes a call.
    pub(super) fn note(&mut self, call: Call) {
        if call.seq.is_some() {
            match self.recorded.len() < RECORDED_MAX {
                true => self.recorded.push(call.line()),
                false => self.dropped += 1,
            }
            return;
        }
        let kind = (call.method, call.caller.clone(), call.address, call.code, call.reason.clone());
        if let Some(known) = self.kinds.get_mut(&kind) {
            add(&mut known.line, call.line());
        } else if self.has_room(&call.caller) {
            self.stranger_kinds += usize::from(call.caller.origin() == Origin::Strangers);
            self.kinds.insert(kind, Repeated { line: Some(call.line()), written_ms: None });
        } else if call.is_refusal() {
            self.crowd(call.line());
        } else {
            self.dropped += 1;
        }
    }

    fn has_room(&self, caller: &CallerName) -> bool {
        self.kinds.len() < KINDS_MAX
            && (caller.origin() == Origin::Known || self.stranger_kinds < STRANGER_KINDS_MAX)
    }

    /// Counts a refusal for which there is no room: by its caller and code, or by its code.
    fn crowd(&mut self, line: CallLine) {
        let mut key = (line.caller.clone(), line.code.clone());
        let mut line = CallLine {
            method: NO_METHOD.to_owned(),
            reason: AGGREGATED.to_owned(),
            address: None,
            detail: None,
            seq: None,
            ..line
        };
        if !self.crowded.contains_key(&key) && self.crowded.len() >= CROWDED_MAX {
            key.0 = CallerName::Nobody;
            line.caller = CallerName::Nobody;
        }
        match self.crowded.get_mut(&key) {
            Some(counted) => merge(counted, line),
            None => drop(self.crowded.insert(key, line)),
        }
    }

    /// The lines that are due, and how many more calls left no line.
    pub(super) fn due(&mut self, now: Timestamp, now_ms: u64, is_last: bool) -> (Vec<CallLine>, u64) {
        let mut lines = std::mem::take(&mut self.recorded);
        let mut strangers = 0;
        self.kinds.retain(|(_, caller, ..), repeated| {
            let is_over = repeated.written_ms.is_none_or(|at| now_ms.saturating_sub(at) >= WINDOW_MS);
            let stays = match (is_over || is_last).then(|| repeated.line.take()) {
                // Within the window.
                None => true,
                Some(Some(line)) => {
                    lines.push(line);
                    repeated.written_ms = Some(now_ms);
                    true
                }
                // A window without a call.
                Some(None) => false,
            };
            strangers += usize::from(stays && caller.origin() == Origin::Strangers);
            stays
        });
        self.stranger_kinds = strangers;
        lines.extend(std::mem::take(&mut self.crowded).into_values());
        let (dropped, told) = (std::mem::take(&mut self.dropped), std::mem::take(&mut self.told));
        if dropped > 0 {
            lines.push(dropped_line(now, dropped));
        }
        (lines, dropped - told)
    }

    /// Takes back what could not be written: refusals are counted, the rest is lost, and counted as that.
    pub(super) fn take_back(&mut self, lines: Vec<CallLine>) {
        for line in lines {
            if line.reason == DROPPED {
                self.dropped += line.count;
                self.told += line.count;
                continue;
            }
            match line.is_refusal() {
                true => self.crowd(line),
                false => self.dropped += line.count,
            }
        }
    }
}

fn dropped_line(now: Timestamp, count: u64) -> CallLine {
    CallLine {
        at: now,
        last: now,
        count,
        request: None,
        method: NO_METHOD.to_owned(),
        caller: CallerName::Nobody,
        address: None,
        code: "OK".to_owned(),
        reason: DROPPED.to_owned(),
        took_us: 0,
        seq: None,
        detail: None,
    }
}

fn add(counted: &mut Option<CallLine>, line: CallLine) {
    match counted {
        Some(counted) => merge(counted, line),
        None => *counted = Some(line),
    }
}

fn merge(counted: &mut CallLine, line: CallLine) {
    counted.count += line.count;
    counted.last = counted.last.max(line.last);
    counted.took_us = counted.took_us.max(line.took_us);
}
