//! `PUT /api/v1/customers/{customer_id}` → `CustomerProfileUpdated`.
//!
//! 201 for a first profile, 200 for a changed or an equal one; 400 for invalid input, 404 for somebody else.

use std::convert::Infallible;

use adapters::{
    app_config, aws,
    cognito::UserPool,
    dynamodb::DynamoEventStore,
    http::{self, ApiRequest, FieldErrors, Problem},
    lambda,
    limits::Limiter,
};
use application::{
    event_store::{EventStore, fingerprint},
    event_stream::CustomerStream,
    ports::IdentityProvider,
};
use aws_sdk_dynamodb::Client;
use deserr::Deserr;
use domain::{
    customer::{Email, Profile, update_profile},
    text::{Invalid, Text},
};
use lambda_http::{Body, Response};
use uuid::Uuid;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let limiter = Limiter::of_process(&client, app_config::settings_without_secrets(&config)?, "put-customer").await?;
    let store = DynamoEventStore::new(client, lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let pool = Some(lambda::variable("USER_POOL_ID")?).filter(|id| !id.is_empty());
    let users = pool.map(|id| UserPool::new(aws_sdk_cognitoidentityprovider::Client::new(&config), id));
    http::run(&limiter, |request| handle(&store, users.as_ref(), request)).await
}

async fn handle(
    store: &impl EventStore,
    users: Option<&impl IdentityProvider>,
    request: ApiRequest,
) -> Result<Response<Body>, Problem> {
    let caller = request.caller()?;
    let id = request.customer_id()?;
    let ProfileBody { first_name, last_name, email } = request.json()?;
    let mut stream = CustomerStream::open(store, id.clone()).await.map_err(|error| Problem::not_loaded(&error))?;
    let known = stream.customer().profile.as_ref();
    let email_verified = if known.is_some_and(|known| known.email_verified && known.email == email) {
        // What has been said of this address stays said, also when staff correct the name beside it.
        true
    } else if caller.id == id {
        let verified = verified_email(users, &request).await?;
        verified.is_some_and(|verified| email.is_same_as(&verified))
    } else {
        // Of somebody else, a token says nothing.
        false
    };
    let profile = Profile { first_name, last_name, email, email_verified };
    let fingerprint = fingerprint(&profile).map_err(|error| Problem::internal(&error))?;
    // The same profile again changes nothing, so a repeated request needs no key to be harmless.
    let metadata = request.metadata(&caller, Uuid::now_v7(), fingerprint);
    let status = if stream.customer().profile.is_none() { 201 } else { 200 };
    let outcome = stream.commit::<Infallible>(&metadata, |customer| Ok(update_profile(customer, &profile))).await;
    outcome.map_err(|error| Problem::not_done(error, |never| match *never {}))?;
    http::json(status, &http::ProfileBody { id: &id, profile: &profile, version: stream.version() })
}

/// The caller's e-mail address, as the token or else the user pool has verified it. Another issuer has no pool to be asked.
async fn verified_email(
    users: Option<&impl IdentityProvider>,
    request: &ApiRequest,
) -> Result<Option<String>, Problem> {
    match (request.verified_email(), users) {
        (Some(email), _) => Ok(Some(email.to_owned())),
        (None, Some(users)) => {
            users.verified_email(request.username()).await.map_err(|error| Problem::unavailable(&error))
        }
        (None, None) => Ok(None),
    }
}

#[derive(Deserr)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct ProfileBody {
    #[deserr(try_from(&String) = Text::parse -> Invalid)]
    first_name: Text<100>,
    #[deserr(default, try_from(Option<String>) = Text::parse_optional -> Invalid)]
    last_name: Option<Text<100>>,
    #[deserr(try_from(&String) = Email::parse -> Invalid)]
    email: Email,
}

#[cfg(test)]
mod tests {
    use application::memory::{Fault, MemoryEventStore, MemoryIdentityProvider};
    use serde_json::{Value, json};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/put-customer.json");

