//! Who signs people in.

use crate::event_store::Unavailable;

/// Whoever signs people in, and may know which e-mail address is theirs.
pub trait IdentityProvider: Send + Sync {
    /// The e-mail address of this user, if they have shown that they read what is sent there; `None` also for an unknown user.
    fn verified_email(&self, username: &str) -> impl Future<Output = Result<Option<String>, Unavailable>> + Send;
}
