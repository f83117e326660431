//! `GET /api/v1/dead-letters?consumer=`: what a consumer or a queue could not handle; with `?settled=true` what became of it.
//!
//! `?error_type=`, `?page_size=`; `next` leads on by `?after=`. 200, 400, 403 for customers.

use adapters::{
    app_config, aws,
    dynamodb::DynamoDeadLetters,
    http::{
        self, ApiRequest, Problem,
        dead_letters::{Consumers, LetterBody, Named, error_type},
        link,
    },
    lambda,
    limits::Limiter,
    sqs::SqsDeadLetters,
};
use application::{
    dead_letters::look_into,
    event_store::Unavailable,
    ports::{DeadLetter, DeadLetterQueue, DeadLetters, letter_id, letter_stream},
};
use domain::text::Invalid;
use lambda_http::{Body, Response};
use serde::Serialize;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = aws_sdk_dynamodb::Client::new(&config);
    let settings = app_config::settings_without_secrets(&config)?;
    let limiter = Limiter::of_process(&client, settings, "list-dead-letters").await?;
    let letters = DynamoDeadLetters::new(client, lambda::variable("DEAD_LETTERS_TABLE")?);
    let consumers = Consumers::new(SqsDeadLetters::of_process(&aws_sdk_sqs::Client::new(&config))?);
    http::run(&limiter, async |request| handle(&letters, &consumers, request).await).await
}

async fn handle<Q: DeadLetterQueue>(
    letters: &impl DeadLetters,
    consumers: &Consumers<Q>,
    request: ApiRequest,
) -> Result<Response<Body>, Problem> {
    request.staff()?;
    let asked = asked(consumers, &request)?;
    let page = if asked.settled { settled(letters, &asked).await } else { waiting(letters, &asked).await };
    respond(&asked, page.map_err(|error| Problem::unavailable(&error))?)
}

struct Asked<'q, Q> {
    consumer: Named<'q, Q>,
    error_type: Option<String>,
    settled: bool,
    page_size: usize,
    /// The place where another page has ended.
    after: Option<String>,
}

fn asked<'q, Q: DeadLetterQueue>(consumers: &'q Consumers<Q>, request: &ApiRequest) -> Result<Asked<'q, Q>, Problem> {
    let mut query = request.query(&["consumer", "error_type", "settled", "page_size", "after"]);
    let consumer = query.required("consumer", |name| consumers.find(name));
    let error_type = query.optional("error_type", error_type);
    let settled = query.optional("settled", |text| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Invalid::new("must be true or false")),
    });
    let page_size = query.page_size();
    let after = query.optional("after", |place| {
        let is_place = (1..=400).contains(&place.len()) && !place.chars().any(char::is_control);
        if is_place { Ok(place.to_owned()) } else { Err(Invalid::new("must be as it came in the link to this page")) }
    });
    let read = consumer.zip(error_type).zip(settled).zip(page_size).zip(after);
    let ((((consumer, error_type), settled), page_size), after) = query.finish(read)?;
    Ok(Asked { consumer, error_type, settled: settled.unwrap_or_default(), page_size, after })
}

/// Some rows, and the place after which others follow.
type Page = (Vec<LetterBody>, Option<String>);

async fn settled<Q>(letters: &impl DeadLetters, asked: &Asked<'_, Q>) -> Result<Page, Unavailable> {
    let rows = letters.settled(&asked.consumer.name, asked.after.as_deref(), asked.page_size).await?;
    let next = rows.last().filter(|_| rows.len() == asked.page_size).map(|(place, ..)| place.clone());
    let rows = rows.into_iter().filter(|(_, letter, _)| asked.wants(letter));
    Ok((rows.map(|(_, letter, settlement)| LetterBody::new(letter, Some(settlement))).collect(), next))
}

/// The streams that wait, and behind the last of them the messages.
async fn waiting<Q: DeadLetterQueue>(letters: &impl DeadLetters, asked: &Asked<'_, Q>) -> Result<Page, Unavailable> {
    let mut rows = Vec::new();
    if let Some(consumer) = asked.consumer.stream_consumer {
        let after = asked.after.as_deref().map(letter_stream);
        let parked = letters.list(consumer, after.as_ref(), asked.page_size).await?;
        let next = parked.last().filter(|_| parked.len() == asked.page_size).map(|last| letter_id(&last.stream));
        rows.extend(parked.into_iter().map(DeadLetter::Parked));
        if next.is_some() {
            return Ok((asked.bodies(rows), next));
        }
    }
    if let Some(queue) = asked.consumer.queue {
        let room = asked.page_size.saturating_sub(rows.len());
        rows.extend(look_into(queue).await?.into_iter().take(room));
    }
    Ok((asked.bodies(rows), None))
}

impl<Q> Asked<'_, Q> {
    fn wants(&self, letter: &DeadLetter) -> bool {
        self.error_type.as_ref().is_none_or(|wanted| *wanted == letter.failure().error_type)
    }

    fn bodies(&self, letters: Vec<DeadLetter>) -> Vec<LetterBody> {
        let wanted = letters.into_iter().filter(|letter| self.wants(letter));
        wanted.map(|letter| LetterBody::new(letter, None)).collect()
    }
}

fn respond<Q>(asked: &Asked<'_, Q>, (dead_letters, next): Page) -> Result<Response<Body>, Problem> {
    let page_size = asked.page_size.to_string();
    let next = next.map(|after| {
        let mut parameters = vec![("consumer", asked.consumer.name.as_str()), ("page_size", page_size.as_str())];
        parameters.extend(asked.error_type.as_deref().map(|error_type| ("error_type", error_type)));
        parameters.extend(asked.settled.then_some(("settled", "true")));
        parameters.push(("after", after.as_str()));
        link("/api/v1/dead-letters", &parameters)
    });
    http::json(200, &ListBody { consumer: &asked.consumer.name, dead_letters, next })
}

