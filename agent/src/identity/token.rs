//! `SWMTKN-1-<digest of the authority>-<secret>`.

use super::base36::DIGEST_DIGITS;
use crate::error::{Error, Result};
use skep_control::model::ID_LEN;
use std::str::FromStr;

/// What one needs to join: whom to believe, and that one may.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct JoinToken {
    /// Of the authority's certificate, 50 base-36 digits.
    pub(crate) digest: String,
    /// The whole token, as the managers compare it.
    pub(crate) text: String,
}

impl FromStr for JoinToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let is_base36 = |part: &str, len| {
            let is_digit = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
            part.len() == len && part.bytes().all(is_digit)
        };
        match parts[..] {
            ["SWMTKN", "1", digest, secret]
                if is_base36(digest, DIGEST_DIGITS) && is_base36(secret, ID_LEN) =>
            {
                Ok(Self {
                    digest: digest.to_owned(),
                    text: text.to_owned(),
                })
            }
            // Docker's words; the token itself is a secret.
            _ => Err(Error::invalid("invalid join token")),
        }
    }
}
