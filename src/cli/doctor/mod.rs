//! `countersign doctor`: looks at a service from beside it (its configuration, folder, record, keys) and from outside (its
//! API, as an officer), and says of each thing how it is, why it matters and what to do. It changes nothing.

mod finding;
mod machine;
mod online;
mod record;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use clap::Args;

use self::finding::{Findings, remedy};
use super::{Context, Failure, Outcome};
use crate::app::inspect::Depth;
use crate::config::Config;
use crate::server::Settings;

const DAY_MS: i64 = 86_400_000;

/// Check a service, and say what to do about what is not right.
///
/// With --config it looks at the service's own machine, whether it runs or not: configuration, folder, disk, record, keys,
/// authorities, ports. With an identity it asks the server as an officer: head, health, gateways, authorities, proposals,
/// stops. With both, both.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 all well, 1 something is wrong, 3 only warnings.\n\
                        Examples:\n  countersign doctor --config /var/lib/countersign/countersign.toml --backup /backup/countersign\n  \
                        countersign doctor --identity alice")]
pub(super) struct Arguments {
    /// The configuration file of the service on this machine.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// With --config: the folder of the newest backup.
    #[arg(long, value_name = "DIR", requires = "config")]
    backup: Option<PathBuf>,
    /// With --config: verify every record, not only those after the last snapshot.
    #[arg(long, requires = "config")]
    deep: bool,
}

pub(super) async fn run(arguments: &Arguments, context: &Context<'_>) -> Result<Outcome, Failure> {
    let has_identity = context.connection.has_identity();
    if arguments.config.is_none() && !has_identity {
        return Err(Failure(
            "what is to be looked at? name the service's configuration with --config FILE, or ask it with --identity DIR"
                .to_owned(),
        ));
    }
    let mut findings = Findings::default();
    if let Some(path) = &arguments.config {
        beside(path, arguments, &mut findings);
    }
    if has_identity {
        online::check(context.connection, &mut findings).await;
    }
    Ok(findings.print(context.output))
}

/// The service's own machine.
fn beside(path: &Path, arguments: &Arguments, findings: &mut Findings) {
    let loaded = Config::load(path).map_err(|error| Failure::from(error).0);
    let checked = loaded.and_then(|config| {
        Settings::try_from(config.clone()).map_err(|error| error.to_string()).map(|_| config)
    });
    let config = match checked {
        Ok(config) => config,
        Err(why) => {
            let why_it_matters =
                "the service does not start with a configuration that it does not understand";
            let how = format!(
                "correct the line that is named; deploy/countersign.toml describes every key: {}",
                path.display()
            );
            return findings.fail("config", why, remedy(why_it_matters, how));
        }
    };
    findings.ok("config", format!("{} is a configuration", path.display()));
    machine::folder(&config, findings);
    let holder = machine::lock(&config, findings);
    machine::disk(&config, findings);
    machine::ports(&config, holder, findings);
    machine::descriptors(findings);
    machine::dropped(&config, holder, findings);
    let depth = if arguments.deep { Depth::Whole } else { Depth::Tail };
    record::check(&config, depth, arguments.backup.as_deref(), findings);
}
