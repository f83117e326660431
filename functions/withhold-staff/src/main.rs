//! The user pool, before it makes tokens → the groups that these may name: none of staff for who has no second factor.
//!
//! Who has one was asked for it when they signed in, so nothing needs to be known of the sign-in itself. When this function
//! fails, Cognito makes no tokens: whoever is of staff cannot sign in for that moment, and nobody else asks the pool.

use adapters::{
    aws,
    cognito::UserPool,
    lambda::{self, Invocation, Kind},
};
use application::{event_store::Unavailable, ports::IdentityProvider};
use aws_sdk_cognitoidentityprovider::Client;
use lambda_runtime::{LambdaEvent, service_fn};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tracing::{info, warn};

/// The groups that give rights over what belongs to others.
const OF_STAFF: [&str; 2] = ["staff", "supervisor"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let client = Client::new(&aws::config());
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Tokens>| {
        let users = UserPool::new(client.clone(), event.payload.user_pool_id.clone());
        let invocation = Invocation::new(&event.context, Kind::Server, None);
        invocation.run(Box::pin(handle(&users, event.payload))).await.map_err(lambda_runtime::Error::from)
    }))
    .await
}

/// The tokens that are to be made, as Cognito tells of them. It takes back all that it has told, with what changes in `response`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tokens {
    user_pool_id: String,
    user_name: String,
    request: Request,
    response: Value,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    group_configuration: Groups,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Groups {
    groups_to_override: Option<Vec<String>>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

async fn handle(users: &impl IdentityProvider, mut tokens: Tokens) -> Result<Tokens, Unavailable> {
    let groups = tokens.request.group_configuration.groups_to_override.as_deref().unwrap_or_default();
    let (of_staff, others): (Vec<&String>, Vec<&String>) =
        groups.iter().partition(|group| OF_STAFF.contains(&group.as_str()));
    if of_staff.is_empty() {
        return Ok(tokens);
    }
    match users.has_second_factor(&tokens.user_name).await {
        Ok(true) => {}
        Ok(false) => {
            info!("staff withheld: no second factor");
            tokens.response = json!({"claimsOverrideDetails": {"groupOverrideDetails": {"groupsToOverride": others}}});
        }
        Err(error) => {
            warn!(error = lambda::chain(&error), "no tokens made: it is not known who has a second factor");
            return Err(error);
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use application::memory::{Fault, MemoryIdentityProvider};
    use telemetry::logs::logged;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/withhold-staff.json");

    /// What Cognito gets back for the sample with these groups.
    async fn answer(users: &MemoryIdentityProvider, groups: &Value) -> Result<Value, Unavailable> {
        let mut event: Value = serde_json::from_str(SAMPLE).unwrap();
        event["request"]["groupConfiguration"]["groupsToOverride"] = groups.clone();
        let answer = handle(users, serde_json::from_value(event.clone()).unwrap()).await?;
        let mut answer = serde_json::to_value(answer).unwrap();
        let response = answer["response"].take();
        event["response"].take();
        assert_eq!(answer, event, "Cognito takes back what it has told");
        Ok(response)
    }

    fn groups(left: &Value) -> Value {
        json!({"claimsOverrideDetails": {"groupOverrideDetails": {"groupsToOverride": left}}})
    }

    #[tokio::test]
    async fn who_has_no_second_factor_keeps_the_groups_that_are_not_of_staff() {
        let users = MemoryIdentityProvider::default();
        for (given, left) in [
            (json!(["staff"]), json!([])),
            (json!(["supervisor", "carrier"]), json!(["carrier"])),
            (json!(["carrier", "staff", "supervisor", "testers"]), json!(["carrier", "testers"])),
        ] {
            assert_eq!(answer(&users, &given).await.unwrap(), groups(&left), "{given}");
        }
    }

    #[tokio::test]
    async fn who_has_one_keeps_them_all() {
        let users = MemoryIdentityProvider::default();
        users.set_second_factor("anna@example.com");
        let unchanged = json!({"claimsOverrideDetails": null});
        assert_eq!(answer(&users, &json!(["staff", "supervisor"])).await.unwrap(), unchanged);
    }

    #[tokio::test]
    async fn nobody_is_asked_for_who_is_not_of_staff() {
        let users = MemoryIdentityProvider::default();
        users.faults.push(Fault::BeforeEffect);
        let unchanged = json!({"claimsOverrideDetails": null});
        for given in [json!([]), json!(null), json!(["carrier"]), json!(["staffing", "Staff"])] {
            assert_eq!(answer(&users, &given).await.unwrap(), unchanged, "{given}");
        }
    }

    #[tokio::test]
    async fn while_the_pool_does_not_answer_staff_get_no_tokens() {
        let users = MemoryIdentityProvider::default();
        users.faults.push(Fault::BeforeEffect);
        users.set_second_factor("anna@example.com");
        assert!(answer(&users, &json!(["staff"])).await.is_err());
        assert!(answer(&users, &json!(["staff"])).await.is_ok());
    }

    #[tokio::test]
    async fn an_event_whose_groups_cannot_be_found_is_refused() {
        let without = SAMPLE.replace("groupConfiguration", "groups");
        assert!(serde_json::from_str::<Tokens>(&without).is_err());
    }

    #[tokio::test]
    async fn the_log_does_not_say_who_signs_in() {
        let users = MemoryIdentityProvider::default();
        let (_, lines) = logged(handle(&users, serde_json::from_str(SAMPLE).unwrap())).await;
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(line.contains("staff withheld") && !line.contains("anna"), "{line}");
    }
}
