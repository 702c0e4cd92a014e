//! A policy bundle: models, determinations, provider rules and posture as one value with one hash.
//!
//! A bundle enters in genesis or as a proposal that two officers sign; a running server reads it from its state only.

mod consistency;
mod diff;
#[cfg(test)]
mod tests;

use minicbor::{Decode, Encode};
use thiserror::Error;

use super::determination::{Determination, DeterminationKind, DeterminationState, Instants, Limb};
use super::id::{DeterminationId, Digest, ModelId};
use super::model::{Model, Registry, RegistryFault};
use super::policy::{DatedRule, Edge, PolicyRule, Posture};
use super::time::{Now, Timestamp};

pub use consistency::{Contradiction, Inconsistency, Named};
pub use diff::{Change, Part, diff, in_words};

/// The most models, determinations or rules a bundle may hold: far above any real one, small enough to scan.
pub const BUNDLE_ITEMS_MAX: usize = 1_000;

/// Why parts do not make a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BundleFault {
    /// The models are not a registry.
    #[error(transparent)]
    Models(#[from] RegistryFault),
    /// Two determinations share a name.
    #[error("the determination {0} appears twice")]
    Twice(DeterminationId),
    /// Something names a determination that the bundle does not hold.
    #[error("{by} names the determination {missing}, which is not in the bundle")]
    UnknownDetermination {
        /// What names it.
        by: String,
        /// The name that is missing.
        missing: DeterminationId,
    },
    /// Something names a model that is not registered.
    #[error("{by} names the model {missing}, which is not registered")]
    UnknownModel {
        /// What names it.
        by: String,
        /// The name that is missing.
        missing: ModelId,
    },
    /// A determination that lifts or rescinds names nothing that it lifts or rescinds.
    #[error("{0} lifts or rescinds, but names no determination that it amends")]
    AmendsNothing(DeterminationId),
    /// More items than [`BUNDLE_ITEMS_MAX`].
    #[error("the bundle holds more than 1000 {0}")]
    TooMany(&'static str),
}

/// The content of a bundle, as it is stored, sent and hashed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct BundleParts {
    /// Every registered model.
    #[n(0)]
    pub models: Vec<Model>,
    /// Every determination, drafts included.
    #[n(1)]
    pub determinations: Vec<Determination>,
    /// Provider policy.
    #[n(2)]
    pub rules: Vec<DatedRule>,
    /// How open questions are read.
    #[n(3)]
    pub posture: Posture,
}

/// A bundle whose parts fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    parts: BundleParts,
    registry: Registry,
    hash: Digest,
}

/// Limbs of a lift, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limbs(u8);

impl Limbs {
    const ALL: Self = Self(u8::MAX);
    /// The limbs of entities that an annex lists.
    const LISTED: Self = Self(1 << Limb::AnnexEntities as u8 | 1 << Limb::AnnexForeignEmployees as u8);

    /// Is this limb in the set?
    pub const fn contains(self, limb: Limb) -> bool {
        self.0 & (1 << limb as u8) != 0
    }

    fn of(limbs: &[Limb]) -> Self {
        Self(limbs.iter().fold(0, |set, limb| set | (1 << *limb as u8)))
    }
}

/// How the law stands towards one model at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Regime<'a> {
    /// An imposition in force, if any: the model is covered then.
    pub imposed_by: Option<&'a DeterminationId>,
    /// Limbs that every imposition in force has been lifted for.
    pub limbs: Limbs,
    /// A lift in force, if any: the determination that beneficiaries cite, and whose annex lists entities.
    pub lifted_by: Option<&'a DeterminationId>,
    /// The rescission that ended the requirement, if one did.
    pub rescinded_by: Option<&'a DeterminationId>,
}

impl Bundle {
    /// Checks that the parts fit together.
    pub fn new(parts: BundleParts) -> Result<Self, BundleFault> {
        let counts = [
            ("models", parts.models.len()),
            ("determinations", parts.determinations.len()),
            ("rules", parts.rules.len()),
        ];
        if let Some((what, _)) = counts.into_iter().find(|(_, n)| *n > BUNDLE_ITEMS_MAX) {
            return Err(BundleFault::TooMany(what));
        }
        let registry = Registry::new(parts.models.clone())?;
        let bundle = Self { hash: Digest::of(&encode(&parts)), parts, registry };
        bundle.check_determinations()?;
        bundle.check_rules()?;
        Ok(bundle)
    }

    fn check_determinations(&self) -> Result<(), BundleFault> {
        for (index, determination) in self.parts.determinations.iter().enumerate() {
            if self.parts.determinations.iter().skip(index + 1).any(|other| other.id == determination.id) {
                return Err(BundleFault::Twice(determination.id.clone()));
            }
            let by = || determination.id.to_string();
            determination.models.iter().try_for_each(|model| self.check_model(model, by))?;
            let named = determination.amends.iter().chain(&determination.superseded_by);
            named.into_iter().try_for_each(|id| self.check_named(id, by))?;
            let amends = matches!(
                determination.kind,
                DeterminationKind::LiftForBeneficiaries
                    | DeterminationKind::Rescind
                    | DeterminationKind::Enjoin
            );
            if amends && determination.amends.is_empty() {
                return Err(BundleFault::AmendsNothing(determination.id.clone()));
            }
        }
        Ok(())
    }

