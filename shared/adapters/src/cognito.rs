//! What the user pool knows of its users.

use application::{event_store::Unavailable, ports::IdentityProvider};
use aws_sdk_cognitoidentityprovider::{Client, operation::admin_get_user::AdminGetUserOutput};

/// A user pool of Cognito. It never lets an access token say anything about e-mail, so it has to be asked.
pub struct UserPool {
    client: Client,
    id: String,
}

impl UserPool {
    pub fn new(client: Client, id: String) -> Self {
        Self { client, id }
    }

    async fn user(&self, username: &str) -> Result<Option<AdminGetUserOutput>, Unavailable> {
        let user = self.client.admin_get_user().user_pool_id(&self.id).username(username).send().await;
        match user.map_err(aws_sdk_cognitoidentityprovider::error::SdkError::into_service_error) {
            Ok(user) => Ok(Some(user)),
            Err(error) if error.is_user_not_found_exception() => Ok(None),
            Err(error) => Err(Unavailable { what: "the user pool", source: error.into() }),
        }
    }
}

impl IdentityProvider for UserPool {
    async fn verified_email(&self, username: &str) -> Result<Option<String>, Unavailable> {
        let Some(user) = self.user(username).await? else { return Ok(None) };
        let attribute = |name: &str| {
            user.user_attributes()
                .iter()
                .find(|attribute| attribute.name() == name)
                .and_then(|attribute| attribute.value())
        };
        let is_verified = attribute("email_verified") == Some("true");
        Ok(attribute("email").filter(|_| is_verified).map(str::to_owned))
    }

    /// The factors that are listed are those that are switched on, and so asked for.
    async fn has_second_factor(&self, username: &str) -> Result<bool, Unavailable> {
        let user = self.user(username).await?;
        Ok(user.is_some_and(|user| user.user_mfa_setting_list().iter().any(|factor| factor == "SOFTWARE_TOKEN_MFA")))
    }
}
