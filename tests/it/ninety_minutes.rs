//! `examples/ninety_minutes` in small: it asserts each of its steps.

#[path = "../../examples/ninety_minutes/drill.rs"]
mod script;

use script::{Sizes, run};

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_stopped_and_everybody_is_permitted_again() {
    let times = run(Sizes { gateways: 5, partners: 2, people: 12 }).await;
    let whole: Vec<_> = times.steps().filter(|step| step.chars().all(|c| !c.is_lowercase())).collect();
    assert_eq!(
        whole,
        [
            "EMPTY STATE TO STOP ENFORCED",
            "LIFT TO EVERYBODY PERMITTED, FROM NOBODY ON RECORD",
            "LIFT TO EVERYBODY PERMITTED AGAIN, ALL ON RECORD"
        ]
    );
}
