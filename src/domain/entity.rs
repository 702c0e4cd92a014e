//! Words about entities: what they are, where they stand with the operator, and how the law classes them.

use super::word::words;

words! {
    /// How the law classes an entity at an instant. Removed, not-yet-effective and affiliate all count as UNLISTED.
    EntityClass {
        /// Listed in the annex of a determination.
        AnnexA = 0, "ANNEX_A";
        /// The provider of the models itself.
        Provider = 1, "PROVIDER";
        /// Everybody else.
        Unlisted = 2, "UNLISTED";
    }
}

words! {
    /// Under whose law an entity is organised. Unknown is FOREIGN.
    Organisation {
        /// Organised under United States law.
        Us = 0, "US";
        /// Anything else, and unknown.
        Foreign = 1, "FOREIGN";
    }
}
