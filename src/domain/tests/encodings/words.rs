use super::assert_lines;
use crate::domain::authority::AuthorityState;
use crate::domain::certificate::{AuthorityKind, CanarySide, PrincipalKind};
use crate::domain::codec::to_bytes;
use crate::domain::decision::{Access, CredentialFault, Denial, Gate, Legal, LegalReason, TransactionKind};
use crate::domain::determination::{DeterminationKind, DeterminationState, Limb};
use crate::domain::entity::{EntityClass, EntityKind, EntityStatus, Organisation, ScreeningResult};
use crate::domain::model::AccessForm;
use crate::domain::person::{Assurance, EvidenceKind, PersonStatus, Relation, SubjectKind};
use crate::domain::policy::PolicyRule;
use crate::domain::principal::Role;
use crate::domain::revocation::RevocationReason;
use crate::domain::screening::MatchVerdict;
use crate::domain::subject::SubjectStatus;

macro_rules! vocabularies {
    ($($name:ident),+ $(,)?) => {
        [$({
            let words = $name::ALL.iter().map(|word| {
                assert_eq!(word.as_str().parse::<$name>().unwrap(), *word, "one spelling");
                format!("{}={word}", number(&to_bytes(word)))
            });
            format!("{}: {}", stringify!($name), words.collect::<Vec<_>>().join(" "))
        }),+]
    };
}

/// The number that stands for a word: an unsigned integer of CBOR.
fn number(bytes: &[u8]) -> u8 {
    match *bytes {
        [number @ 0..=0x17] | [0x18, number] => number,
        _ => panic!("{bytes:?} is no small number"),
    }
}

