//! The customer: a profile, its events, and how events make it. Whoever has given none may order all the same.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    stored_event::{self, UnreadableEvent, Upcaster, with_field},
    text::{Invalid, Text},
};

/// What has happened to a customer. A storage format, as [`crate::order::OrderEvent`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum CustomerEvent {
    CustomerProfileUpdated(Profile),
}

/// Who a customer is, as the customer says, and whether whoever signs them in knows the e-mail address for theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub first_name: Text<100>,
    /// Not everybody has one.
    pub last_name: Option<Text<100>>,
    pub email: Email,
    /// Said by the identity provider when the profile was put, and by nobody else.
    pub email_verified: bool,
}

/// An address for e-mail: one `@` with something on either side, and no white space. Whether anybody reads what is sent
/// there, only sending tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Email(String);

impl Email {
    /// The most that fits into a mail command (RFC 5321, section 4.5.3.1.3, less the brackets).
    const MAX: usize = 254;

    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let text = input.trim();
        let sides = text.split_once('@').filter(|(local, domain)| !local.is_empty() && !domain.is_empty());
        let one_at = sides.is_some_and(|(_, domain)| !domain.contains('@'));
        if !one_at || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            Err(Invalid::new("must be an e-mail address such as anna@example.com"))
        } else if text.len() > Self::MAX {
            Err(Invalid::new(format!("must be at most {} bytes long", Self::MAX)))
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether mail to the one goes where mail to the other goes, as every provider of mail has it: in any case of its letters.
    pub fn is_same_as(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other.trim())
    }
}

impl CustomerEvent {
    pub const TYPES: [&str; 1] = ["CustomerProfileUpdated"];

    pub fn event_type(&self) -> &'static str {
        match self {
            Self::CustomerProfileUpdated(_) => "CustomerProfileUpdated",
        }
    }

    /// As [`crate::order::OrderEvent::personal_fields`] has it: a profile is nothing else.
    pub fn personal_fields(event_type: &str) -> &'static [&'static str] {
        match event_type {
            "CustomerProfileUpdated" => &["first_name", "last_name", "email", "email_verified"],
            _ => &[],
        }
    }

    /// From each schema version to the next. Nobody was asked before whether an e-mail address is the customer's.
    const UPCASTERS: [Upcaster; 1] = [|data| with_field(data, "email_verified", false)];

    /// The schema version that events of this type are written with.
    pub fn schema(&self) -> u32 {
        stored_event::newest_schema(&Self::UPCASTERS)
    }

    /// The fields of the event, without its type.
    pub fn data(&self) -> Result<Value, serde_json::Error> {
        stored_event::data(self)
    }

    pub fn read(event_type: &str, schema: u32, data: &Value) -> Result<Self, UnreadableEvent> {
        stored_event::read(&Self::TYPES, &Self::UPCASTERS, event_type, schema, data)
    }
}

/// The state of a customer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Customer {
    pub profile: Option<Profile>,
}

impl Customer {
    /// Of snapshots, as [`crate::order::Order::SNAPSHOT_SCHEMA`] is.
    pub const SNAPSHOT_SCHEMA: u32 = 2;

    #[must_use]
    pub fn evolve(self, event: &CustomerEvent) -> Self {
        match event {
            CustomerEvent::CustomerProfileUpdated(profile) => Self { profile: Some(profile.clone()) },
        }
    }
}

/// `CustomerProfileUpdated`, or nothing when the profile is already that.
pub fn update_profile(customer: &Customer, profile: &Profile) -> Vec<CustomerEvent> {
    if customer.profile.as_ref() == Some(profile) {
        vec![]
    } else {
        vec![CustomerEvent::CustomerProfileUpdated(profile.clone())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(first_name: &str) -> Profile {
        Profile {
            first_name: Text::parse(first_name).unwrap(),
            last_name: Text::parse("王").ok(),
            email: Email::parse("anna@example.com").unwrap(),
            email_verified: false,
        }
    }

    #[test]
    fn a_profile_is_updated_when_it_changes_and_only_then() {
        let first = update_profile(&Customer::default(), &profile("Anna"));
        assert_eq!(first, [CustomerEvent::CustomerProfileUpdated(profile("Anna"))]);
        let anna = first.iter().fold(Customer::default(), Customer::evolve);
        assert_eq!(update_profile(&anna, &profile("Anna")), []);
        let second = update_profile(&anna, &profile("Hanna"));
        assert_eq!(second.iter().fold(anna, Customer::evolve).profile, Some(profile("Hanna")));
    }

    #[test]
    fn stored_events_stay_readable() {
        let known = CustomerEvent::CustomerProfileUpdated(profile("Anna"));
        assert_eq!(CustomerEvent::TYPES, [known.event_type()]);
        stored_event::golden::assert_readable(
            include_str!("customer/events.golden.jsonl"),
            &[known],
            |event| (event.event_type(), event.schema()),
            CustomerEvent::read,
        );
    }

    #[test]
    fn stored_events_stay_readable_whatever_the_rules_have_become() {
        stored_event::golden::assert_kept(
            include_str!("customer/events.kept.golden.jsonl"),
            |event: &CustomerEvent| (event.event_type(), event.schema()),
            CustomerEvent::read,
        );
    }

    #[test]
    fn snapshots_are_what_their_schema_says() {
        let anna = Customer::default().evolve(&CustomerEvent::CustomerProfileUpdated(profile("Anna")));
        stored_event::golden::assert_snapshots(
            include_str!("customer/snapshots.golden.jsonl"),
            Customer::SNAPSHOT_SCHEMA,
            &[Customer::default(), anna],
        );
    }

    #[test]
    fn an_address_for_email_has_one_at_and_no_white_space() {
        for good in ["a@b", " anna@example.com ", "安娜@例子.中国"] {
            assert!(Email::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "anna", "@b", "a@", "a@b@c", "a b@c", "a@b\u{0}", &format!("{}@b", "a".repeat(260))] {
            assert!(Email::parse(bad).is_err(), "{bad}");
        }
    }
}
