//! The way back into an account for whoever has the machine itself.

use super::PasswordHash;
use crate::clock;
use crate::model::{SiteRights, User};

/// Fields of a record that hold second factors, or where their codes are sent.
const FACTORS: [&str; 10] = [
    "phone",
    "otpekey",
    "otpsecret",
    "otpkeys",
    "otphkeys",
    "otpdev",
    "otpsms",
    "otpmsg",
    "otpduo",
    "msghandle",
];

/// Gives an account a new password. It is unlocked, has no second factor any more, and its sessions are over.
pub fn let_back_in(user: &mut User, hash: PasswordHash) {
    if !user.siteadmin.is_full() {
        user.siteadmin = SiteRights(user.siteadmin.0 & !SiteRights::LOCKED.0);
    }
    for factor in FACTORS {
        user.extra.remove(factor);
    }
    user.extra.remove("passtype");
    user.salt = Some(hash.salt);
    user.hash = Some(hash.hash);
    user.passchange = Some(clock::now_seconds());
    user.sessions_since = clock::now_ms();
    user.session_kept = None;
}
