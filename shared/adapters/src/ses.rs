//! E-mails to customers, by Amazon SES.
//!
//! SES knows no key under which a repeated call would send nothing. So each message is recorded once it is sent, and whoever comes
//! again finds the record. A message is sent twice only when its record, or SES's answer, was lost.

use std::{sync::Arc, time::Duration};

use application::{
    event_store::Unavailable,
    mail::{Mail, NoMail, compose},
    ports::{Notification, Notifications, ProviderError},
};
use aws_sdk_sesv2::{
    Client,
    config::timeout::TimeoutConfig,
    error::{BuildError, ProvideErrorMetadata, SdkError},
    operation::send_email::SendEmailError,
    types::{Body, Content, Destination, EmailContent, Message},
};
use aws_types::SdkConfig;
use domain::ids::NotificationId;
use settings::Live;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::{
    app_config::AppConfig,
    dynamodb::{DynamoEventStore, DynamoNotifications},
    lambda::chain,
};

/// As every operation of the SDK.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);

/// Writes to customers at the address of their profile.
#[derive(Clone)]
pub struct SesNotifications {
    client: Client,
    /// Where orders and profiles are read.
    store: DynamoEventStore,
    sent: DynamoNotifications,
    /// They have the sender, and how long a message may take.
    settings: Arc<Live<AppConfig>>,
}

impl SesNotifications {
    pub fn new(
        config: &SdkConfig,
        store: DynamoEventStore,
        sent: DynamoNotifications,
        settings: Arc<Live<AppConfig>>,
    ) -> Self {
        // No time for a single attempt: after that the SDK would send again what is only slow.
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(1))
            .operation_timeout(OPERATION_TIMEOUT)
            .disable_operation_attempt_timeout()
            .build();
        let config = aws_sdk_sesv2::config::Builder::from(config).timeout_config(timeouts).build();
        Self { client: Client::from_conf(config), store, sent, settings }
    }

    async fn try_send(&self, notification: &Notification) -> Result<NotificationId, ProviderError> {
        let settings::Provider { sender, deadline_ms, .. } = self.own_settings().await?;
        let (started, deadline) = (Instant::now(), Duration::from_millis(deadline_ms.into()));
        let outcome = timeout(deadline, Box::pin(self.find_or_send(notification, &sender))).await;
        match outcome.unwrap_or(Err(ProviderError::TimedOut(deadline)))? {
            Outcome::SentBefore(id) => Ok(id),
            Outcome::SentNow(id) => {
                let left = deadline.saturating_sub(started.elapsed());
                Ok(self.recorded(notification, id, left).await)
            }
        }
    }

    async fn own_settings(&self) -> Result<settings::Provider, ProviderError> {
        for _ in 0..2 {
            let settings = self.settings.current().await.map_err(failed)?;
            if !settings.providers.notifications.sender.is_empty() {
                return Ok(settings.providers.notifications.clone());
            }
            // Most likely other functions know of a sender already.
            self.settings.look_again().await;
        }
        Err(ProviderError::Rejected("the settings have no sender".to_owned()))
    }

    async fn find_or_send(&self, notification: &Notification, sender: &str) -> Result<Outcome, ProviderError> {
        if let Some(id) = self.sent.sent(notification.idempotency_key).await.map_err(failed)? {
            return Ok(Outcome::SentBefore(id));
        }
        let mail = compose(&self.store, notification).await.map_err(|error| match error {
            NoMail::NoAddress | NoMail::Outdated => ProviderError::Rejected(error.to_string()),
            NoMail::Load(error) => failed(error),
        })?;
        let to = Destination::builder().to_addresses(&mail.to).build();
        let content = EmailContent::builder().simple(message(&mail).map_err(failed)?).build();
        let call = self.client.send_email().from_email_address(sender).destination(to).content(content);
        let id = call.send().await.map_err(refusal)?.message_id.filter(|id| !id.is_empty());
        let missing = || ProviderError::Misbehaved { field: "MessageId", problem: "is missing".to_owned() };
        Ok(Outcome::SentNow(NotificationId(id.ok_or_else(missing)?)))
    }

    /// The message is sent, whatever becomes of its record: without one, the same key would send it once more.
    async fn recorded(&self, notification: &Notification, id: NotificationId, within: Duration) -> NotificationId {
        let record = timeout(within, self.sent.record(notification, id.clone())).await;
        match record.map_err(failed).and_then(|record| record.map_err(failed)) {
            Ok(first) => first,
            Err(error) => {
                warn!(order_id = %notification.order_id, error = chain(&error), "notification sent but not recorded");
                id
            }
        }
    }
}

/// What has become of a message.
enum Outcome {
    SentBefore(NotificationId),
    SentNow(NotificationId),
}

fn message(mail: &Mail) -> Result<Message, BuildError> {
    let utf8 = |text: &str| Content::builder().data(text).charset("UTF-8").build();
    let body = Body::builder().text(utf8(&mail.text)?).html(utf8(&mail.html)?).build();
    Ok(Message::builder().subject(utf8(&mail.subject)?).body(body).build())
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ProviderError {
    ProviderError::Failed(error.into())
}

/// What SES says of an error may quote the customer's address, and goes nowhere; its code does not.
fn refusal(error: SdkError<SendEmailError>) -> ProviderError {
    let error = match error {
        SdkError::ServiceError(error) => error.into_err(),
        SdkError::TimeoutError(_) => return ProviderError::TimedOut(OPERATION_TIMEOUT),
        error => return ProviderError::Failed(chain(&error).into()),
    };
    let code = error.code().unwrap_or("an error without a code").to_owned();
    match error {
        SendEmailError::TooManyRequestsException(_)
        | SendEmailError::LimitExceededException(_)
        | SendEmailError::SendingPausedException(_) => ProviderError::Failed(code.into()),
        SendEmailError::MessageRejected(_)
        | SendEmailError::MailFromDomainNotVerifiedException(_)
        | SendEmailError::AccountSuspendedException(_)
        | SendEmailError::BadRequestException(_)
        | SendEmailError::NotFoundException(_) => ProviderError::Rejected(code),
        // Whoever may not send now may not send in a moment either.
        _ if code.starts_with("AccessDenied") => ProviderError::Rejected(code),
        _ => ProviderError::Failed(code.into()),
    }
}

impl Notifications for SesNotifications {
    async fn send(&self, notification: &Notification) -> Result<NotificationId, Unavailable> {
        self.try_send(notification).await.map_err(|error| {
            // Said here: the step goes on without.
            warn!(order_id = %notification.order_id, error = chain(&error), "notification not sent");
            Unavailable { what: "the notification service", source: error.into() }
        })
    }
}

application::only_providers!(SesNotifications);

/// Who tells customers without a service of one's own.
#[derive(Clone)]
pub enum BuiltInNotifications {
    Sandbox(DynamoNotifications),
    Ses(SesNotifications),
}

impl Notifications for BuiltInNotifications {
    async fn send(&self, notification: &Notification) -> Result<NotificationId, Unavailable> {
        match self {
            Self::Sandbox(sandbox) => sandbox.send(notification).await,
            Self::Ses(ses) => ses.send(notification).await,
        }
    }
}
