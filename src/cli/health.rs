//! `countersign health`: is the service up? A probe for containers and load balancers, without an identity.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Context, Failure, Outcome};
use crate::config::Config;

/// Ask the service on this machine whether it serves: exit 0 when it does, 1 when it does not, or does not answer.
///
/// It serves while it could permit something. Health is answered to strangers, so this needs no identity; the server is
/// believed by trust/system.pem in its data folder.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  countersign health --config /etc/countersign/countersign.toml\n\n\
                        As a readiness probe. Not as a liveness probe: a service with a full disk, or one that waits for its\n\
                        officers, does not serve, and a restart does not help it.")]
pub(super) struct Arguments {
    /// The configuration file of the service.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) async fn run(arguments: &Arguments, context: &Context<'_>) -> Result<Outcome, Failure> {
    let config = Config::load(&arguments.config)?;
    let name = config.names.first().map_or("localhost", String::as_str);
    let remote =
        super::remote::local(reachable(config.listen), name, &config.data.join("trust/system.pem")).await?;
    let serves = remote.is_serving().await?;
    let text = if serves { "serving" } else { "NOT serving: countersign doctor --config says why" };
    context.output.print(&json!({ "serving": serves }), text);
    Ok(if serves { Outcome::Done } else { Outcome::Failed })
}

/// Where this machine reaches an address that stands for all of its own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