    async fn send_among(
        users: &MemoryIdentityProvider,
        store: &MemoryEventStore,
        event: &str,
    ) -> Result<Response<Body>, Problem> {
        handle(store, Some(users), ApiRequest::from_event(event, chrono::Utc::now()).unwrap()).await
    }

    async fn send(store: &MemoryEventStore, event: &str) -> Result<Response<Body>, Problem> {
        send_among(&MemoryIdentityProvider::default(), store, event).await
    }

    #[tokio::test]
    async fn a_profile_is_new_once_and_the_same_again_changes_nothing() {
        let store = MemoryEventStore::default();
        assert_eq!(send(&store, SAMPLE).await.unwrap().status(), 201);
        let again = send(&store, SAMPLE).await.unwrap();
        let body: Value = serde_json::from_slice(again.body()).unwrap();
        let expected = json!({
            "id": "customer-1", "first_name": "Anna", "last_name": "Wang", "email": "anna@example.com", "email_verified": false, "version": 1
        });
        assert_eq!((again.status().as_u16(), body), (200, expected));
        assert_eq!(store.all().len(), 1);
        assert_eq!(send(&store, &SAMPLE.replace("Wang", "Li")).await.unwrap().status(), 200);
        assert_eq!(store.all().len(), 2);
    }

    #[tokio::test]
    async fn somebody_else_is_unknown_and_staff_may_act_for_anyone() {
        let store = MemoryEventStore::default();
        let stranger = SAMPLE.replace("\"sub\": \"customer-1\"", "\"sub\": \"customer-2\"");
        assert_eq!(send(&store, &stranger).await.unwrap_err().status, 404);
        assert_eq!(send(&store, &stranger.replace("\"[]\"", "\"[staff]\"")).await.unwrap().status(), 201);
        assert_eq!(store.all()[0].metadata.actor, "staff:customer-2");
    }

