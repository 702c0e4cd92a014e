//! The trusted authorities as files of the data folder, `trust/access.pem` and `trust/system.pem`, for what reaches the service from
//! this machine: `init` wrote those of genesis, and without this a rotated service would be a stranger to its own `health`.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::App;
use crate::domain::certificate::AuthorityKind;

/// How often it looks.
const TICK: Duration = Duration::from_secs(1);
const FILES: [(AuthorityKind, &str); 2] =
    [(AuthorityKind::Access, "access.pem"), (AuthorityKind::System, "system.pem")];

/// Keeps the files as the record has it, until the service ends.
pub(super) async fn keep(app: Arc<App>, data: PathBuf, mut stopped: watch::Receiver<bool>) {
    let folder = data.join("trust");
    let mut written = [const { String::new() }; 2];
    loop {
        for ((kind, name), written) in FILES.iter().zip(&mut written) {
            // None is trusted: what there was is no help, and an empty file would be no bundle.
            let Some(pem) = app.trusted(*kind).map(|bundle| bundle.to_pem()) else { continue };
            if pem == *written {
                continue;
            }
            if let Err(error) = update(&folder, name, &pem) {
                tracing::warn!(%error, name, "the trusted authorities could not be written to the folder trust");
            }
            *written = pem;
        }
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// In one step, unless it is so already.
fn update(folder: &Path, name: &str, pem: &str) -> io::Result<()> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    if std::fs::read(&path).is_ok_and(|held| held == pem.as_bytes()) {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    let mut file = File::create(&new)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, &path)
}
