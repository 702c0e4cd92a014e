//! Words about people and the workloads they run. A person is an opaque id and a few flags; nothing that names one.

use super::word::words;

words! {
    /// Whether a subject is a person or a machine identity of an entity.
    SubjectKind {
        /// A natural person in one employment.
        Human = 0, "HUMAN";
        /// A service account, job or agent of an entity.
        Workload = 1, "WORKLOAD";
    }
}

words! {
    /// The status that the letters turn on: 15 CFR 772.1 and 50 USC 4801.
    PersonStatus {
        /// Citizen or national, lawful permanent resident, or protected individual (8 USC 1324b(a)(3)).
        UsPerson = 0, "US_PERSON";
        /// A natural person in none of those groups; the letters' "foreign national".
        ForeignPerson = 1, "FOREIGN_PERSON";
        /// Not known. Never read as either.
        Undetermined = 2, "UNDETERMINED";
    }
}

words! {
    /// Relation of a person to the entity that attests it.
    Relation {
        /// Attested as employee by the entity.
        Employee = 0, "EMPLOYEE";
        /// Everybody else who works for the entity: temps, interns, secondees, contractors (question Q1).
        Contractor = 1, "CONTRACTOR";
        /// None attested.
        None = 2, "NONE";
    }
}

words! {
    /// What the status rests on. The evidence itself is never stored.
    EvidenceKind {
        /// Citizenship or nationality of the United States.
        CitizenOrNational = 0, "CITIZEN_OR_NATIONAL";
        /// Lawful permanent residence; an expired card does not end it.
        LawfulPermanentResident = 1, "LAWFUL_PERMANENT_RESIDENT";
        /// Refugee or asylee status that has been granted.
        ProtectedIndividual = 2, "PROTECTED_INDIVIDUAL";
        /// Evidence that the person is in none of these groups, pending claims and work authorisations included.
        NoUsStatus = 3, "NO_US_STATUS";
        /// No evidence was given.
        None = 4, "NONE";
    }
}

impl EvidenceKind {
    /// The status that this evidence supports (50 USC 4801(5), 15 CFR 772.1).
    pub const fn status(self) -> PersonStatus {
        match self {
            Self::CitizenOrNational | Self::LawfulPermanentResident | Self::ProtectedIndividual => {
                PersonStatus::UsPerson
            }
            Self::NoUsStatus => PersonStatus::ForeignPerson,
            Self::None => PersonStatus::Undetermined,
        }
    }
}

words! {
    /// Identity assurance level, NIST SP 800-63A-4. It proves identity, not citizenship.
    Assurance {
        /// One piece of fair evidence.
        Ial1 = 1, "IAL1";
        /// Fair and strong evidence, or superior evidence.
        Ial2 = 2, "IAL2";
        /// Attended on site, with a biometric kept by the proofer.
        Ial3 = 3, "IAL3";
    }
}
