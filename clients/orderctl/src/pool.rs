//! Signing in at the user pool. Four calls of Cognito's, as plain JSON: the SDK would be most of this program.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use order_client::{BoxError, TokenSource, is_loopback};
use reqwest::redirect;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    failure::Failure,
    profile::{Profile, Profiles, Tokens},
};

const CALL_MAX: Duration = Duration::from_secs(10);

/// A token that ends within this time is renewed before it is used.
const RENEWED_BEFORE: TimeDelta = TimeDelta::seconds(60);

/// The user pool, as its client of this id.
pub(crate) struct Pool {
    http: reqwest::Client,
    url: String,
    client_id: String,
}

impl Pool {
    pub(crate) fn new(url: &str, client_id: &str) -> Result<Self, Failure> {
        let http = reqwest::Client::builder().timeout(CALL_MAX).redirect(redirect::Policy::none());
        // A proxy is another machine, which would read the password where there is no TLS.
        let http = if is_loopback(url) { http.no_proxy() } else { http };
        let http = http.build().map_err(|source| Failure::PoolSilent { source })?;
        Ok(Self { http, url: url.to_owned(), client_id: client_id.to_owned() })
    }

    /// Tokens for a name and a password. `code` asks for that of the authenticator app, where the user has a second factor.
    pub(crate) async fn sign_in(
        &self,
        user: &str,
        password: &str,
        code: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<Tokens, Failure> {
        let parameters = json!({ "USERNAME": user, "PASSWORD": password });
        let answer = self.initiate("USER_PASSWORD_AUTH", &parameters).await?;
        let answer = match answer.get("ChallengeName").and_then(Value::as_str) {
            None => answer,
            Some(challenge @ "SOFTWARE_TOKEN_MFA") => {
                let responses = json!({ "USERNAME": user, "SOFTWARE_TOKEN_MFA_CODE": code()? });
                let (client_id, session) = (&self.client_id, answer.get("Session"));
                let body = json!({ "ClientId": client_id, "ChallengeName": challenge, "Session": session, "ChallengeResponses": responses });
                self.call("RespondToAuthChallenge", &body).await?
            }
            Some("NEW_PASSWORD_REQUIRED") => {
                return Err(refused(
                    "a password of one's own has to be chosen first; `make token STAGE=... WHO=...` asks for it",
                ));
            }
            Some(other) => {
                let help = "which `make token STAGE=... WHO=...` may know; ORDERCTL_TOKEN takes what it prints";
                return Err(refused(&format!("it asks for {other}, {help}")));
            }
        };
        tokens(&answer, Utc::now())
    }

    async fn renew(&self, refresh: &str) -> Result<Tokens, Failure> {
        let answer = self.initiate("REFRESH_TOKEN_AUTH", &json!({ "REFRESH_TOKEN": refresh })).await?;
        tokens(&answer, Utc::now())
    }

    /// From then on the refresh token, and what was got by it, is good for nothing.
    pub(crate) async fn revoke(&self, refresh: &str) -> Result<(), Failure> {
        self.call("RevokeToken", &json!({ "ClientId": self.client_id, "Token": refresh })).await.map(|_| ())
    }

    async fn initiate(&self, flow: &str, parameters: &Value) -> Result<Value, Failure> {
        let body = json!({ "AuthFlow": flow, "ClientId": self.client_id, "AuthParameters": parameters });
        self.call("InitiateAuth", &body).await
    }

    async fn call(&self, operation: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.http.post(&self.url).body(body.to_string());
        let request = request.header("content-type", "application/x-amz-json-1.1");
        let request = request.header("x-amz-target", format!("AWSCognitoIdentityProviderService.{operation}"));
        let silent = |source| Failure::PoolSilent { source };
        let response = request.send().await.map_err(silent)?;
        let status = response.status();
        let text = response.text().await.map_err(silent)?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() { Ok(answer) } else { Err(refusal(&answer, status.as_u16())) }
    }
}

fn refused(why: &str) -> Failure {
    Failure::PoolRefuses(why.to_owned())
}

/// What Cognito says names no secret; of other bodies only the status is told.
fn refusal(answer: &Value, status: u16) -> Failure {
    let message = answer.get("message").or_else(|| answer.get("Message")).and_then(Value::as_str);
    match message {
        Some(message) if message.contains("USER_PASSWORD_AUTH") => refused(&format!(
            "{message}: the stack is deployed without AllowPasswordSignIn. Have ORDERCTL_TOKEN=$(make -s token STAGE=... WHO=...) instead"
        )),
        Some(message) => refused(message),
        None => refused(&format!("it answers {status}")),
    }
}

fn tokens(answer: &Value, now: DateTime<Utc>) -> Result<Tokens, Failure> {
    let result = answer.get("AuthenticationResult");
    let text = |name: &str| result.and_then(|result| result.get(name)).and_then(Value::as_str).map(str::to_owned);
    let seconds = result.and_then(|result| result.get("ExpiresIn")).and_then(Value::as_i64).unwrap_or_default();
    let expires_at = TimeDelta::try_seconds(seconds).and_then(|lasts| now.checked_add_signed(lasts)).unwrap_or(now);
    let access = text("AccessToken").ok_or_else(|| refused("its answer has no token"))?;
    Ok(Tokens { access, refresh: text("RefreshToken"), expires_at })
}

/// Who is signed in to a stage, with tokens that are renewed in time and kept.
pub(crate) struct SignedIn {
    pool: Pool,
    profiles: Profiles,
    stage: String,
    profile: Mutex<Profile>,
}

impl SignedIn {
    pub(crate) fn new(profiles: Profiles, stage: &str, profile: Profile) -> Result<Self, Failure> {
        let pool = Pool::new(&profile.pool_url, &profile.client_id)?;
        Ok(Self { pool, profiles, stage: stage.to_owned(), profile: Mutex::new(profile) })
    }

