//! What the user pool knows of its users.

use application::{event_store::Unavailable, ports::IdentityProvider};
use aws_sdk_cognitoidentityprovider::Client;

/// A user pool of Cognito. It never lets an access token say anything about e-mail, so it has to be asked.
pub struct UserPool {
    client: Client,
    id: String,
}

impl UserPool {
    pub fn new(client: Client, id: String) -> Self {
        Self { client, id }
    }
}

impl IdentityProvider for UserPool {
    async fn verified_email(&self, username: &str) -> Result<Option<String>, Unavailable> {
        let user = self.client.admin_get_user().user_pool_id(&self.id).username(username).send().await;
        let user = user.map_err(|error| match error.into_service_error() {
            error if error.is_user_not_found_exception() => None,
            error => Some(Unavailable { what: "the user pool", source: error.into() }),
        });
        let user = match user {
            Ok(user) => user,
            Err(None) => return Ok(None),
            Err(Some(unavailable)) => return Err(unavailable),
        };
        let attribute = |name: &str| {
            user.user_attributes()
                .iter()
                .find(|attribute| attribute.name() == name)
                .and_then(|attribute| attribute.value())
        };
        let is_verified = attribute("email_verified") == Some("true");
        Ok(attribute("email").filter(|_| is_verified).map(str::to_owned))
    }
}
