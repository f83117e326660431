//! What a function still does when its process is ended.

use std::{
    io::{self, ErrorKind, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    process,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::yield_now,
    time::timeout,
};
use tracing::debug;

use crate::variable;

/// How long that may take. After `SIGTERM`, Lambda waits for 500 ms before it kills a function with an extension of its own.
const LEFT: Duration = Duration::from_millis(300);

/// How long a start waits for it to be registered.
const PATIENCE: Duration = Duration::from_millis(200);

const EXTENSIONS: &str = "/2020-01-01/extension";

/// More than the head of Lambda's answer has.
const HEAD_MAX: usize = 4_096;

/// Has something done when the process is told to end.
///
/// Lambda sends `SIGTERM` only to functions that have an extension, so this registers one that listens to nothing. Lambda takes it
/// only until the function asks for its first invocation; so that no start waits for the answer, it is asked for at the beginning of
/// `main` and read at its end. Where there are no extensions, as in the emulator, nothing is registered and the signal is waited for
/// all the same. (The handler that `lambda_runtime` has for this ends the process there, because it takes the registration for
/// granted, and it writes lines that are no JSON.)
#[must_use = "what is registered has to be asked what it listens to, or Lambda waits for it"]
pub struct Ending(Option<Registration>);

/// One that Lambda was asked for.
struct Registration {
    api: SocketAddr,
    asked: TcpStream,
}

impl Ending {
    /// Asks for the registration. To be called first thing in `main`.
    pub fn begin() -> Self {
        let api = variable("AWS_LAMBDA_RUNTIME_API");
        Self(api.and_then(|api| {
            let asked = Registration::ask(&api);
            asked.inspect_err(|error| debug!(%error, "no extension is registered")).ok()
        }))
    }

    /// Has this done at the end, as far as 300 ms suffice; it is made only then, because a start would be longer by the size of it. To be
    /// awaited in `main`, last thing before the first invocation.
    pub async fn with<F>(self, work: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let told = signal(SignalKind::terminate());
        if let Self(Some(Registration { api, asked })) = self {
            // Never cut short: for what is registered Lambda waits until it has asked, before it begins with invocations.
            let (registers, registered) = oneshot::channel();
            tokio::spawn(async move {
                let id = registered_as(asked).await;
                let _ = registers.send(id.is_some());
                // Whoever waits for that goes on first.
                yield_now().await;
                if let Some(id) = id
                    && let Err(error) = listen(api, &id).await
                {
                    debug!(%error, "the extension does not listen");
                }
            });
            if !matches!(timeout(PATIENCE, registered).await, Ok(Ok(true))) {
                debug!("no extension is registered so far: counts of the last seconds may be lost");
            }
        }
        let Ok(mut told) = told else { return };
        tokio::spawn(async move {
            if told.recv().await.is_some() {
                let _ = timeout(LEFT, Box::pin(work())).await;
                process::exit(0);
            }
        });
    }
}

impl Registration {
    /// Sends the request, which takes no longer than that: the other end is on this machine.
    fn ask(api: &str) -> io::Result<Self> {
        let api = api.to_socket_addrs()?.next().ok_or(ErrorKind::AddrNotAvailable)?;
        let mut asked = TcpStream::connect_timeout(&api, PATIENCE)?;
        let body = r#"{"events":[]}"#;
        let request = format!(
            "POST {EXTENSIONS}/register HTTP/1.1\r\nhost: {api}\r\nlambda-extension-name: end\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        asked.write_all(request.as_bytes())?;
        asked.set_nonblocking(true)?;
        Ok(Self { api, asked })
    }
}

/// By which id Lambda knows the extension; `None` where there are no extensions.
async fn registered_as(asked: TcpStream) -> Option<String> {
    let mut asked = net::TcpStream::from_std(asked).ok()?;
    let mut answer = Vec::with_capacity(HEAD_MAX);
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        if answer.len() >= HEAD_MAX || asked.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    }
    identifier(&String::from_utf8_lossy(&answer))
}

/// The id in an answer that says yes.
fn identifier(answer: &str) -> Option<String> {
    let mut head = answer.lines().take_while(|line| !line.is_empty());
    let status = head.next()?.split(' ').nth(1)?;
    let mut headers = head.filter_map(|line| line.split_once(':'));
    let (_, id) = headers.find(|(name, _)| name.eq_ignore_ascii_case("lambda-extension-identifier"))?;
    (status == "200").then(|| id.trim().to_owned())
}

/// Asks what there is to be told. It listens to nothing, so the answer never comes, and the question stands as long as the process.
async fn listen(api: SocketAddr, id: &str) -> io::Result<()> {
    let mut connection = net::TcpStream::connect(api).await?;
    let request =
        format!("GET {EXTENSIONS}/event/next HTTP/1.1\r\nhost: {api}\r\nlambda-extension-identifier: {id}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    connection.read_u8().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_says_yes_has_an_id() {
        let yes = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Extension-Identifier: 7-a\r\n\r\n{}";
        assert_eq!(identifier(yes).as_deref(), Some("7-a"));
        assert_eq!(identifier(&yes.replace("200 OK", "403 Forbidden")), None);
        assert_eq!(identifier("HTTP/1.1 200 OK\r\n\r\nlambda-extension-identifier: 7-a\r\n"), None, "in the body");
        for nothing in ["", "\r\n", "HTTP/1.1", "200"] {
            assert_eq!(identifier(nothing), None, "{nothing}");
        }
    }

    /// Answers the registration with this, in two pieces; and what comes by the next connection.
    async fn asked_of(listener: &net::TcpListener, answer: &str) -> (String, net::TcpStream) {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(br#"{"events":[]}"#) {
            assert!(connection.read_buf(&mut asked).await.unwrap() > 0);
        }
        let (first, second) = answer.split_at(20);
        connection.write_all(first.as_bytes()).await.unwrap();
        yield_now().await;
        connection.write_all(second.as_bytes()).await.unwrap();
        (String::from_utf8(asked).unwrap(), connection)
    }

    #[tokio::test]
    async fn what_is_registered_listens_by_the_id_that_it_was_given() {
        let listener = net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = listener.local_addr().unwrap();
        let Registration { asked, .. } = Registration::ask(&api.to_string()).unwrap();
        let answer = "HTTP/1.1 200 OK\r\nlambda-extension-identifier: 7-a\r\ncontent-length: 2\r\n\r\n{}";
        let ((request, _connection), id) = tokio::join!(asked_of(&listener, answer), registered_as(asked));
        assert!(request.starts_with("POST /2020-01-01/extension/register HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nlambda-extension-name: end\r\ncontent-length: 13\r\n\r\n"), "{request}");
        assert_eq!(id.as_deref(), Some("7-a"));

        let listening = tokio::spawn(async move { listen(api, "7-a").await });
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut next = Vec::new();
        while !next.ends_with(b"\r\n\r\n") {
            assert!(connection.read_buf(&mut next).await.unwrap() > 0);
        }
        let next = String::from_utf8(next).unwrap();
        assert!(next.starts_with("GET /2020-01-01/extension/event/next HTTP/1.1\r\n"), "{next}");
        assert!(next.contains("\r\nlambda-extension-identifier: 7-a\r\n"), "{next}");
        assert!(!listening.is_finished());
    }

    #[tokio::test]
    async fn who_does_not_answer_like_lambda_registers_nothing() {
        let listener = net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = listener.local_addr().unwrap().to_string();
        for answer in ["HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nlambda-extension-"] {
            let Registration { asked, .. } = Registration::ask(&api).unwrap();
            let answers = async { drop(asked_of(&listener, answer).await) };
            let ((), id) = tokio::join!(answers, registered_as(asked));
            assert_eq!(id, None, "{answer}");
        }
        drop(listener);
        assert!(Registration::ask(&api).is_err());
        assert!(Registration::ask("nowhere").is_err());
    }
}
