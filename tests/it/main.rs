//! The one integration-test binary. `tests/run` sets up what it needs, such as the real Envoy, and runs it.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod agent_authz;
#[cfg(test)]
mod agent_proxy;
#[cfg(test)]
mod announced;
#[cfg(test)]
mod approvals;
#[cfg(test)]
mod authz;
#[cfg(test)]
mod automation;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod beneath;
#[cfg(test)]
mod beneath_token;
#[cfg(test)]
mod call_log;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod cells;
#[cfg(test)]
mod ceremony;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod cli_renewal;
#[cfg(test)]
mod cli_served;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod credential;
#[cfg(test)]
mod crl;
#[cfg(test)]
mod decided;
#[cfg(test)]
mod decisions_cli;
#[cfg(test)]
mod dev;
#[cfg(feature = "faults")]
#[cfg(test)]
mod disk;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod drill;
#[cfg(test)]
mod due;
#[cfg(test)]
mod enroll;
#[cfg(test)]
mod envoy;
#[cfg(test)]
mod envoy_faults;
#[cfg(test)]
mod envoy_listener;
#[cfg(test)]
mod envoy_route;
#[cfg(test)]
mod envoy_sds;
#[cfg(test)]
mod expired;
#[cfg(test)]
mod explained;
#[cfg(test)]
mod feed_faults;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod follow;
#[cfg(test)]
mod forge;
#[cfg(test)]
mod found;
#[cfg(feature = "faults")]
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod fuzz_rpcs;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod gate_renewal;
#[cfg(test)]
mod gateway_envoy;
#[cfg(test)]
mod gateway_rust;
#[cfg(test)]
mod health;
#[cfg(test)]
mod instants;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod key_block;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod kill_loop;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod mandates;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod ninety_minutes;
#[cfg(test)]
mod officers;
#[cfg(test)]
mod officers_cli;
#[cfg(test)]
mod partition;
#[cfg(test)]
mod partner;
#[cfg(test)]
mod path;
#[cfg(test)]
mod people;
#[cfg(test)]
mod people_cli;
#[cfg(test)]
mod pkcs11;
#[cfg(test)]
mod policy_cli;
#[cfg(test)]
mod profiles;
#[cfg(test)]
mod profiles_proxy;
#[cfg(test)]
mod python;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod recovery_cli;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod renew;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod requirements;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod restore;
#[cfg(test)]
mod root_ends;
#[cfg(test)]
mod root_pinned;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod rotation_load;
#[cfg(test)]
mod runbook;
#[cfg(test)]
mod runbook_authorities;
#[cfg(test)]
mod runbook_officers;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod screening;
#[cfg(test)]
mod screening_cli;
#[cfg(test)]
mod sds;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod simulate;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod subscribe;
#[cfg(test)]
mod system_rotation;
#[cfg(test)]
mod tail;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod token_faults;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod trust;
#[cfg(test)]
mod under_root;
#[cfg(test)]
mod vet_cli;
#[cfg(test)]
mod vetting;
#[cfg(test)]
mod world;

/// Nothing is skipped silently: what needs failing disks and kill points cannot be tested without them.
#[cfg(not(feature = "faults"))]
#[test]
fn the_tests_need_the_feature_faults() {
    panic!("run them with tests/run, or with --features faults");
}
