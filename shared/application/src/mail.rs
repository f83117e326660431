//! What an e-mail to a customer says, and where it goes.
//!
//! A notification is ids and the name of a template, for every notification service. Whoever writes the message reads what it
//! has to say: the order, and the customer's profile as it is now, where the address stands.

use std::fmt::{self, Write};

use domain::{
    address::ShippingAddress,
    customer::{Email, Profile},
    ids::OrderId,
    order::{CancelReason, Course, Ending, Held, OrderCreated, OrderItem, RejectionReason, Shipment, SkippableStep},
    text::Text,
};

use crate::{
    event_store::EventStore,
    event_stream::{CustomerStream, LoadError, OrderStream},
    ports::Notification,
};

/// As many as an order can have that is placed today. So a message is bounded, whatever was stored once.
const LINES_MAX: usize = 100;

/// An e-mail, whole. Personal data: its `Debug` shows nothing, so that no log line can.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    pub to: String,
    /// One line of ASCII.
    pub subject: String,
    pub text: String,
    pub html: String,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mail(not shown)")
    }
}

/// Why there is nothing to send.
#[derive(Debug, thiserror::Error)]
pub enum NoMail {
    #[error("the customer has no e-mail address that is verified and can be written to")]
    NoAddress,
    /// Something has happened to the order since: there will be another message, or none.
    #[error("the order is no longer where the message would say")]
    Outdated,
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// The message that this notification asks for: two reads.
pub async fn compose(store: &impl EventStore, notification: &Notification) -> Result<Mail, NoMail> {
    let customer = CustomerStream::open(store, notification.customer_id.clone()).await?;
    let profile = customer.customer().profile.as_ref().ok_or(NoMail::NoAddress)?;
    let to = mailbox(profile).ok_or(NoMail::NoAddress)?.to_owned();
    let order = OrderStream::open(store, notification.order_id).await?;
    let (placed, news) = news(notification.template, &order.order().course).ok_or(NoMail::Outdated)?;
    Ok(Letter { order_id: notification.order_id, placed, news, profile }.mail(to))
}

/// Nobody is written to whose address somebody else may have typed. What would have to be quoted in a message's header is not
/// an address that anybody has; some readers would make two of it.
fn mailbox(profile: &Profile) -> Option<&str> {
    let address = Some(&profile.email).filter(|_| profile.email_verified).map(Email::as_str)?;
    let (local, host) = address.rsplit_once('@')?;
    let in_local = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let in_host = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    (local.chars().all(in_local) && host.chars().all(in_host)).then_some(address)
}

/// What has become of the order.
#[derive(Clone, Copy)]
enum News<'o> {
    Confirmed(&'o Shipment),
    Rejected(&'o RejectionReason, &'o Held),
    Cancelled(&'o CancelReason, &'o Held),
}

/// `None` when the order is not where this template belongs.
fn news<'o>(template: &str, course: &'o Course) -> Option<(&'o OrderCreated, News<'o>)> {
    match (template, course) {
        ("order-confirmed", Course::Shipped(placed, .., shipment) | Course::Confirmed(placed, .., shipment)) => {
            Some((placed, News::Confirmed(shipment)))
        }
        ("order-rejected", Course::Undoing(placed, held, Ending::Rejected(reason))) => {
            Some((placed, News::Rejected(reason, held)))
        }
        ("order-cancelled", Course::Undoing(placed, held, Ending::Cancelled(reason))) => {
            Some((placed, News::Cancelled(reason, held)))
        }
        _ => None,
    }
}

impl News<'_> {
    fn subject(self) -> &'static str {
        match self {
            Self::Confirmed(_) => "Your order is confirmed",
            Self::Rejected(..) => "Your order could not be fulfilled",
            Self::Cancelled(..) => "Your order is cancelled",
        }
    }

    /// What has happened.
    fn opening(self) -> String {
        match self {
            Self::Confirmed(_) => "your order is confirmed, and your parcel is with the carrier.".to_owned(),
            Self::Rejected(reason, _) => {
                let why = match reason {
                    RejectionReason::Expired => "we could not begin with it in time, and its prices have expired",
                    RejectionReason::OutOfStock { .. } => "there is not enough in stock of what you ordered",
                    RejectionReason::PaymentDeclined { .. } => "your payment was declined",
                    RejectionReason::ShipmentRefused { .. } => "the carrier does not deliver to your address",
                };
                format!("we are sorry that we could not fulfil your order: {why}.")
            }
            Self::Cancelled(reason, _) => format!("your order is cancelled. The reason: {}", one_line(reason.as_str())),
        }
    }

    /// What happens next.
    fn outlook(self) -> String {
        match self {
            Self::Confirmed(Shipment { carrier, tracking_number, estimated_delivery, .. }) => format!(
                "{} should deliver it by {}. The tracking number is {}.",
                one_line(carrier),
                estimated_delivery.format("%-d %B %Y"),
                one_line(tracking_number)
            ),
            Self::Rejected(_, held) | Self::Cancelled(_, held) => {
                let next = if held.is_skipped(SkippableStep::RefundPayment) {
                    "Our staff see to what you have paid."
                } else if held.payment.is_some() || held.refund.is_some() {
                    "What you have paid goes back the way it came. That can take your bank some days."
                } else {
                    "You have not been charged."
                };
                format!("{next} There is nothing that you have to do.")
            }
        }
    }
}

