//! What a token says when something fails, and what that means: it is gone and may come back, its PIN was refused, or it
//! will not do what was asked.

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use thiserror::Error as ThisError;

/// Why a token did not do something. The code of PKCS#11 stands in each.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum TokenFault {
    /// It is gone, or does not answer: tried again by itself.
    #[error("the token cannot be used now: {0}")]
    Gone(String),
    /// Nothing more is tried: each further try could lock it for good.
    #[error("the token is locked: {0}")]
    Locked(String),
    /// It will not do this.
    #[error("the token refused: {0}")]
    Refused(String),
    /// The key is not on it, or there are several of that name.
    #[error("{0}")]
    Key(String),
}

/// How the code is called in the standard.
pub(super) fn code(error: &Error) -> String {
    let Error::Pkcs11(rv, function) = error else { return error.to_string() };
    let name = format!("{rv:?}");
    let mut text = String::from("CKR");
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    format!("{text} in C_{function:?}")
}

/// What a failed call means.
pub(super) fn fault(error: &Error) -> TokenFault {
    let text = code(error);
    let Error::Pkcs11(rv, function) = error else { return TokenFault::Gone(text) };
    match rv {
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange | RvError::PinExpired => {
            TokenFault::Locked(format!(
                "{text}: the PIN was refused and is not tried again; put it right, log in once with the token's own tool, \
                 and restart"
            ))
        }
        RvError::PinLocked | RvError::UserPinNotInitialized => TokenFault::Locked(format!(
            "{text}: the token's security officer must set the PIN anew; then restart"
        )),
        // A token of an unknown state is not asked for its PIN again and again either.
        _ if matches!(function, Function::Login) => TokenFault::Gone(text),
        RvError::MechanismInvalid
        | RvError::MechanismParamInvalid
        | RvError::CurveNotSupported
        | RvError::DomainParamsInvalid
        | RvError::KeyFunctionNotPermitted
        | RvError::KeyTypeInconsistent
        | RvError::KeySizeRange
        | RvError::DataInvalid
        | RvError::DataLenRange
        | RvError::ArgumentsBad
        | RvError::AttributeReadOnly
        | RvError::AttributeTypeInvalid
        | RvError::AttributeValueInvalid
        | RvError::AttributeSensitive
        | RvError::TemplateIncomplete
        | RvError::TemplateInconsistent
        | RvError::ActionProhibited
        | RvError::TokenWriteProtected
        | RvError::DeviceMemory
        | RvError::FunctionNotSupported => TokenFault::Refused(text),
        // CKR_DEVICE_REMOVED, CKR_SESSION_HANDLE_INVALID, CKR_TOKEN_NOT_PRESENT, CKR_GENERAL_ERROR, a handle that is not
        // known any more, and whatever else a vendor says: connecting anew tells.
        _ => TokenFault::Gone(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_names_of_the_standard() {
        let said = |rv, function| fault(&Error::Pkcs11(rv, function)).to_string();
        assert!(said(RvError::DeviceRemoved, Function::Sign).contains("CKR_DEVICE_REMOVED in C_Sign"));
        assert!(said(RvError::PinIncorrect, Function::Login).contains("CKR_PIN_INCORRECT in C_Login"));
    }

    #[test]
    fn a_refused_pin_is_final_and_a_removed_token_is_not() {
        let fault = |rv, function| fault(&Error::Pkcs11(rv, function));
        for rv in [RvError::PinIncorrect, RvError::PinLocked, RvError::PinExpired, RvError::PinLenRange] {
            assert!(matches!(fault(rv, Function::Login), TokenFault::Locked(_)), "{rv:?}");
        }
        for rv in [
            RvError::DeviceRemoved,
            RvError::SessionHandleInvalid,
            RvError::TokenNotPresent,
            RvError::GeneralError,
            RvError::KeyHandleInvalid,
            RvError::UserNotLoggedIn,
            RvError::VendorDefined(0x8000_0001),
        ] {
            assert!(matches!(fault(rv, Function::Sign), TokenFault::Gone(_)), "{rv:?}");
        }
        assert!(matches!(fault(RvError::MechanismInvalid, Function::SignInit), TokenFault::Refused(_)));
    }
}
