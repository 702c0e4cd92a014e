//! Roots on record: `countersign authority root ...`, with what was signed at a ceremony. Each file is read here as the server
//! reads it, so that an officer signs nothing that it would refuse.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::mandate::{Check, Commit, Waiting, carry_out};
use super::{Context, Failure, Outcome, files};
use crate::domain::command::Command;
use crate::domain::id::RootId;
use crate::x509::{Root, root_row};

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Trust a root, with its newest revocation list. Two officers sign.
    #[command(
        after_help = "Example:\n  countersign authority root trust --root root.pem --crl root.crl --commit"
    )]
    Trust {
        /// Its certificate.
        #[arg(long, value_name = "FILE")]
        root: PathBuf,
        /// Its newest revocation list.
        #[arg(long, value_name = "FILE")]
        crl: PathBuf,
        #[command(flatten)]
        commit: Commit,
    },
    /// Take a newer revocation list of a root. What it revokes is revoked here too, for ever. One officer signs.
    #[command(after_help = "Example:\n  countersign authority root crl --root root.pem --crl root.crl")]
    Crl {
        /// The certificate of the root.
        #[arg(long, value_name = "FILE")]
        root: PathBuf,
        /// The list.
        #[arg(long, value_name = "FILE")]
        crl: PathBuf,
        #[command(flatten)]
        check: Check,
        #[command(flatten)]
        wait: Waiting,
    },
    /// Give out a certificate by another root, for those who trust only that one. Two officers sign.
    #[command(
        after_help = "Example:\n  countersign authority root cross --by old-root.pem --certificate cross.pem --commit"
    )]
    Cross {
        /// The certificate of the root that signed it, which must be on record.
        #[arg(long, value_name = "FILE")]
        by: PathBuf,
        /// The cross-certificate.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        #[command(flatten)]
        commit: Commit,
    },
    /// Trust a root no more, beneath which no authority is trusted. Two officers sign.
    #[command(after_help = "Example:\n  countersign authority root drop root_01J... --commit")]
    Drop {
        /// The root.
        root: RootId,
        #[command(flatten)]
        commit: Commit,
    },
}

pub(super) async fn run(verb: Verb, context: &Context<'_>) -> Result<Outcome, Failure> {
    let alone = Waiting::default();
    match verb {
        Verb::Trust { root, crl, commit } => {
            let (certificate, list) = (read(&root)?, files::read_der(&crl, "X509 CRL")?);
            let new = root_row::root(&certificate, &list)?;
            carry_out(context, Command::TrustRoot(new), commit, alone).await
        }
        Verb::Crl { root, crl, check, wait } => {
            let root = Root::from_der(&read(&root)?)?;
            let list = root_row::list(&files::read_der(&crl, "X509 CRL")?, &root)?;
            carry_out(context, Command::RenewRootList { root: root.id(), list }, check, wait).await
        }
        Verb::Cross { by, certificate, commit } => {
            let by = Root::from_der(&read(&by)?)?;
            let new = root_row::cross(&read(&certificate)?, &by)?;
            carry_out(context, Command::AddCrossCertificate(new), commit, alone).await
        }
        Verb::Drop { root, commit } => carry_out(context, Command::DropRoot(root), commit, alone).await,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    files::read_der(path, "CERTIFICATE")
}
