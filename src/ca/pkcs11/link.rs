//! One application's link to a token: module, slot, login. PKCS#11 has one of them in a process, whatever uses it, and
//! nobody may be in a call while it is taken down.

use std::path::PathBuf;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::fault::{TokenFault, fault};
use crate::domain::pkcs11::Pkcs11Uri;

/// Where a token is and how it is used.
pub struct TokenSettings {
    /// The vendor's library.
    pub module: PathBuf,
    /// Which token: its label or serial number.
    pub token: Pkcs11Uri,
    /// The PIN of the token's user.
    pub pin: Zeroizing<Vec<u8>>,
    /// How many sessions are used at once.
    pub sessions: u8,
    /// How long an answer may take, in milliseconds.
    pub timeout_ms: u32,
}

/// A token that is logged in to.
pub(super) struct Link {
    module: Pkcs11,
    slot: Slot,
}

impl Link {
    /// Loads the module, finds the token, and logs in: once.
    pub(super) fn open(settings: &TokenSettings) -> Result<Self, TokenFault> {
        let module = Pkcs11::new(&settings.module).map_err(|e| {
            TokenFault::Gone(format!("the module {} cannot be loaded: {e}", settings.module.display()))
        })?;
        match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // A library between this and the module, such as a logger, may have done it.
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(fault(&error)),
        }
        match Self::log_in(&module, settings) {
            Ok(slot) => Ok(Self { module, slot }),
            Err(fault) => {
                // So that the next try finds the tokens that are there then.
                drop(module.finalize());
                Err(fault)
            }
        }
    }

    fn log_in(module: &Pkcs11, settings: &TokenSettings) -> Result<Slot, TokenFault> {
        let (slot, info) = find(module, &settings.token)?;
        check_pin_flags(&info)?;
        let text = std::str::from_utf8(&settings.pin);
        let text = text.map_err(|_| TokenFault::Locked("the PIN is not UTF-8 text".to_owned()))?;
        // The login ends with the last session, so this one is never closed but with the module: nor is any other by its
        // number, which a session of the next connection may have by then.
        let login = module.open_rw_session_no_drop(slot).map_err(|e| fault(&e))?;
        match login.login(UserType::User, Some(&AuthPin::from(text.to_owned()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(slot),
            Err(error) => Err(fault(&error)),
        }
    }

    /// Takes the module down, so that nothing of it is left for the next one.
    pub(super) fn close(self) {
        drop(self.module.finalize());
    }

    /// Another session of the same login; one for each thread.
    pub(super) fn session(&self) -> Result<Session, TokenFault> {
        self.module.open_rw_session_no_drop(self.slot).map_err(|e| fault(&e))
    }
}

/// The one token that fits.
fn find(module: &Pkcs11, wanted: &Pkcs11Uri) -> Result<(Slot, TokenInfo), TokenFault> {
    let fits = |own: &Option<String>, is: &str| own.as_deref().is_none_or(|own| own == is.trim_end());
    let mut found = Vec::new();
    for slot in module.get_slots_with_token().map_err(|e| fault(&e))? {
        // One that is being taken out meanwhile is not there.
        let Ok(info) = module.get_token_info(slot) else { continue };
        if fits(&wanted.token, info.label())
            && fits(&wanted.serial, info.serial_number())
            && fits(&wanted.manufacturer, info.manufacturer_id())
            && fits(&wanted.model, info.model())
            && info.token_initialized()
        {
            found.push((slot, info));
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => {
            Err(TokenFault::Locked(format!("several tokens are {wanted}; name one by its serial number")))
        }
        (None, _) => Err(TokenFault::Gone(format!("CKR_TOKEN_NOT_PRESENT: no slot has {wanted}"))),
    }
}

/// A token that counts refused PINs gets no chance to count another: whoever put the PIN right logs in with the token's
/// own tool, which sets the count back.
fn check_pin_flags(info: &TokenInfo) -> Result<(), TokenFault> {
    let locked = |flag: &str| {
        Err(TokenFault::Locked(format!(
            "{flag}: a PIN was refused before and no other is tried; log in once with the token's own tool, then restart"
        )))
    };
    if info.user_pin_locked() {
        return Err(TokenFault::Locked(
            "CKF_USER_PIN_LOCKED: the token's security officer must set the PIN anew; then restart"
                .to_owned(),
        ));
    }
    if info.user_pin_final_try() {
        return locked("CKF_USER_PIN_FINAL_TRY");
    }
    if info.user_pin_count_low() {
        return locked("CKF_USER_PIN_COUNT_LOW");
    }
    Ok(())
}