#[derive(Serialize)]
struct ListBody<'a> {
    consumer: &'a str,
    dead_letters: Vec<LetterBody>,
    next: Option<String>,
}

#[cfg(test)]
mod tests {
    use application::{
        event_store::StreamId,
        memory::{MemoryDeadLetterQueue, MemoryDeadLetters},
        ports::{Consumer, DeadMessage, Failure, MessageKind, SettledAs, Settlement},
    };
    use chrono::{DateTime, Utc};
    use serde_json::{Value, json};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/list-dead-letters.json");
    const SAMPLE_QUERY: &str = "consumer=project-orders";

    fn at() -> DateTime<Utc> {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn failure() -> Failure {
        Failure { error_type: "Unreadable".to_owned(), error: "the event cannot be read".to_owned() }
    }

    fn stream(number: u64) -> StreamId {
        StreamId::new(format!("order#0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a{number:02}"))
    }

    async fn parked(count: u64) -> MemoryDeadLetters {
        let letters = MemoryDeadLetters::default();
        for number in 0..count {
            letters.park(Consumer::ProjectOrders, &stream(number), (5, 7), &failure(), at()).await.unwrap();
        }
        letters
    }

    fn consumers() -> Consumers<MemoryDeadLetterQueue> {
        let queue = |kind| {
            let queue = MemoryDeadLetterQueue::default();
            let message = DeadMessage { id: "m-1".to_owned(), kind, failure: failure(), since: at(), tries: 51 };
            queue.put(message, "{}");
            queue
        };
        Consumers::new(vec![
            ("start-fulfilment".to_owned(), queue(MessageKind::Event(Some((stream(1), 1))))),
            ("project-orders".to_owned(), queue(MessageKind::Batch)),
        ])
    }

    async fn ask(letters: &MemoryDeadLetters, query: &str) -> Result<Value, Problem> {
        let request = ApiRequest::from_event(&SAMPLE.replace(SAMPLE_QUERY, query), Utc::now()).unwrap();
        let answer = handle(letters, &consumers(), request).await?;
        assert_eq!(answer.status(), 200);
        Ok(serde_json::from_slice(answer.body()).unwrap())
    }

    #[tokio::test]
    async fn the_sample_lists_the_streams_that_wait_and_the_batches_that_were_given_up() {
        let page = ask(&parked(1).await, SAMPLE_QUERY).await.unwrap();
        let parked = json!({
            "id": "order/0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a00",
            "kind": "parked",
            "aggregate_type": "order",
            "aggregate_id": "0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a00",
            "first_sequence": 5,
            "last_sequence": 7,
            "error_type": "Unreadable",
            "error": "the event cannot be read",
            "since": "2026-01-01T00:00:00Z",
            "tries": 1,
            "last_tried_at": "2026-01-01T00:00:00Z",
            "settlement": null,
        });
        assert_eq!(page["dead_letters"][0], parked);
        assert_eq!((&page["dead_letters"][1]["kind"], &page["next"]), (&json!("batch"), &Value::Null));
    }

    #[tokio::test]
    async fn a_long_list_is_paged_through_and_a_queue_stays_as_it_is() {
        let letters = parked(5).await;
        let (mut query, mut seen) = (format!("{SAMPLE_QUERY}&page_size=2"), Vec::new());
        loop {
            let page = ask(&letters, &query).await.unwrap();
            let ids = page["dead_letters"].as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap());
            seen.extend(ids.map(str::to_owned));
            let Some(next) = page["next"].as_str() else { break };
            next.split_once('?').unwrap().1.clone_into(&mut query);
        }
        assert_eq!((seen.len(), seen.last().map(String::as_str)), (6, Some("message/m-1")));
        for _ in 0..2 {
            let page = ask(&letters, "consumer=start-fulfilment").await.unwrap();
            assert_eq!(page["dead_letters"][0]["first_sequence"], 1, "{page}");
        }
        assert_eq!(ask(&letters, "consumer=project-orders&error_type=Other").await.unwrap()["dead_letters"], json!([]));
    }

    #[tokio::test]
    async fn what_became_of_them_is_told() {
        let letters = parked(1).await;
        let settlement = Settlement {
            settled_as: SettledAs::Redriven,
            by: "staff:anna".to_owned(),
            reason: "mended".to_owned(),
            at: at(),
        };
        assert!(letters.settle(Consumer::ProjectOrders, &stream(0), 7, &settlement).await.unwrap());
        let page = ask(&letters, "consumer=project-orders&settled=true").await.unwrap();
        let told = json!({"outcome": "redriven", "by": "staff:anna", "reason": "mended", "at": "2026-01-01T00:00:00Z"});
        assert_eq!(page["dead_letters"][0]["settlement"], told);
    }

    #[tokio::test]
    async fn wrong_input_is_named_and_a_customer_is_refused() {
        let letters = MemoryDeadLetters::default();
        for wrong in
            ["", "consumer=nobody", "consumer=project-orders&settled=yes", "consumer=project-orders&page_size=0"]
        {
            assert_eq!(ask(&letters, wrong).await.unwrap_err().status, 400, "{wrong}");
        }
        let request = ApiRequest::from_event(&SAMPLE.replace("[staff]", "[]"), Utc::now()).unwrap();
        assert_eq!(handle(&letters, &consumers(), request).await.unwrap_err().status, 403);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let (letters, consumers) = (parked(3).await, consumers());
        http::hostile::is_answered(SAMPLE, |request| handle(&letters, &consumers, request), || 0).await;
    }
}