    async fn access(&self) -> Result<String, Failure> {
        let signed_out = || Failure::SignedOut { stage: self.stage.clone() };
        let mut profile = self.profile.lock().await;
        let tokens = profile.tokens.clone().ok_or_else(signed_out)?;
        if tokens.expires_at.signed_duration_since(Utc::now()) > RENEWED_BEFORE {
            return Ok(tokens.access);
        }
        let refresh = tokens.refresh.ok_or_else(signed_out)?;
        let renewed = self.pool.renew(&refresh).await.map_err(|failure| match failure {
            Failure::PoolRefuses(why) => {
                Failure::PoolRefuses(format!("{why}; `orderctl login --stage {}` signs in again", self.stage))
            }
            other => other,
        })?;
        let renewed = Tokens { refresh: renewed.refresh.or(Some(refresh)), ..renewed };
        profile.tokens = Some(renewed.clone());
        self.profiles.save(&self.stage, &profile)?;
        Ok(renewed.access)
    }
}

impl TokenSource for SignedIn {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, BoxError>> {
        Box::pin(async {
            // In words of one's own: an expired refresh token is nothing that repeating mends.
            self.access().await.map(SecretString::from).map_err(|failure| failure.said().into())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex as StdMutex};

    use secrecy::ExposeSecret;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::profile::tests::{Folder, profile};

    /// A pool that gives these answers, one after the other, and keeps what it was asked.
    async fn pool(answers: Vec<(u16, Value)>) -> (String, Arc<StdMutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<StdMutex<Vec<String>>>::default();
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            for (status, answer) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = String::new();
                while !request.ends_with('}') {
                    let mut bytes = Vec::with_capacity(4096);
                    assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
                    request += std::str::from_utf8(&bytes).unwrap();
                }
                kept.lock().unwrap().push(request);
                let answer = answer.to_string();
                let head =
                    format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", answer.len());
                stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
            }
        });
        (url, asked)
    }

    fn result() -> Value {
        json!({"AuthenticationResult": {"AccessToken": "new-access", "RefreshToken": "new-refresh", "ExpiresIn": 3600}})
    }

