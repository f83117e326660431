//! The customer: a profile, its events, and how events make it. Whoever has given none may order all the same.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    stored_event::{self, HELD_BACK, UnreadableEvent, Upcaster, with_field},
    text::{Invalid, Text, is_mark, is_visible, too_long, written_out},
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

/// An address for e-mail: one `@` with something on either side, and nothing that is not seen, white space among it: two
/// addresses that look the same would not be. Whether anybody reads what is sent there, only sending tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Email(String);

impl Email {
    /// The most that fits into a mail command (RFC 5321, section 4.5.3.1.3, less the brackets).
    const MAX: usize = 254;

    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let text = input.trim();
        let shows = |side: &str| side.chars().any(is_visible) && side.chars().all(|c| is_visible(c) || is_mark(c));
        let sides = text.split_once('@').filter(|(local, domain)| shows(local) && shows(domain));
        let one_at = sides.is_some_and(|(_, domain)| !domain.contains('@'));
        if !one_at {
            Err(Invalid::new("must be an e-mail address such as anna@example.com"))
        } else if text.len() > Self::MAX {
            Err(Invalid::new(format!("must be at most {} bytes long", Self::MAX)))
        } else if written_out(text) > Self::MAX {
            Err(too_long(Self::MAX))
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether mail to the one goes where mail to the other goes. That the case of letters makes no difference is the custom of
    /// nearly everybody who receives mail (RFC 5321, section 2.4, only advises it).
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

    /// The newest schema version of events of this type.
    pub fn schema(&self) -> u32 {
        stored_event::newest_schema(&Self::UPCASTERS)
    }

    /// As [`crate::order::OrderEvent::written`] is.
    pub fn written(&self) -> Result<(u32, Value), serde_json::Error> {
        stored_event::written(self.event_type(), &Self::UPCASTERS, HELD_BACK, self.data()?)
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

    #[test]
    fn an_address_for_email_has_nothing_that_is_not_seen() {
        for good in ["ane\u{301}@example.com", "अन्ना@उदाहरण.भारत", "💐@example.com"] {
            assert!(Email::parse(good).is_ok(), "{good}");
        }
        for bad in [
            '\u{ad}',
            '\u{34f}',
            '\u{600}',
            '\u{200b}',
            '\u{200d}',
            '\u{202e}',
            '\u{2800}',
            '\u{3164}',
            '\u{e000}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{fff9}',
            '\u{fffc}',
            '\u{fffd}',
            '\u{e0041}',
        ] {
            for text in
                [format!("{bad}a@b"), format!("a{bad}a@b"), format!("a@b{bad}"), format!("{bad}@b"), format!("a@{bad}")]
            {
                assert!(Email::parse(&text).is_err(), "{text:?}");
            }
        }
        assert!(Email::parse("\u{301}@b").is_err(), "a mark on nothing");
    }

    #[test]
    fn an_address_for_email_is_bounded_also_in_what_its_characters_stand_for() {
        assert!(Email::parse(&format!("{}@b", "\u{fdfa}".repeat(14))).is_ok());
        assert!(Email::parse(&format!("{}@b", "\u{fdfa}".repeat(15))).is_err());
    }

    /// Of every character that there is.
    #[test]
    fn an_address_for_email_may_have_what_is_seen_and_nothing_else() {
        for c in ('\0'..=char::MAX).filter(|&c| c != '@') {
            let inside = Email::parse(&format!("a{c}a@b{c}b")).is_ok();
            assert_eq!(inside, is_visible(c) || is_mark(c), "{c:?}");
            assert_eq!(Email::parse(&format!("{c}@b")).is_ok(), is_visible(c), "{c:?} alone");
        }
    }
}