    #[tokio::test]
    async fn every_wrong_field_is_named() {
        let store = MemoryEventStore::default();
        let mut event: Value = serde_json::from_str(SAMPLE).unwrap();
        event["body"] = json!(r#"{"first_name": " ", "last_name": 7, "email": "anna", "age": 9}"#);
        let problem = send(&store, &event.to_string()).await.unwrap_err();
        assert_eq!((problem.status, problem.body("/", "c")["errors"].as_array().unwrap().len()), (400, 4));
        assert_eq!(store.all(), []);
    }

    /// The sample event after a change to its body.
    fn sample(change: impl FnOnce(&mut Value)) -> String {
        let mut event: Value = serde_json::from_str(SAMPLE).unwrap();
        let mut body: Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
        change(&mut body);
        event["body"] = json!(body.to_string());
        event.to_string()
    }

    #[tokio::test]
    async fn a_person_may_have_one_name() {
        let store = MemoryEventStore::default();
        let absent = sample(|body| drop(body.as_object_mut().unwrap().remove("last_name")));
        assert_eq!(send(&store, &absent).await.unwrap().status(), 201);
        for nothing in [json!(null), json!(""), json!(" \u{3000}\t")] {
            let answer = send(&store, &sample(|body| body["last_name"] = nothing)).await.unwrap();
            let body: Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!((&body["first_name"], &body["last_name"]), (&json!("Anna"), &Value::Null));
        }
        assert_eq!(store.all().len(), 1, "it is the same profile in every form");
        for nothing in [json!(null), json!(""), json!(" ")] {
            let problem = send(&store, &sample(|body| body["first_name"] = nothing)).await.unwrap_err();
            assert_eq!(problem.body("/", "c")["errors"][0]["pointer"], "/first_name");
        }
    }

    #[tokio::test]
    async fn nobody_is_named_by_what_cannot_be_seen() {
        let store = MemoryEventStore::default();
        for unseen in [
            "\u{200b}",
            "\u{ad}\u{feff}",
            "\u{202e}",
            "\u{3164}",
            "\u{2800}",
            "\u{fffd}",
            "\u{301}",
            "\u{200d}\u{fe0f}",
        ] {
            let first_name = sample(|body| body["first_name"] = json!(unseen));
            assert_eq!(send(&store, &first_name).await.unwrap_err().status, 400, "{unseen:?}");
            let email = sample(|body| body["email"] = json!(format!("anna{unseen}@example.com")));
            let answer = send(&store, &email).await;
            // A mark is no character of its own, but it is seen on the one before.
            assert_eq!(
                answer.map_or_else(|problem| problem.status, |_| 200),
                if unseen == "\u{301}" { 200 } else { 400 },
                "{unseen:?}"
            );
        }
    }

    #[tokio::test]
    async fn an_update_whose_answer_was_lost_may_be_sent_again() {
        let store = MemoryEventStore::default();
        store.faults.push(Fault::AfterEffect);
        assert_eq!(send(&store, SAMPLE).await.unwrap_err().status, 503);
        assert_eq!(send(&store, SAMPLE).await.unwrap().status(), 200);
        assert_eq!(store.all().len(), 1);
    }

    #[tokio::test]
    async fn an_address_is_verified_when_whoever_signs_people_in_says_so() {
        let users = MemoryIdentityProvider::default();
        let send = async |event: &str| -> Result<Value, u16> {
            let store = MemoryEventStore::default();
            let answer = send_among(&users, &store, event).await.map_err(|problem| problem.status)?;
            let body: Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!(store.all()[0].events[0].data["email_verified"], body["email_verified"]);
            Ok(body["email_verified"].clone())
        };
        assert_eq!(send(SAMPLE).await, Ok(json!(false)));
        users.verify("customer-1", "Anna@Example.com");
        assert_eq!(send(SAMPLE).await, Ok(json!(true)));
        assert_eq!(send(&SAMPLE.replace("anna@", "somebody@")).await, Ok(json!(false)));
        // Staff write for somebody whose token nobody has seen.
        let staff = SAMPLE.replace("\"sub\": \"customer-1\"", "\"sub\": \"staff-1\"").replace("\"[]\"", "\"[staff]\"");
        assert_eq!(send(&staff).await, Ok(json!(false)));
        users.faults.push(Fault::BeforeEffect);
        assert_eq!(send(SAMPLE).await, Err(503));
        // Nobody is asked again for what is known, and staff who correct a name do not take it back.
        let store = MemoryEventStore::default();
        send_among(&users, &store, SAMPLE).await.unwrap();
        users.faults.push(Fault::BeforeEffect);
        for event in [SAMPLE, &staff.replace("Anna", "Anne")] {
            let answer = send_among(&users, &store, event).await.unwrap();
            let body: Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!(body["email_verified"], json!(true));
        }
        let other = staff.replace("anna@", "anne@");
        let body: Value = serde_json::from_slice(send_among(&users, &store, &other).await.unwrap().body()).unwrap();
        assert_eq!(body["email_verified"], json!(false));
        let users = MemoryIdentityProvider::default();
        let send = async |event: &str| -> Result<Value, u16> {
            let answer =
                send_among(&users, &MemoryEventStore::default(), event).await.map_err(|problem| problem.status)?;
            let body: Value = serde_json::from_slice(answer.body()).unwrap();
            Ok(body["email_verified"].clone())
        };
        // Another issuer says it in the token.
        let says = |verified: &str| {
            SAMPLE
                .replace(
                    "\"sub\":",
                    &format!("\"email\": \"x@example.com\", \"email_verified\": \"{verified}\", \"sub\":"),
                )
                .replace("anna@", "x@")
        };
        assert_eq!((send(&says("true")).await, send(&says("false")).await), (Ok(json!(true)), Ok(json!(false))));
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let users = MemoryIdentityProvider::default();
        let store = MemoryEventStore::default();
        http::hostile::is_answered(SAMPLE, |request| handle(&store, Some(&users), request), || store.count()).await;
    }
}
