//! Health that is real: SERVING only while the service could permit something.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::app::App;
use crate::journal::Condition;

/// How long the disk may take before the service is called unhealthy: longer than any sync that goes well.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// Looks until the service stops; the empty service name stands for all of it.
pub(super) async fn watch(app: Arc<App>, reporter: HealthReporter, mut stopped: watch::Receiver<bool>) {
    loop {
        // Behind a write that does not come back, this waits as long; nobody else may.
        let journal = Arc::clone(app.journal());
        let condition = tokio::task::spawn_blocking(move || journal.condition());
        let open = match tokio::time::timeout(PATIENCE, condition).await {
            Ok(Ok(Condition::Open(_))) => true,
            Ok(Ok(Condition::Closed(_)) | Err(_)) | Err(_) => false,
        };
        let serving = open && app.state_fault().is_none();
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        let stopping = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => true,
            () = tokio::time::sleep(INTERVAL) => false,
        };
        if stopping {
            reporter.set_service_status("", ServingStatus::NotServing).await;
            return;
        }
    }
}
