//! Reads a bundle from a folder: `models.toml`, `posture.toml`, `provider-policy.toml`, `determinations/*.toml`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use thiserror::Error;

use super::sources::Sources;
use crate::domain::bundle::{Bundle, BundleFault, BundleParts, Inconsistency};
use crate::domain::determination::{Determination, DeterminationKind, DeterminationState, Instants, Limb};
use crate::domain::id::{DeterminationId, Digest, ModelId, Sha384};
use crate::domain::model::Model;
use crate::domain::person::Assurance;
use crate::domain::policy::{Country, DatedRule, Edge, PolicyRule, Posture};
use crate::domain::time::Timestamp;

/// The largest policy file: a hundred times a real one.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Why a folder is not a policy bundle.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than 1 MiB.
    #[error("{path} is larger than 1 MiB")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A part makes no sense, alone or beside the others.
    #[error("{path}, line {line}, key {key}: {why}")]
    Part {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// A file is not TOML, or has a key or value that does not belong there.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column, key and what is wrong.
        source: Box<toml::de::Error>,
    },
    /// The files do not fit together.
    #[error("{path}: {source}")]
    Bundle {
        /// The folder.
        path: PathBuf,
        /// What does not fit.
        source: BundleFault,
    },
    /// A part makes no sense, and its place was not found.
    #[error("{path}: {source}")]
    Senseless {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        source: Inconsistency,
    },
    /// A draft was to be activated that the bundle does not hold as a draft.
    #[error("{0} is not a draft determination of this bundle")]
    NotADraft(DeterminationId),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelsFile {
    model: Vec<ModelEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelEntry {
    #[serde(deserialize_with = "text")]
    id: ModelId,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default, deserialize_with = "some_text")]
    descends_from: Option<ModelId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PostureFile {
    remote_access_is_release: bool,
    #[serde(deserialize_with = "text")]
    assurance_min: Assurance,
    #[serde(deserialize_with = "texts")]
    embargoed: Vec<Country>,
    screening_fresh_hours: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesFile {
    rule: Vec<RuleEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    #[serde(deserialize_with = "text")]
    rule: PolicyRule,
    #[serde(deserialize_with = "texts")]
    models: Vec<ModelId>,
    from: Option<EdgeEntry>,
    until: Option<EdgeEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EdgeEntry {
    #[serde(default, deserialize_with = "some_text")]
    at: Option<Timestamp>,
    #[serde(default, deserialize_with = "some_text")]
    effective: Option<DeterminationId>,
    #[serde(default, deserialize_with = "some_text")]
    rescission_of: Option<DeterminationId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeterminationFile {
    #[serde(deserialize_with = "text")]
    id: DeterminationId,
    #[serde(deserialize_with = "text")]
    kind: DeterminationKind,
    #[serde(deserialize_with = "text")]
    state: DeterminationState,
    #[serde(default, deserialize_with = "some_text")]
    stated_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "some_text")]
    received_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "some_text")]
    approved_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "texts")]
    models: Vec<ModelId>,
    #[serde(default, deserialize_with = "texts")]
    beneficiaries: Vec<Limb>,
    #[serde(default, deserialize_with = "texts")]
    amends: Vec<DeterminationId>,
    #[serde(default)]
    legal_basis: Vec<String>,
    #[serde(default, deserialize_with = "some_text")]
    document_sha256: Option<Digest>,
    #[serde(default, deserialize_with = "some_text")]
    ended_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "some_text")]
    superseded_by: Option<DeterminationId>,
    #[serde(default, deserialize_with = "some_text")]
    document_sha384: Option<Sha384>,
}

fn text<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(d: D) -> Result<T, D::Error> {
    String::deserialize(d)?.parse().map_err(D::Error::custom)
}

fn some_text<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(
    d: D,
) -> Result<Option<T>, D::Error> {
    text(d).map(Some)
}

fn texts<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(d: D) -> Result<Vec<T>, D::Error> {
    Vec::<String>::deserialize(d)?.iter().map(|word| word.parse().map_err(D::Error::custom)).collect()
}

