//! Proof that a form was made by this portal for this visitor.
//!
//! The page is a browser's, and cookies of `localhost` are shared by all its ports: another
//! program there can read the cookie, even set it. So the cookie alone proves nothing. The form
//! carries an HMAC over cookie and account address under a secret that only this process has;
//! another origin can neither compute it nor read it out of our pages.

use hmac::{Hmac, KeyInit, Mac};
use rand::TryRngCore;
use sha2::Sha256;
use std::net::Ipv4Addr;

/// The cookie that goes into a form's token.
pub(crate) const COOKIE: &str = "nonstop-form";

/// The secret behind all tokens; new with each start of the portal.
pub(crate) struct Secret([u8; 32]);

impl Secret {
    /// A fresh secret.
    pub(crate) fn new() -> Secret {
        Secret(random())
    }

    /// The token for forms of the visitor with `cookie` at the account's `address`.
    pub(crate) fn token(&self, cookie: &str, address: Ipv4Addr) -> String {
        hex::encode(self.mac(cookie, address).finalize().into_bytes())
    }

    /// Whether `token` is the one for `cookie` and `address`, in constant time.
    pub(crate) fn is_good(&self, token: &str, cookie: &str, address: Ipv4Addr) -> bool {
        hex::decode(token).is_ok_and(|bytes| self.mac(cookie, address).verify_slice(&bytes).is_ok())
    }

    fn mac(&self, cookie: &str, address: Ipv4Addr) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.0)
            .expect("HMAC takes a key of any length")
            .chain_update(address.octets())
            .chain_update(cookie)
    }
}

/// A fresh value for the cookie.
pub(crate) fn fresh_cookie() -> String {
    hex::encode(random::<16>())
}

/// Whether `text` has the shape of a value of ours.
pub(crate) fn is_cookie(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_for_one_cookie_one_account_and_one_start() {
        let (secret, cookie) = (Secret::new(), fresh_cookie());
        let address = Ipv4Addr::new(127, 64, 0, 1);
        let token = secret.token(&cookie, address);
        assert!(is_cookie(&cookie) && secret.is_good(&token, &cookie, address));
        assert!(!secret.is_good(&token, &fresh_cookie(), address));
        assert!(!secret.is_good(&token, &cookie, Ipv4Addr::new(127, 64, 0, 2)));
        assert!(!Secret::new().is_good(&token, &cookie, address));
        assert!(!secret.is_good("", &cookie, address));
        assert!(!secret.is_good(&cookie, &cookie, address));
    }
}
