//! Lines of the log about connections that came to nothing: a flood of them fills no disk.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

use crate::app::App;
use crate::rpc::{Lines, network};

/// What is logged of them.
pub(super) struct TurnedAway {
    app: Arc<App>,
    lines: Lines<(IpAddr, &'static str)>,
}

impl TurnedAway {
    /// By the clock of this service.
    pub(super) fn new(app: Arc<App>) -> Arc<Self> {
        Arc::new(Self { app, lines: Lines::default() })
    }

    /// Says why, unless its network fills the log with it.
    pub(super) fn say(&self, address: IpAddr, what: &'static str, why: &dyn Display) {
        let now_ms = self.app.clock().boot_ms();
        if let Some(left_out) = self.lines.take((network(address), what), now_ms) {
            tracing::info!(peer.address = %address, %why, left_out, "{what}");
        }
        for ((network, what), left_out) in self.lines.quiet(now_ms) {
            tracing::info!(%network, left_out, "{what}, as the lines before");
        }
    }
}
