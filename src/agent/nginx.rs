//! nginx: files and a signal. It reads its lists when it reloads, so it is told to only when they changed; `auth_request`
//! is what holds the lease, and a revoked client on an open or resumed connection, at each request.

use rustix::process::{Pid, Signal, kill_process};

use super::files::{self, FOR_PROXY};
use super::remedy::Refusal;
use super::set::TrustSet;
use crate::config::agent::NginxConfig;

const MASTER: &str = "is nginx running, and its `pid` the [nginx] pid_file?";
const SIGNAL: &str = "run the agent as the user of nginx's master process";

pub(super) struct Nginx {
    config: NginxConfig,
    /// Files that were written by a run that ended may never have been read.
    told: bool,
}

impl Nginx {
    pub(super) const fn new(config: NginxConfig) -> Self {
        Self { config, told: false }
    }

    /// Gives the proxy a set: files, and SIGHUP if they changed.
    pub(super) async fn install(&mut self, set: &TrustSet) -> Result<(), Refusal> {
        let mut changed = !self.told;
        let files = [(&self.config.ca_file, &set.authorities_pem), (&self.config.crl_file, &set.lists_pem)];
        for (path, text) in files {
            if files::read(path).await?.as_ref() != Some(text) {
                files::write(path, text, FOR_PROXY).await?;
                changed = true;
            }
        }
        if changed {
            self.told = false;
            self.reload().await?;
            self.told = true;
        }
        Ok(())
    }

    /// Tells the master process to reload. That it was told says nothing: a configuration that it does not understand
    /// leaves everything as it was.
    async fn reload(&self) -> Result<(), Refusal> {
        let path = &self.config.pid_file;
        let wrong = |why: &str| Refusal::new(format!("{}: {why}", path.display()), MASTER);
        let text = files::read(path).await?.ok_or_else(|| wrong("there is no such file"))?;
        let number = text.trim().parse::<i32>().ok().filter(|number| *number > 1);
        let pid = number.and_then(Pid::from_raw).ok_or_else(|| wrong("it does not name a process"))?;
        // A file that was left behind may name any process by now.
        let name = files::read(format!("/proc/{}/comm", text.trim()).as_ref()).await?;
        if name.is_none_or(|name| !name.starts_with("nginx")) {
            return Err(wrong("the process that it names is not nginx"));
        }
        kill_process(pid, Signal::HUP)
            .map_err(|error| Refusal::new(format!("nginx cannot be told to reload: {error}"), SIGNAL))
    }
}
