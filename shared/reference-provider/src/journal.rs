//! The books in a file: every call that changes them, with what it was answered, one line each, in the order in which they came.
//!
//! Whoever starts with the file makes the same calls again, each at the time of then, and so comes to the same books by the same
//! rules. What is answered now is held against what was answered then: books that were kept by other rules are refused.
//!
//! A call is answered once its line is on the disk. So what ends without a line's end was answered to nobody, and is dropped.
//! Any other line has to be one.

use std::{
    fs::{File, OpenOptions, Permissions, TryLockError},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use application::{
    event_store::{BoxError, Unavailable},
    memory,
};
use chrono::{DateTime, Utc};
use providers::contract::{Call, wire};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{
    sync::{Mutex, watch},
    task::spawn_blocking,
    time::sleep,
};

use crate::{
    Reference,
    answers::{Answers, Failure, from_json, into_json},
};

/// Of what the lines are like, and of the rules by which their calls are made again.
const VERSION: u32 = 1;

/// At this size no call that changes the books is made any more: some 400,000 were, which take seconds to make again.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The mode of the file: the books say where customers live.
const OWNER_ONLY: u32 = 0o600;

/// Why the books cannot be kept in a file, which stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    #[error("the file of the books cannot be read or written")]
    Io(#[from] io::Error),
    #[error("the file of the books is another process's")]
    Taken,
    #[error("the file has other things in it than the reference provider's books")]
    NotOurs,
    #[error("the books are of version {0}, and only version {VERSION} can be read")]
    Version(u32),
    #[error("line {0} of the books is broken")]
    Broken(u64),
    #[error("line {0} of the books says another answer than is given now")]
    Otherwise(u64),
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    reference_provider: u32,
}

/// Every other one.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at: DateTime<Utc>,
    /// The path of the call.
    call: String,
    asked: Value,
    /// Null where the sandbox was asked to fail.
    answered: Value,
}

/// Names the calls that change the books.
macro_rules! changes {
    ($($request:ident)+) => {
        fn changes_the_books(call: &str) -> bool {
            [$(<wire::$request as Call>::REST_PATH),+].contains(&call)
        }

        /// Makes the call of a line again. Answers whether that is answered as it was.
        async fn repeat(books: &Reference, line: Line) -> Result<bool, Failure> {
            match line.call.as_str() {
                $(<wire::$request as Call>::REST_PATH => repeat_as::<wire::$request>(books, line).await,)+
                _ => Err(Failure::Invalid("call")),
            }
        }
    };
}

changes! {
    PutProductRequest DescribeProductRequest AdjustStockRequest ReserveRequest ReleaseRequest
    ChargeRequest CancelChargeRequest RefundRequest
    CreateShipmentRequest CancelShipmentRequest ConfirmDeliveryRequest
    SendRequest
}

async fn repeat_as<C: Call + DeserializeOwned>(books: &Reference, line: Line) -> Result<bool, Failure>
where
    Reference: Answers<C>,
{
    let request = from_json::<C>(line.asked)?;
    let answer = memory::at(line.at, books.answer(request)).await;
    Ok(told(&answer)? == line.answered)
}

/// What a line says of an answer. One to a request that is wrong in itself is in none: it changes nothing.
fn told(answer: &Result<impl Serialize, Failure>) -> Result<Value, Failure> {
    match answer {
        Ok(answer) => into_json(answer),
        Err(Failure::Unavailable(_)) => Ok(Value::Null),
        Err(Failure::Invalid(field)) => Err(Failure::Invalid(field)),
    }
}

/// The books' answer, which is in the file, if there is one, before anybody knows of it.
pub(crate) async fn answer<C: Call>(reference: &Arc<Reference>, request: C) -> Result<C::Answer, Failure>
where
    Reference: Answers<C>,
{
    if let Some(delay) = <Reference as Answers<C>>::delay(&request) {
        sleep(delay).await;
    }
    let Some(journal) = &reference.journal else {
        return reference.answer(request).await;
    };
    let (journal, books) = (Arc::clone(journal), Arc::clone(reference));
    // Who hangs up while the books have a call and the file does not must not leave it so.
    let answer = tokio::spawn(async move { journal.answer(&books, request).await }).await;
    answer.unwrap_or_else(|died| Err(unavailable("the file of the books", died)))
}