struct Letter<'o> {
    order_id: OrderId,
    placed: &'o OrderCreated,
    news: News<'o>,
    profile: &'o Profile,
}

impl Letter<'_> {
    fn mail(&self, to: String) -> Mail {
        let mut mail = Mail {
            to,
            subject: format!("{} ({})", self.news.subject(), self.order_id),
            text: String::new(),
            html: String::new(),
        };
        // Nothing that is written into a `String` is lost.
        let _ = self.write_text(&mut mail.text);
        let _ = self.write_html(&mut mail.html);
        mail
    }

    fn lines(&self) -> impl Iterator<Item = &OrderItem> {
        self.placed.items.iter().take(LINES_MAX)
    }

    fn lines_left_out(&self) -> usize {
        self.placed.items.len().saturating_sub(LINES_MAX)
    }

    fn write_text(&self, out: &mut String) -> fmt::Result {
        let Self { order_id, placed, news, profile } = self;
        writeln!(out, "Hello {},\n\n{}\n", one_line(profile.first_name.as_str()), news.opening())?;
        writeln!(out, "Order {order_id}")?;
        for OrderItem { name, quantity, unit_price, .. } in self.lines() {
            writeln!(out, "- {} x {}, {unit_price} each", quantity.get(), one_line(name.as_str()))?;
        }
        if self.lines_left_out() > 0 {
            writeln!(out, "- and {} more", self.lines_left_out())?;
        }
        writeln!(out, "Total: {}\n\nDelivery address", placed.total_amount)?;
        for line in address_lines(&placed.shipping_address) {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "\nWhat happens next\n{}", news.outlook())
    }

    fn write_html(&self, out: &mut String) -> fmt::Result {
        let Self { order_id, placed, news, profile } = self;
        let subject = news.subject();
        writeln!(
            out,
            "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{subject}</title></head>"
        )?;
        writeln!(out, "<body>\n<p>Hello {},</p>", escaped(&one_line(profile.first_name.as_str())))?;
        writeln!(out, "<p>{}</p>\n<h2>Order {order_id}</h2>\n<ul>", escaped(&news.opening()))?;
        for OrderItem { name, quantity, unit_price, .. } in self.lines() {
            let name = escaped(&one_line(name.as_str()));
            writeln!(out, "<li>{} &times; {name}, {unit_price} each</li>", quantity.get())?;
        }
        if self.lines_left_out() > 0 {
            writeln!(out, "<li>and {} more</li>", self.lines_left_out())?;
        }
        writeln!(out, "</ul>\n<p>Total: <strong>{}</strong></p>\n<h2>Delivery address</h2>", placed.total_amount)?;
        let address: Vec<String> = address_lines(&placed.shipping_address).iter().map(|line| escaped(line)).collect();
        writeln!(out, "<address>{}</address>", address.join("<br>\n"))?;
        writeln!(out, "<h2>What happens next</h2>\n<p>{}</p>\n</body>\n</html>", escaped(&news.outlook()))
    }
}

fn address_lines(address: &ShippingAddress) -> Vec<String> {
    let ShippingAddress { street, city, state, country, postal_code } = address;
    let place =
        [city.as_ref().map(Text::as_str), state.as_ref().map(Text::as_str), postal_code.as_ref().map(Text::as_str)];
    let place: Vec<&str> = place.into_iter().flatten().collect();
    let lines = [street.as_str(), &place.join(", "), country.as_str()].map(one_line);
    lines.into_iter().filter(|line| !line.is_empty()).collect()
}

/// What somebody has typed looks like no line of the message's own.
fn one_line(text: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.chars().map(|c| if breaks(c) { ' ' } else { c }).collect()
}

/// What somebody has typed is text and no HTML, in an attribute as well.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
