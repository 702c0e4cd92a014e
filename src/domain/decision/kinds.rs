//! Transaction kinds: which acts under the EAR an access amounts to (domain section 2.3). Derived, never taken from
//! the caller.

use super::case::{Case, Who};
use crate::domain::entity::Organisation;
use crate::domain::model::AccessForm;
use crate::domain::person::PersonStatus;
use crate::domain::word::words;

words! {
    /// An act that the law names.
    TransactionKind {
        /// 15 CFR 734.13(a)(1).
        Export = 0, "EXPORT";
        /// 15 CFR 734.13(a)(2).
        DeemedExport = 1, "DEEMED_EXPORT";
        /// 15 CFR 734.14(a)(1).
        Reexport = 2, "REEXPORT";
        /// 15 CFR 734.14(a)(2).
        DeemedReexport = 3, "DEEMED_REEXPORT";
        /// 15 CFR 734.16.
        TransferInCountry = 4, "TRANSFER_IN_COUNTRY";
        /// No act takes place.
        DomesticNonExport = 5, "DOMESTIC_NON_EXPORT";
    }
}

/// The acts that a case amounts to; never empty.
pub fn kinds(case: &Case<'_>, remote_access_is_release: bool) -> Vec<TransactionKind> {
    let mut kinds = Vec::new();
    if !case.serving.is_us() {
        let same_country = case.serving == case.place;
        kinds.push(if same_country { TransactionKind::TransferInCountry } else { TransactionKind::Reexport });
    }
    let us_person = matches!(case.who, Who::Human { status: PersonStatus::UsPerson, .. });
    let releases = remote_access_is_release || case.form != AccessForm::Inference;
    if case.place.is_us() {
        if releases && (!us_person || case.org == Organisation::Foreign) {
            kinds.push(TransactionKind::DeemedExport);
        }
    } else {
        kinds.push(TransactionKind::Export);
        // The person's country is not collected, so it counts as another one.
        if releases && !us_person {
            kinds.push(TransactionKind::DeemedReexport);
        }
    }
    if kinds.is_empty() {
        kinds.push(TransactionKind::DomesticNonExport);
    }
    kinds
}