fn unavailable(what: &'static str, source: impl Into<BoxError>) -> Failure {
    Unavailable { what, source: source.into() }.into()
}

/// Lets calls come to the books one by one, so that the lines have the order of the calls, and nobody reads what is not written yet.
pub(crate) struct Journal {
    pen: Mutex<Pen>,
    /// The other end of the pen's.
    complete: watch::Receiver<()>,
}

struct Pen {
    file: Arc<File>,
    bytes: u64,
    /// There while every call that the books have is in the file. Once it is dropped, nobody is told anything any more, and health
    /// says so.
    complete: Option<watch::Sender<()>>,
}

impl Journal {
    /// Takes the file for this process, and makes its calls again in these books, which have to be new.
    pub(crate) async fn open(path: &Path, books: &Reference) -> Result<Self, NotKept> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(OWNER_ONLY).open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => NotKept::Taken,
            TryLockError::Error(error) => error.into(),
        })?;
        // The last call may have been too much by itself, but not by so much.
        if file.metadata()?.len() > BYTES_MAX.saturating_mul(2) {
            return Err(NotKept::NotOurs);
        }
        let mut lines = BufReader::new(&file);
        let head = line_of(&Head { reference_provider: VERSION })?;
        let found = next_line(&mut lines)?;
        let mut bytes = size(&head);
        if found.ends_with(b"\n") {
            let Head { reference_provider } = serde_json::from_slice(&found).map_err(|_| NotKept::NotOurs)?;
            if reference_provider != VERSION {
                return Err(NotKept::Version(reference_provider));
            }
            bytes = size(&found);
        } else if head.starts_with(&found) {
            // It is new, or was left before its first call, so that nothing follows.
            file.set_len(0)?;
            put(&file, &head)?;
        } else {
            return Err(NotKept::NotOurs);
        }
        for number in 2.. {
            let line = next_line(&mut lines)?;
            if !line.ends_with(b"\n") {
                break;
            }
            bytes = bytes.saturating_add(size(&line));
            let line: Line = serde_json::from_slice(&line).map_err(|_| NotKept::Broken(number))?;
            if !repeat(books, line).await.map_err(|_| NotKept::Broken(number))? {
                return Err(NotKept::Otherwise(number));
            }
        }
        // The file is ours, and others may have been let in when it was made.
        file.set_permissions(Permissions::from_mode(OWNER_ONLY))?;
        // What is torn goes. The rest, and that there is such a file, the disk need not have yet when whoever wrote it was killed.
        file.set_len(bytes)?;
        file.sync_all()?;
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
        let (complete, watched) = watch::channel(());
        let pen = Pen { file: Arc::new(file), bytes, complete: Some(complete) };
        Ok(Self { pen: Mutex::new(pen), complete: watched })
    }

    /// Is over when the file lacks a call that the books have.
    pub(crate) async fn until_incomplete(&self) {
        // Nothing is ever sent.
        drop(self.complete.clone().wait_for(|()| false).await);
    }

    async fn answer<C: Call>(&self, books: &Reference, request: C) -> Result<C::Answer, Failure>
    where
        Reference: Answers<C>,
    {
        let mut pen = self.pen.lock().await;
        if pen.complete.is_none() {
            return Err(unavailable("the file of the books", "it lacks a call that was made"));
        }
        if !changes_the_books(C::REST_PATH) {
            return books.answer(request).await;
        }
        if pen.bytes >= BYTES_MAX {
            return Err(unavailable("room in the file of the books", "it is full"));
        }
        let (at, call, asked) = (Utc::now(), C::REST_PATH.to_owned(), into_json(&request)?);
        let complete = pen.complete.take();
        let answer = memory::at(at, books.answer(request)).await;
        if !matches!(answer, Err(Failure::Invalid(_))) {
            let line = Line { at, call, asked, answered: told(&answer)? };
            pen.write(&line).await.map_err(|error| {
                // Callers are not told why.
                let _ = writeln!(io::stderr(), "error: the file of the books cannot be written: {error}");
                unavailable("the file of the books", error)
            })?;
        }
        pen.complete = complete;
        answer
    }
}

