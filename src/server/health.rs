//! Health that is real: SERVING only while the service could permit something.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::app::App;
use crate::journal::Condition;

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// Looks until the service stops; the empty service name stands for all of it.
pub(super) async fn watch(app: Arc<App>, reporter: HealthReporter, mut stopped: watch::Receiver<bool>) {
    loop {
        let open = match app.journal().condition() {
            Condition::Open(_) => true,
            Condition::Closed(_) => false,
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