#[test]
fn every_word_keeps_its_number_and_its_spelling() {
    let lines = vocabularies!(
        Access,
        AccessForm,
        Assurance,
        AuthorityKind,
        AuthorityState,
        CanarySide,
        CredentialFault,
        Denial,
        DeterminationKind,
        DeterminationState,
        EntityClass,
        EntityKind,
        EntityStatus,
        EvidenceKind,
        Gate,
        Legal,
        LegalReason,
        Limb,
        MatchVerdict,
        Organisation,
        PersonStatus,
        PolicyRule,
        PrincipalKind,
        Relation,
        RevocationReason,
        Role,
        ScreeningResult,
        SubjectKind,
        SubjectStatus,
        TransactionKind,
    );
    assert_lines(&lines, "
        Access: 0=PERMIT 1=DENY
        AccessForm: 0=INFERENCE 1=WEIGHTS 2=INTERNALS
        Assurance: 1=IAL1 2=IAL2 3=IAL3
        AuthorityKind: 0=ACCESS 1=SYSTEM
        AuthorityState: 0=ACTIVE 1=REVOKED 2=PREPARED 3=RETIRING 4=RETIRED 5=TAINTED
        CanarySide: 0=a 1=b
        CredentialFault: 0=CREDENTIAL_INVALID 1=CREDENTIAL_NOT_YET_VALID 2=CREDENTIAL_EXPIRED 3=CREDENTIAL_WRONG_KIND 4=CREDENTIAL_NOT_ISSUED 5=CREDENTIAL_REVOKED 6=CREDENTIAL_HELD 7=CREDENTIAL_LINEAGE_LOCKED 8=CREDENTIAL_STALE
        Denial: 0=STATE_UNAVAILABLE 1=CLOCK_UNTRUSTED 2=STALE_VIEW 3=CREDENTIAL_INVALID 4=CREDENTIAL_NOT_YET_VALID 5=CREDENTIAL_EXPIRED 6=CREDENTIAL_WRONG_KIND 7=CREDENTIAL_NOT_ISSUED 8=CREDENTIAL_REVOKED 9=CREDENTIAL_HELD 10=CREDENTIAL_LINEAGE_LOCKED 11=CREDENTIAL_STALE 12=EMERGENCY_STOP 13=MODEL_UNKNOWN 14=PARTY_DENIED 15=SCREENING_PENDING 16=SCREENING_STALE 17=EMBARGO 18=MI_END_USER 19=END_USER_UNIDENTIFIED 20=ACCESS_FORM_NOT_GRANTED 21=MODEL_NOT_LISTED 22=SERVER_DID_NOT_ANSWER
        DeterminationKind: 0=IS_INFORMED_NOTICE 1=IMPOSE 2=LIFT_FOR_BENEFICIARIES 3=CONDITION 4=RESCIND 5=ENJOIN 6=CLARIFY
        DeterminationState: 0=DRAFT 1=COUNTERSIGNED 2=SUPERSEDED 3=ENJOINED 4=RESCINDED
        EntityClass: 0=ANNEX_A 1=PROVIDER 2=UNLISTED
        EntityKind: 0=COMPANY 1=FEDERAL_AGENCY 2=STATE_AGENCY 3=CRITICAL_INFRASTRUCTURE
        EntityStatus: 0=APPLICANT 1=ACTIVE 2=REMOVED 3=REJECTED
        EvidenceKind: 0=CITIZEN_OR_NATIONAL 1=LAWFUL_PERMANENT_RESIDENT 2=PROTECTED_INDIVIDUAL 3=NO_US_STATUS 4=NONE
        Gate: 1=G1 2=G2 3=G3 4=G4 5=G5 6=G6 7=G7 8=G8
        Legal: 0=NOT_CONTROLLED 1=NLR_DOMESTIC 2=EXEMPT 3=LICENSED 4=LICENSE_REQUIRED 5=INDETERMINATE 6=PROHIBITED
        LegalReason: 0=NO_REQUIREMENT_IN_FORCE 1=REMOTE_ACCESS_NOT_A_RELEASE 2=EXEMPT_PROVIDER_FN_EMPLOYEE 3=EXEMPT_ANNEX_A_WORKLOAD 4=EXEMPT_ANNEX_A_FN_EMPLOYEE 5=EXEMPT_EITHER_STATUS 6=EXEMPT_ANNEX_A_ENTITY 7=NOT_AN_EXPORT 8=STATUS_UNDETERMINED 9=LICENSED 10=WORKLOAD_OPERATORS_UNKNOWN 11=DEEMED_EXPORT_LICENSE_REQUIRED 12=EXPORT_LICENSE_REQUIRED 13=EXPORT_DESTINATION_LICENSE_REQUIRED 14=FOREIGN_ENTITY_LICENSE_REQUIRED 15=NOT_JUDGED
        Limb: 0=PROVIDER_FOREIGN_EMPLOYEES 1=ANNEX_ENTITIES 2=ANNEX_FOREIGN_EMPLOYEES
        MatchVerdict: 0=FALSE_POSITIVE 1=CONFIRMED 2=WITHDRAWN
        Organisation: 0=US 1=FOREIGN
        PersonStatus: 0=US_PERSON 1=FOREIGN_PERSON 2=UNDETERMINED
        PolicyRule: 0=P-SUSPEND_ALL 1=P-NO_GRANT 2=P-NOT_PROVISIONED 3=P-SUSPENDED 4=P-ACCESS_FORM 5=P-STATUS_UNVERIFIED 6=P-NOT_EMPLOYEE 7=P-PLACE_NOT_ALLOWED 8=P-ASSURANCE_TOO_LOW 9=P-REVERIFY_OVERDUE 10=P-PURPOSE 11=P-SAFEGUARD_LAPSED 12=P-QUOTA
        PrincipalKind: 0=officer 1=gateway 2=partner 3=server
        Relation: 0=EMPLOYEE 1=CONTRACTOR 2=NONE
        RevocationReason: 0=KEY_COMPROMISE 1=CA_COMPROMISE 2=AFFILIATION_ENDED 3=ANNEX_REMOVED 4=DETERMINATION_CHANGED 5=STATUS_CHANGED 6=STATUS_MISSTATED 7=LICENSE_ENDED 8=SCREENING_HIT 9=SAFEGUARD_LAPSED 10=MISUSE 11=REVERIFY_OVERDUE 12=SUPERSEDED 13=GOVERNMENT_ORDER 14=ISSUED_IN_ERROR 15=DRILL
        Role: 0=REGISTRAR 1=VETTER 2=APPROVER 3=SECURITY_OPS 4=GATEWAY 5=PARTNER_ADMIN 6=AUDITOR
        ScreeningResult: 0=CLEAR 1=UNRESOLVED 2=CONFIRMED
        SubjectKind: 0=HUMAN 1=WORKLOAD
        SubjectStatus: 0=NOMINATED 1=APPROVED 2=REFUSED
        TransactionKind: 0=EXPORT 1=DEEMED_EXPORT 2=REEXPORT 3=DEEMED_REEXPORT 4=TRANSFER_IN_COUNTRY 5=DOMESTIC_NON_EXPORT
        ");
}

#[test]
fn a_word_in_another_spelling_is_no_word() {
    for word in ["", "permit", "PERMIT ", "Permit", "GRANT"] {
        let unknown = word.parse::<Access>().unwrap_err();
        assert_eq!(unknown.to_string(), format!("{word:?} is not one of PERMIT, DENY"));
    }
    let long = "x".repeat(100).parse::<Access>().unwrap_err();
    assert_eq!(long.word.len(), 64);
}
