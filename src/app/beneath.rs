//! An authority beneath a root: its key is made here, its request goes to a ceremony, and what the root certified comes back,
//! days later perhaps and after restarts. The request beside the key says that it is waited for.

use std::sync::Arc;

use super::crl::blocking;
use super::error::Error;
use super::rotation::MadeAuthority;
use super::{App, hierarchy};
use crate::ca::Signer;
use crate::domain::approval::SignedMandate;
use crate::domain::authority::NewAuthority;
use crate::domain::certificate::AuthorityKind;
use crate::domain::codec::to_bytes;
use crate::domain::command::Command;
use crate::domain::flow::{admit_mandate, mandate_for};
use crate::domain::id::AuthorityId;
use crate::x509::{Authority, AuthorityRequest, Curve, PublicKey, root_row};

fn wrong(why: impl ToString) -> Error {
    Error::Invalid { field: "certificate", why: why.to_string() }
}

impl App {
    /// Makes the key of an authority that a root is to certify, and its request. Asked again before that, it gives the same.
    ///
    /// # Errors
    /// No root is on record, or the key cannot be kept.
    pub async fn request_authority(
        self: &Arc<Self>,
        kind: AuthorityKind,
    ) -> Result<(AuthorityId, Vec<u8>), Error> {
        self.check_clock()?;
        // Held so that two who ask at once get one key.
        let _made = self.rotation.lock().await;
        let state = self.state();
        if state.roots.is_empty() {
            let why = "no root is on record; trust one first: countersign authority root trust";
            return Err(Error::WrongState(why.to_owned()));
        }
        let now = self.clock.now();
        let (curve, _) = self.next_like(&state, kind, None, now)?;
        let id = AuthorityId::from_parts(now, self.entropy.bytes16());
        let app = Arc::clone(self);
        blocking(move || app.make_request(kind, (id, curve))).await
    }

    /// Blocks: a key is written and synced.
    fn make_request(
        &self,
        kind: AuthorityKind,
        (id, curve): (AuthorityId, Curve),
    ) -> Result<(AuthorityId, Vec<u8>), Error> {
        let state = self.state();
        let waits = |(id, request): &(AuthorityId, Vec<u8>)| {
            !state.authorities.contains_key(id)
                && AuthorityRequest::from_der(request).is_ok_and(|read| (read.id, read.kind) == (*id, kind))
        };
        if let Some(waiting) = self.authorities.requests()?.into_iter().find(waits) {
            return Ok(waiting);
        }
        let signer = self.authorities.make(id, curve)?;
        let kept = self.keep_request(kind, id, signer.as_ref());
        if kept.is_err() {
            // Nobody was given its request, so nothing will ever be certified for it.
            let _ = self.authorities.remove(id);
        }
        let der = kept?;
        tracing::info!(authority.id = %id, authority.kind = %kind, "the key of an authority beneath a root was made");
        Ok((id, der))
    }

    fn keep_request(
        &self,
        kind: AuthorityKind,
        id: AuthorityId,
        signer: &dyn Signer,
    ) -> Result<Vec<u8>, Error> {
        let key = PublicKey::from_spki(signer.public_key())
            .map_err(|e| super::internal("the key of an authority", &e))?;
        let request = AuthorityRequest { id, kind, key };
        let signature = signer.sign(&request.info()).map_err(|e| super::internal("a request", &e))?;
        let der = request.assemble(&signature);
        self.authorities.keep_request(id, &der)?;
        Ok(der)
    }

    /// The mandate of an authority that a root certified.
    ///
    /// # Errors
    /// It is of another kind, of a root that is not on record, or of a key that is not here.
    pub async fn certified_authority(
        self: &Arc<Self>,
        kind: AuthorityKind,
        certificate: Vec<u8>,
    ) -> Result<MadeAuthority, Error> {
        self.check_clock()?;
        let read = Authority::from_der(&certificate).map_err(wrong)?;
        if read.kind() != kind {
            return Err(wrong(format!("it is of an authority of kind {}, not {kind}", read.kind())));
        }
        let beneath = root_row::beneath(&read);
        if beneath.is_none() {
            return Err(wrong("it is self-signed, not by a root"));
        }
        let state = self.state();
        hierarchy::check_beneath(&state, &read, beneath)?;
        let (id, not_after) = (read.id(), read.not_after());
        let authority = NewAuthority { id, kind, certificate, not_after, beneath };
        let (app, new) = (Arc::clone(self), authority.clone());
        blocking(move || app.adopt(&app.state(), &new)).await?;
        let now = self.clock.now();
        let mandate = mandate_for(&state, Command::PrepareAuthority(authority.clone()), now);
        let unsigned = SignedMandate { bytes: to_bytes(&mandate), approvals: Vec::new() };
        admit_mandate(&state, &unsigned, now)?;
        Ok(MadeAuthority { authority, mandate })
    }
}