impl Pen {
    async fn write(&mut self, line: &Line) -> io::Result<()> {
        let line = line_of(line)?;
        self.bytes = self.bytes.saturating_add(size(&line));
        let file = Arc::clone(&self.file);
        spawn_blocking(move || put(&file, &line)).await.map_err(io::Error::other)?
    }
}

fn line_of(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// With its end, if it has one. Nothing is left when it is empty.
fn next_line(lines: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    lines.read_until(b'\n', &mut line)?;
    Ok(line)
}

fn size(line: &[u8]) -> u64 {
    u64::try_from(line.len()).unwrap_or(u64::MAX)
}

/// Writes to the end of the file, and waits until the disk has it.
fn put(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use uuid::Uuid;

    use super::*;

    fn charge(key: Uuid) -> wire::ChargeRequest {
        wire::ChargeRequest {
            idempotency_key: key.to_string(),
            order_id: key.to_string(),
            customer_id: "anna".to_owned(),
            payment_method: "pm_card_visa".to_owned(),
            amount: Some(wire::Money { amount: Some(3998), currency: "CNY".to_owned() }),
        }
    }

    async fn ledger(reference: &Arc<Reference>, key: Uuid) -> Result<usize, String> {
        let ledger = answer(reference, wire::GetLedgerRequest { order_id: key.to_string() }).await;
        ledger.map(|ledger| ledger.entries.len()).map_err(|failure| failure.to_string())
    }

    /// One call that is in the file, one that cannot be because the pen was changed like this, and what can be read then: of the
    /// first now, and of both by who starts with the file.
    async fn changed(
        change: impl FnOnce(&mut Pen, &Path),
    ) -> (String, Result<usize, String>, [Result<usize, String>; 2]) {
        let file = env::temp_dir().join(format!("books-{}.jsonl", Uuid::new_v4()));
        let open = async || Arc::new(Reference::default().kept_in(&file).await.unwrap());
        let (reference, first, second) = (open().await, Uuid::new_v4(), Uuid::new_v4());
        answer(&reference, charge(first)).await.unwrap();
        let mut pen = reference.journal.as_ref().unwrap().pen.lock().await;
        change(&mut pen, &file);
        drop(pen);
        let refused = answer(&reference, charge(second)).await.unwrap_err().to_string();
        let read = ledger(&reference, first).await;
        drop(reference);
        let again = open().await;
        let after = [ledger(&again, first).await, ledger(&again, second).await];
        fs::remove_file(&file).unwrap();
        (refused, read, after)
    }

    #[tokio::test]
    async fn a_full_file_takes_no_call_any_more_and_is_still_read() {
        let (refused, read, after) = changed(|pen, _| pen.bytes = BYTES_MAX).await;
        assert_eq!(refused, "room in the file of the books is unavailable");
        assert_eq!((read, after), (Ok(1), [Ok(1), Ok(0)]));
    }

    #[tokio::test]
    async fn nobody_is_told_anything_once_a_call_could_not_be_written() {
        let (refused, read, after) = changed(|pen, file| pen.file = Arc::new(File::open(file).unwrap())).await;
        assert_eq!(refused, "the file of the books is unavailable");
        assert_eq!((read, after), (Err(refused), [Ok(1), Ok(0)]));
    }

    #[tokio::test]
    async fn what_is_wrong_in_itself_is_answered_and_not_written() {
        let file = env::temp_dir().join(format!("books-{}.jsonl", Uuid::new_v4()));
        let reference = Arc::new(Reference::default().kept_in(&file).await.unwrap());
        let empty = fs::read(&file).unwrap();
        let wrong = wire::ChargeRequest { amount: None, ..charge(Uuid::new_v4()) };
        assert!(matches!(answer(&reference, wrong).await, Err(Failure::Invalid("amount"))));
        assert_eq!(ledger(&reference, Uuid::new_v4()).await, Ok(0));
        assert_eq!(fs::read(&file).unwrap(), empty);
        fs::remove_file(&file).unwrap();
    }
}
