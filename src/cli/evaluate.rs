//! `countersign evaluate`: asks for a decision and prints it in words. Exit code 2 means denied.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::remote::answer;
use super::{Context, Failure, Outcome, files, words};
use crate::domain::id::{EntityId, PurposeId};
use crate::domain::model::AccessForm;
use crate::domain::policy::Place;
use crate::pb;

/// Ask whether the subject of a certificate may use a model.
///
/// The law and the provider's policy answer separately; both must permit. Exit code 2: denied.
#[derive(Args)]
#[command(
    after_help = "Example:\n  countersign evaluate --certificate me/certificate.pem --model mythos-5 --place US \\\n      \
                        --serving-region US"
)]
pub(super) struct Arguments {
    /// The subject's certificate, PEM or DER.
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// The model, by any of its names.
    #[arg(long)]
    model: String,
    /// INFERENCE, WEIGHTS or INTERNALS.
    #[arg(long, default_value = "INFERENCE")]
    form: AccessForm,
    /// Where the subject is: US or a two-letter country; what is not known is judged as abroad.
    #[arg(long, default_value = "UNKNOWN", hide_default_value = true)]
    place: Place,
    /// Where the model is served from: US or a two-letter country.
    #[arg(long, default_value = "UNKNOWN", hide_default_value = true)]
    serving_region: Place,
    /// The declared purpose.
    #[arg(long)]
    purpose: Option<PurposeId>,
    /// An intermediary, nearest to the model first; may be given several times.
    #[arg(long)]
    chain: Vec<EntityId>,
    /// The end user behind the intermediaries is the subject of the certificate.
    #[arg(long)]
    end_user_identified: bool,
}

pub(super) async fn run(arguments: Arguments, context: &Context<'_>) -> Result<Outcome, Failure> {
    let known = |place: Place| match place {
        Place::Us | Place::Country(_) => place.to_string(),
        Place::Unknown => String::new(),
    };
    let request = pb::EvaluateRequest {
        certificate: files::read_der(&arguments.certificate, "CERTIFICATE")?.into(),
        model: arguments.model,
        access_form: arguments.form.to_string(),
        place: known(arguments.place),
        serving_region: known(arguments.serving_region),
        purpose: arguments.purpose.map(|purpose| purpose.to_string()).unwrap_or_default(),
        chain: arguments.chain.iter().map(ToString::to_string).collect(),
        end_user_identified: arguments.end_user_identified,
        min_position: None,
    };
    let remote = context.connection.remote().await?;
    let decision = answer(remote.attestation().evaluate(request)).await?.decision;
    let decision = decision.ok_or_else(|| Failure("the server did not say what it decided".to_owned()))?;
    print(&decision, context);
    Ok(if decision.permit { Outcome::Done } else { Outcome::Denied })
}

fn print(decision: &pb::Decision, context: &Context<'_>) {
    let seq = decision.as_of.as_ref().map_or(0, |position| position.seq);
    let verdict = if decision.permit { "PERMIT" } else { "DENY" };
    let rows = [
        ("code", decision.code.clone()),
        ("law", format!("{} by {} ({})", decision.legal, decision.rule, decision.reason)),
        ("clause", decision.clause.clone()),
        ("determination", decision.determination.clone()),
        ("gates", decision.denials.join(", ")),
        ("policy", decision.policy.clone()),
        ("as of", format!("record {seq}")),
        ("decision", decision.id.clone()),
        ("good until", if decision.permit { decision.good_until.clone() } else { String::new() }),
    ];
    // The server's sentence begins with the verdict; a program that reads `permit` does not need it twice.
    let sentence = decision.explanation.trim_start_matches("permitted: ").trim_start_matches("denied: ");
    let mut text = format!("{verdict}: {}\n", words::printable(sentence));
    for (label, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("  {label:<14} {}\n", words::printable(&value)));
    }
    let value = json!({
        "permit": decision.permit, "code": decision.code, "legal": decision.legal, "rule": decision.rule,
        "reason": decision.reason, "clause": decision.clause, "determination": decision.determination,
        "denials": decision.denials, "policy": decision.policy, "explanation": decision.explanation,
        "as_of": seq, "decision": decision.id, "good_until": decision.good_until,
    });
    context.output.print(&value, &text);
}