    async fn sign_in(answers: Vec<(u16, Value)>) -> (Result<Tokens, String>, Vec<String>) {
        let (url, asked) = pool(answers).await;
        let pool = Pool::new(&url, "client").unwrap();
        let tokens = pool.sign_in("anna", "pass-word", || Ok("123456".to_owned())).await;
        let asked = asked.lock().unwrap().clone();
        (tokens.map_err(|failure| failure.said()), asked)
    }

    #[tokio::test]
    async fn a_password_and_a_second_factor_sign_in() {
        let (tokens, asked) = sign_in(vec![(200, result())]).await;
        let tokens = tokens.map_err(|said| said.len()).unwrap_or_else(|_| panic!("refused"));
        assert_eq!((tokens.access.as_str(), tokens.refresh.as_deref()), ("new-access", Some("new-refresh")));
        assert!(tokens.expires_at > Utc::now() + TimeDelta::minutes(59));
        assert!(asked[0].contains("AWSCognitoIdentityProviderService.InitiateAuth"), "{asked:?}");

        let challenge = json!({"ChallengeName": "SOFTWARE_TOKEN_MFA", "Session": "s-1"});
        let (tokens, asked) = sign_in(vec![(200, challenge), (200, result())]).await;
        assert!(tokens.is_ok());
        for part in ["RespondToAuthChallenge", "\"SOFTWARE_TOKEN_MFA_CODE\":\"123456\"", "\"Session\":\"s-1\""] {
            assert!(asked[1].contains(part), "no {part} in {}", asked[1]);
        }
    }

    #[tokio::test]
    async fn what_the_pool_wants_is_said_in_words_that_help() {
        let wrong = json!({"__type": "NotAuthorizedException", "message": "Incorrect username or password."});
        let flow = json!({"message": "USER_PASSWORD_AUTH flow not enabled for this client"});
        for (answer, said) in [
            ((400, wrong), "Incorrect username or password."),
            ((400, flow), "ORDERCTL_TOKEN"),
            ((200, json!({"ChallengeName": "NEW_PASSWORD_REQUIRED"})), "has to be chosen first"),
            ((200, json!({"ChallengeName": "MFA_SETUP"})), "MFA_SETUP"),
            ((200, json!({})), "no token"),
            ((502, json!("pass-word")), "it answers 502"),
        ] {
            let (tokens, _) = sign_in(vec![answer]).await;
            let Err(words) = tokens else { panic!("signed in") };
            assert!(words.contains(said) && !words.contains("pass-word"), "{words}");
        }
    }

    #[tokio::test]
    async fn a_token_is_renewed_before_it_ends_and_kept() {
        let folder = Folder::new("renew");
        let renewed = json!({"AuthenticationResult": {"AccessToken": "new-access", "ExpiresIn": 3600}});
        let (url, asked) = pool(vec![(200, renewed)]).await;
        let old = Profile { pool_url: url, ..profile("https://dev.example") };
        let source = SignedIn::new(folder.profiles(), "dev", old).map_err(|failure| failure.said()).unwrap();
        for _ in 0..2 {
            assert_eq!(source.token().await.unwrap().expose_secret(), "new-access");
        }
        assert_eq!(asked.lock().unwrap().len(), 1, "once, and then it is kept");
        let kept = folder.profiles().load("dev").ok().flatten().and_then(|profile| profile.tokens).unwrap();
        assert_eq!((kept.access.as_str(), kept.refresh.as_deref()), ("new-access", Some("secret-refresh")));
    }

    #[tokio::test]
    async fn who_is_signed_out_is_told_how_to_sign_in() {
        let folder = Folder::new("out");
        let out = Profile { tokens: None, ..profile("https://dev.example") };
        let source = SignedIn::new(folder.profiles(), "dev", out).map_err(|failure| failure.said()).unwrap();
        assert!(source.token().await.unwrap_err().to_string().contains("orderctl login --stage dev"));
    }
}
