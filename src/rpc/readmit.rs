//! A stream of a library's service, which does not ask again by itself: it ends when its caller may no longer call.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Interval, MissedTickBehavior};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::HeaderMap;

use super::status::status;
use crate::app::Admission;

/// How often the caller is looked at again: as for every other stream.
const ADMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Streams that are ended here: reflection, which is served by tonic.
pub(super) const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// A body that ends with the reason when the caller may no longer call.
pub(super) struct Readmitted {
    body: Body,
    admission: Admission,
    looks: Interval,
    is_over: bool,
}

impl Readmitted {
    pub(super) fn new(body: Body, admission: Admission) -> Self {
        let mut looks = tokio::time::interval(ADMIT_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { body, admission, looks, is_over: false }
    }
}

impl http_body::Body for Readmitted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        while this.looks.poll_tick(context).is_ready() {
            if let Err(error) = this.admission.still_holds() {
                this.is_over = true;
                let mut end = HeaderMap::new();
                return match status(error).add_header(&mut end) {
                    Ok(()) => Poll::Ready(Some(Ok(Frame::trailers(end)))),
                    Err(status) => Poll::Ready(Some(Err(status))),
                };
            }
        }
        Pin::new(&mut this.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
