//! Who signs people in.

use crate::event_store::Unavailable;

/// Whoever signs people in, and may know which e-mail address is theirs.
pub trait IdentityProvider: Send + Sync {
    /// The e-mail address of this user, if they have shown that they read what is sent there; `None` also for an unknown user.
    fn verified_email(&self, username: &str) -> impl Future<Output = Result<Option<String>, Unavailable>> + Send;

    /// Whether this user has set up a second factor, for which they are then asked whenever they sign in; `false` also for an
    /// unknown user.
    fn has_second_factor(&self, username: &str) -> impl Future<Output = Result<bool, Unavailable>> + Send;
}