    fn check_rules(&self) -> Result<(), BundleFault> {
        for rule in &self.parts.rules {
            let by = || rule.rule.to_string();
            rule.models.iter().try_for_each(|model| self.check_model(model, by))?;
            for edge in [&rule.from, &rule.until].into_iter().flatten() {
                match edge {
                    Edge::At(_) => {}
                    Edge::Effective(id) | Edge::RescissionOf(id) => self.check_named(id, by)?,
                }
            }
        }
        Ok(())
    }

    fn check_model(&self, model: &ModelId, by: impl Fn() -> String) -> Result<(), BundleFault> {
        match self.parts.models.iter().any(|m| m.id == *model) {
            true => Ok(()),
            false => Err(BundleFault::UnknownModel { by: by(), missing: model.clone() }),
        }
    }

    fn check_named(&self, id: &DeterminationId, by: impl Fn() -> String) -> Result<(), BundleFault> {
        match self.determination(id) {
            Some(_) => Ok(()),
            None => Err(BundleFault::UnknownDetermination { by: by(), missing: id.clone() }),
        }
    }

    /// These parts as they take effect when the last officer signs them: what widens counts from then at the earliest,
    /// whatever approval the files claim. What is in force already keeps the instant of its own approval.
    pub fn adopting(&self, parts: &BundleParts, signed_at: Timestamp) -> BundleParts {
        let mut parts = parts.clone();
        for new in &mut parts.determinations {
            self.date_end(new, signed_at);
            if new.restricts() || new.state == DeterminationState::Draft {
                continue;
            }
            let claimed = new.instants.approved_at;
            // How it ended, and what proves it, are no part of what was approved.
            let known = self.determination(&new.id).filter(|old| {
                let same = Determination {
                    instants: Instants { approved_at: old.instants.approved_at, ..new.instants },
                    state: old.state,
                    ended_at: old.ended_at,
                    superseded_by: old.superseded_by.clone(),
                    document: old.document,
                    document_sha384: old.document_sha384,
                    ..new.clone()
                };
                old.state != DeterminationState::Draft && **old == same
            });
            let approved_at = known.map_or(Some(signed_at), |old| old.instants.approved_at);
            new.instants.approved_at = approved_at.max(claimed);
        }
        parts
    }

    /// The end of a requirement counts from the signature at the earliest, the end of a lift from it at the latest. An end
    /// that is on record stays what it is.
    fn date_end(&self, new: &mut Determination, signed_at: Timestamp) {
        let Some(claimed) = new.ended_at else { return };
        let on_record = self.determination(&new.id).filter(|old| old.state == new.state);
        if on_record.is_none_or(|old| old.ended_at != new.ended_at) {
            let narrows = !new.restricts();
            new.ended_at = Some(if narrows { claimed.min(signed_at) } else { claimed.max(signed_at) });
        }
    }

    /// This bundle with one determination more. What it holds stays as it is.
    ///
    /// # Errors
    /// It does not fit.
    pub fn with(&self, new: &Determination) -> Result<Self, BundleFault> {
        let mut parts = self.parts.clone();
        parts.determinations.push(new.clone());
        Self::new(parts)
    }

    /// The parts.
    pub const fn parts(&self) -> &BundleParts {
        &self.parts
    }

    /// Every model by each of its names.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// SHA-256 of the encoded parts: names this bundle in every decision.
    pub const fn hash(&self) -> Digest {
        self.hash
    }

    /// The determination of this name.
    pub fn determination(&self, id: &DeterminationId) -> Option<&Determination> {
        self.parts.determinations.iter().find(|d| d.id == *id)
    }