fn edge<E: serde::de::Error>(entry: EdgeEntry) -> Result<Edge, E> {
    match (entry.at, entry.effective, entry.rescission_of) {
        (Some(at), None, None) => Ok(Edge::At(at)),
        (None, Some(id), None) => Ok(Edge::Effective(id)),
        (None, None, Some(id)) => Ok(Edge::RescissionOf(id)),
        _ => Err(E::custom("an edge has exactly one of `at`, `effective` and `rescission_of`")),
    }
}

fn read<T: DeserializeOwned>(sources: &mut Sources, path: &Path) -> Result<T, PolicyError> {
    let failed = |source| PolicyError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_LEN_MAX {
        return Err(PolicyError::TooLarge { path: path.to_owned() });
    }
    let content = std::fs::read_to_string(path).map_err(failed)?;
    let parsed = toml::from_str(&content)
        .map_err(|source| PolicyError::Parse { path: path.to_owned(), source: Box::new(source) })?;
    sources.keep(path, content);
    Ok(parsed)
}

fn rule(entry: RuleEntry) -> Result<DatedRule, toml::de::Error> {
    Ok(DatedRule {
        rule: entry.rule,
        models: entry.models,
        from: entry.from.map(edge).transpose()?,
        until: entry.until.map(edge).transpose()?,
    })
}

fn determination(file: DeterminationFile) -> Determination {
    Determination {
        id: file.id,
        kind: file.kind,
        state: file.state,
        instants: Instants {
            stated_at: file.stated_at,
            received_at: file.received_at,
            approved_at: file.approved_at,
        },
        models: file.models,
        beneficiaries: file.beneficiaries,
        amends: file.amends,
        legal_basis: file.legal_basis,
        document: file.document_sha256,
        ended_at: file.ended_at,
        superseded_by: file.superseded_by,
        document_sha384: file.document_sha384,
    }
}

/// Reads the bundle in a folder, with some of its drafts taken as countersigned (to simulate them).
///
/// # Errors
/// The first file that cannot be read or does not fit, with its path.
pub fn load(folder: &Path, activate: &[DeterminationId]) -> Result<Bundle, PolicyError> {
    let mut sources = Sources::default();
    let models: ModelsFile = read(&mut sources, &folder.join("models.toml"))?;
    let posture: PostureFile = read(&mut sources, &folder.join("posture.toml"))?;
    let rules_path = folder.join("provider-policy.toml");
    let rules: RulesFile = read(&mut sources, &rules_path)?;
    let rules = rules.rule.into_iter().map(rule).collect::<Result<Vec<_>, _>>();
    let mut determinations = read_determinations(&mut sources, &folder.join("determinations"))?;
    for id in activate {
        let draft = determinations.iter_mut().find(|d| d.id == *id && d.state == DeterminationState::Draft);
        draft.ok_or_else(|| PolicyError::NotADraft(id.clone()))?.state = DeterminationState::Countersigned;
    }
    let mut embargoed = posture.embargoed;
    embargoed.sort_unstable();
    embargoed.dedup();
    let parts = BundleParts {
        models: models
            .model
            .into_iter()
            .map(|m| Model { id: m.id, aliases: m.aliases, descends_from: m.descends_from })
            .collect(),
        determinations,
        rules: rules.map_err(|source| PolicyError::Parse { path: rules_path, source: Box::new(source) })?,
        posture: Posture {
            remote_access_is_release: posture.remote_access_is_release,
            assurance_min: posture.assurance_min,
            embargoed,
            screening_fresh_ms: i64::from(posture.screening_fresh_hours) * 3_600_000,
        },
    };
    let bundle = Bundle::new(parts).map_err(|source| match sources.of_fault(&source) {
        Some(spot) => spot.fault(source.to_string()),
        None => PolicyError::Bundle { path: folder.to_owned(), source },
    })?;
    match bundle.inconsistencies().first() {
        Some(found) => Err(match sources.of_part(&found.part, found.key) {
            Some(spot) => spot.fault(found.why.clone()),
            None => PolicyError::Senseless { path: folder.to_owned(), source: found.clone() },
        }),
        None => Ok(bundle),
    }
}

fn read_determinations(sources: &mut Sources, folder: &Path) -> Result<Vec<Determination>, PolicyError> {
    let failed = |source| PolicyError::Read { path: folder.to_owned(), source };
    let mut paths = std::fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths.iter().map(|path| Ok(determination(read(sources, path)?))).collect()
}