    /// The regime of a model at an instant. The most restrictive imposition decides (question Q20): a limb counts
    /// only when every imposition in force has been lifted for it. Each lift has an annex of its own, so the limbs of
    /// listed entities count only from one lift of all of them: the last one, whose annex then lists them.
    pub fn regime(&self, family: &[ModelId], now: Now) -> Regime<'_> {
        let mut regime = Regime { imposed_by: None, limbs: Limbs::ALL, lifted_by: None, rescinded_by: None };
        for imposition in self.impositions(family, now) {
            if let Some(rescission) = self.rescission_of(&imposition.id, |at| now.widened_since(at)) {
                regime.rescinded_by = Some(&rescission.id);
                continue;
            }
            regime.imposed_by = Some(&imposition.id);
            let mut limbs = Limbs::default();
            for lift in self.lifts_of(&imposition.id, family, now) {
                limbs.0 |= Limbs::of(&lift.beneficiaries).0;
                regime.lifted_by = Some(&lift.id);
            }
            regime.limbs.0 &= limbs.0;
        }
        let Some(imposed_by) = regime.imposed_by else {
            return Regime { limbs: Limbs::default(), ..regime };
        };
        let listing = self.lifts_of(imposed_by, family, now).filter(|lift| {
            Limbs::of(&lift.beneficiaries).0 & Limbs::LISTED.0 != 0 && self.lifts_all(lift, family, now)
        });
        let listing = listing.last();
        let listed = listing.map_or(Limbs::default(), |lift| Limbs::of(&lift.beneficiaries));
        regime.limbs.0 &= listed.0 | !Limbs::LISTED.0;
        regime.lifted_by = listing.map(|lift| &lift.id).or(regime.lifted_by);
        regime
    }

    /// Impositions on the model that have taken effect and not ended; those that another one rescinds are included.
    fn impositions<'s, 'q>(
        &'s self,
        family: &'q [ModelId],
        now: Now,
    ) -> impl Iterator<Item = &'s Determination> + use<'s, 'q> {
        let determinations = self.parts.determinations.iter();
        determinations
            .filter(move |d| d.imposes() && d.names(family) && d.has_taken_effect(now) && !d.has_ended(now))
    }

    /// Does this lift amend every imposition in force?
    fn lifts_all(&self, lift: &Determination, family: &[ModelId], now: Now) -> bool {
        self.impositions(family, now).all(|imposition| {
            lift.amends.contains(&imposition.id)
                || self.rescission_of(&imposition.id, |at| now.widened_since(at)).is_some()
        })
    }

    fn lifts_of<'s, 'q>(
        &'s self,
        imposition: &'q DeterminationId,
        family: &'q [ModelId],
        now: Now,
    ) -> impl Iterator<Item = &'s Determination> + use<'s, 'q> {
        self.parts.determinations.iter().filter(move |lift| {
            lift.kind == DeterminationKind::LiftForBeneficiaries
                && lift.amends.contains(imposition)
                && lift.names(family)
                && lift.has_taken_effect(now)
                && !lift.has_ended(now)
                // The end of a lift narrows.
                && self.rescission_of(&lift.id, |at| now.narrowed_since(at)).is_none()
        })
    }

    fn rescission_of(
        &self,
        id: &DeterminationId,
        since: impl Fn(Timestamp) -> bool,
    ) -> Option<&Determination> {
        self.parts.determinations.iter().find(|d| {
            d.kind == DeterminationKind::Rescind
                && d.amends.contains(id)
                && d.effective_at().is_some_and(&since)
        })
    }

    /// The policy rules in force for a model at an instant, in no particular order.
    pub fn rules<'a>(&'a self, family: &'a [ModelId], now: Now) -> impl Iterator<Item = PolicyRule> + 'a {
        let named = move |rule: &&DatedRule| rule.models.iter().any(|model| family.contains(model));
        let begun = move |rule: &&DatedRule| match &rule.from {
            None => true,
            Some(edge) => self.edge_at(edge).is_some_and(|at| now.narrowed_since(at)),
        };
        let ended = move |rule: &DatedRule| {
            rule.until.as_ref().and_then(|edge| self.edge_at(edge)).is_some_and(|at| now.widened_since(at))
        };
        self.parts
            .rules
            .iter()
            .filter(named)
            .filter(begun)
            .filter(move |rule| !ended(rule))
            .map(|rule| rule.rule)
    }

    fn edge_at(&self, edge: &Edge) -> Option<Timestamp> {
        match edge {
            Edge::At(at) => Some(*at),
            Edge::Effective(id) => self.determination(id).and_then(Determination::effective_at),
            Edge::RescissionOf(id) => {
                let rescinded =
                    |d: &&Determination| d.kind == DeterminationKind::Rescind && d.amends.contains(id);
                let by_another = self.parts.determinations.iter().filter(rescinded);
                let itself = self.determination(id).filter(|d| d.state == DeterminationState::Rescinded);
                by_another
                    .filter_map(Determination::effective_at)
                    .chain(itself.and_then(|d| d.ended_at))
                    .min()
            }
        }
    }

    /// The next instant after `at` when a determination or a rule begins or ends.
    pub fn next_instant_after(&self, at: Timestamp) -> Option<Timestamp> {
        let determinations = self.parts.determinations.iter();
        let determinations = determinations.flat_map(|d| [d.effective_at(), d.ended_at]).flatten();
        let edges = self.parts.rules.iter().flat_map(|rule| [&rule.from, &rule.until]).flatten();
        determinations
            .chain(edges.filter_map(|edge| self.edge_at(edge)))
            .filter(|instant| *instant > at)
            .min()
    }
}

fn encode(parts: &BundleParts) -> Vec<u8> {
    // Cannot fail: writing into a Vec has no error, and no encoder of the parts makes one.
    minicbor::to_vec(parts).unwrap_or_default()
}

impl<C> Encode<C> for Bundle {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        self.parts.encode(e, ctx)
    }
}

impl<'b, C> Decode<'b, C> for Bundle {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::new(BundleParts::decode(d, ctx)?).map_err(|e| minicbor::decode::Error::message(e.to_string()))
    }
}
