//! Reads the parameters of a query so that one answer names every one that is wrong, and writes links to other pages.

use std::{collections::BTreeMap, fmt::Write};

use application::ports::Position;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::DateTime;
use domain::{ids::CustomerId, order::OrderStatus, text::Invalid};
use serde::Serialize;

use super::{Caller, FieldError, Problem};

/// A page of a list, when the client asks for none in particular.
const PAGE_SIZE: usize = 20;
const PAGE_SIZE_MAX: usize = 100;

/// The parameters of a query, and what is wrong with them.
#[derive(Debug)]
pub struct Query {
    values: BTreeMap<String, String>,
    errors: Vec<FieldError>,
}

impl Query {
    pub(super) fn new(pairs: impl Iterator<Item = (String, String)>, names: &[&str]) -> Self {
        let mut query = Self { values: BTreeMap::new(), errors: Vec::new() };
        for (name, value) in pairs {
            if !names.contains(&name.as_str()) {
                query.wrong(&name, format!("is not a known parameter; known are {}", names.join(", ")));
            } else if query.values.insert(name.clone(), value).is_some() {
                query.wrong(&name, "must stand there once only");
            }
        }
        query
    }

    /// Says of a parameter that it is wrong.
    pub fn wrong(&mut self, name: &str, detail: impl Into<String>) {
        let name: String = name.chars().take(64).collect();
        let error = FieldError { pointer: format!("?{name}"), detail: detail.into() };
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// A parameter that may be left out; `None` within when it is, and `None` when it is wrong.
    pub fn optional<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, Invalid>) -> Option<Option<T>> {
        match self.values.get(name).map(|value| parse(value)).transpose() {
            Ok(value) => Some(value),
            Err(invalid) => {
                self.wrong(name, invalid.to_string());
                None
            }
        }
    }

    /// A parameter that has to be there; `None` when it is not, or wrong.
    pub fn required<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, Invalid>) -> Option<T> {
        let value = self.optional(name, parse)?;
        if value.is_none() {
            self.wrong(name, "is required");
        }
        value
    }

    /// `page_size`, 1 to 100.
    pub fn page_size(&mut self) -> Option<usize> {
        self.page_size_up_to(PAGE_SIZE_MAX)
    }

    /// `page_size` of a list whose rows cost more, 1 to `max`.
    pub fn page_size_up_to(&mut self, max: usize) -> Option<usize> {
        let size = self.optional("page_size", |text| match text.parse::<usize>() {
            Ok(size) if (1..=max).contains(&size) => Ok(size),
            _ => Err(Invalid::new(format!("must be a whole number from 1 to {max}"))),
        });
        size.map(|size| size.unwrap_or(PAGE_SIZE.min(max)))
    }

    /// `status`, of an order.
    pub fn status(&mut self) -> Option<Option<OrderStatus>> {
        self.optional("status", |name| {
            OrderStatus::parse(name).ok_or_else(|| {
                let known = OrderStatus::ALL.map(OrderStatus::name).join(", ");
                Invalid::new(format!("must be one of {known}"))
            })
        })
    }

    /// `after`, where another page has ended: as [`cursor`] makes it.
    pub fn after(&mut self) -> Option<Option<Position>> {
        self.optional("after", |text| {
            let parts = text.split_once('/').filter(|(_, id)| (1..=CURSOR_ID_MAX).contains(&id.len()));
            let position = parts.and_then(|(millis, id)| {
                let at = DateTime::from_timestamp_millis(millis.parse().ok()?)?;
                Some(Position::new(at, id))
            });
            position.ok_or_else(|| Invalid::new("must be as it came in the link to this page"))
        })
    }

    /// `page`, from 1, and `page_size`. Pages reach to row number `rows_max`.
    pub fn page(&mut self, rows_max: usize) -> Option<(usize, usize)> {
        let page = self.optional("page", |text| match text.parse::<usize>() {
            Ok(page @ 1..) => Ok(page),
            _ => Err(Invalid::new("must be a whole number from 1")),
        });
        let (page, size) = page.map(|page| page.unwrap_or(1)).zip(self.page_size())?;
        if page.saturating_mul(size) > rows_max {
            self.wrong("page", format!("only the first {rows_max} can be paged through; ask for something narrower"));
            return None;
        }
        Some((page, size))
    }

    /// What was read, if nothing is wrong with any parameter.
    pub fn finish<T>(self, read: Option<T>) -> Result<T, Problem> {
        match read {
            Some(read) if self.errors.is_empty() => Ok(read),
            _ => Err(Problem::invalid(self.errors)),
        }
    }
}

/// The longest name that a position has: a customer's event, of an id of up to 255 characters, with its number and what stands around them.
const CURSOR_ID_MAX: usize = 300;

/// A position as links carry it, for no client to read or make.
pub fn cursor(position: &Position) -> String {
    format!("{}/{}", position.millis(), position.id())
}

/// The links to the page before and the page after one of a list, which these parameters have chosen.
#[derive(Debug, Serialize)]
pub struct PageLinks {
    next: Option<String>,
    previous: Option<String>,
}

impl PageLinks {
    pub fn new(path: &str, chosen: &[(&str, &str)], (page, page_size): (usize, usize), has_next: bool) -> Self {
        let page_at = |page: usize| {
            let (page, page_size) = (page.to_string(), page_size.to_string());
            let parameters = [chosen, &[("page", &page), ("page_size", &page_size)]].concat();
            link(path, &parameters)
        };
        Self {
            next: Some(page.saturating_add(1)).filter(|_| has_next).map(page_at),
            previous: page.checked_sub(1).filter(|previous| *previous > 0).map(page_at),
        }
    }
}

/// What a path says instead of an id for whoever asks.
const ONESELF: &str = "me";
/// What a path may not say as an id: it would mean another route, or be resolved away before it means any.
const TAKEN: [&str; 5] = [ONESELF, "events", "ledger", ".", ".."];
/// What stands before an id in base64url.
const ENCODED: char = '~';

/// A customer as a part of a path. API Gateway decodes a path before it looks for the route, so percent-encoding does not
/// carry every id: what is not plain is said in base64url (RFC 4648, section 5, without padding).
pub fn customer_path(id: &CustomerId) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let text = id.as_str();
    if text.chars().all(is_plain) && !TAKEN.contains(&text) {
        text.to_owned()
    } else {
        format!("{ENCODED}{}", BASE64_URL_SAFE_NO_PAD.encode(text))
    }
}

/// Whom a part of a path means: oneself, an id in base64url, or the id that it is.
pub(super) fn named_customer(caller: &Caller, part: &str) -> Option<CustomerId> {
    if part == ONESELF {
        return Some(caller.id.clone());
    }
    match part.strip_prefix(ENCODED) {
        Some(encoded) => {
            let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
            CustomerId::parse(&text).ok()
        }
        None => CustomerId::parse(part).ok(),
    }
}

/// A relative URL with these parameters.
pub fn link(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut link = path.to_owned();
    for (number, (name, value)) in parameters.iter().enumerate() {
        link.push(if number == 0 { '?' } else { '&' });
        link.push_str(name);
        link.push('=');
        link.push_str(&encoded(value));
    }
    link
}

/// A text as a part of a URL: whatever is not unreserved is percent-encoded (RFC 3986, section 2).
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Query {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Query::new(pairs, &["q", "page", "page_size"])
    }

    fn text(value: &str) -> Result<String, Invalid> {
        if value.is_empty() { Err(Invalid::new("must not be empty")) } else { Ok(value.to_owned()) }
    }

    #[test]
    fn a_page_is_the_first_twenty_unless_another_is_asked_for() {
        for (pairs, expected) in [
            (&[][..], (1, 20)),
            (&[("page", "50")], (50, 20)),
            (&[("page_size", "100"), ("page", "10")], (10, 100)),
            (&[("page_size", "1"), ("page", "1000")], (1_000, 1)),
        ] {
            let mut query = query(pairs);
            let page = query.page(1_000);
            assert_eq!(query.finish(page), Ok(expected));
        }
    }

    #[test]
    fn pages_that_are_none_are_refused() {
        for bad in ["0", "-1", "", "one", "1.5", "18446744073709551616"] {
            let mut query = query(&[("page", bad), ("q", "x"), ("page_size", "0")]);
            let read = query.page(1_000);
            assert_eq!(query.finish(read).unwrap_err().pointers(), ["?page", "?page_size"], "{bad}");
        }
        for (page, size, pointer) in [
            ("1", "0", "?page_size"),
            ("1", "101", "?page_size"),
            ("51", "20", "?page"),
            (&u64::MAX.to_string(), "2", "?page"),
        ] {
            let mut query = query(&[("page", page), ("page_size", size)]);
            let read = query.page(1_000);
            assert_eq!(query.finish(read).unwrap_err().pointers(), [pointer], "{page} {size}");
        }
    }

    #[test]
    fn every_wrong_parameter_is_named_at_once() {
        let mut query = query(&[("colour", "red"), ("page", "x"), ("page", "1"), ("q", ""), ("colour", "blue")]);
        let q = query.required("q", text);
        let page = query.page(1_000);
        let problem = query.finish(q.zip(page)).unwrap_err();
        assert_eq!((problem.status, problem.pointers()), (400, vec!["?colour", "?page", "?q"]));
    }

    #[test]
    fn what_is_required_has_to_be_there_and_what_is_unknown_must_not() {
        let mut missing = query(&[]);
        let q = missing.required("q", text);
        assert_eq!(missing.finish(q).unwrap_err().pointers(), ["?q"]);
        let mut unknown = query(&[("q", "x"), (&"n".repeat(100), "")]);
        let q = unknown.required("q", text);
        assert_eq!(q.as_deref(), Some("x"));
        let problem = unknown.finish(q).unwrap_err();
        assert_eq!(problem.pointers(), [format!("?{}", "n".repeat(64))]);
        let detail = json!("is not a known parameter; known are q, page, page_size");
        assert_eq!(problem.body("/", "c")["errors"][0]["detail"], detail);
    }

    #[test]
    fn every_customer_has_a_path_that_needs_no_encoding_and_comes_back() {
        let caller = |id: &str| Caller {
            id: CustomerId::stored(id),
            staff: Some(super::super::Staff::Member),
            carrier: false,
            metrics: false,
        };
        let staff = caller("staff-1");
        for id in [
            "anna",
            "auth0|1234",
            "a/b",
            "a%2Fb",
            "a?b#c",
            "Anna Wang",
            "~",
            "~YQ",
            "me",
            "events",
            "ledger",
            ".",
            "..",
            &"/".repeat(255),
        ] {
            let id = CustomerId::parse(id).unwrap();
            let path = customer_path(&id);
            assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)), "{path}");
            assert_eq!(named_customer(&staff, &path), Some(id));
        }
        assert_eq!(customer_path(&CustomerId::stored("3f1c-9.a_b")), "3f1c-9.a_b");
        // As clients have always said it, also where the link would be another.
        assert_eq!(named_customer(&staff, "auth0|1234"), Some(CustomerId::stored("auth0|1234")));
        for mine in ["anna", "me", "~", "a/b"] {
            assert_eq!(named_customer(&caller(mine), "me"), Some(CustomerId::stored(mine)));
        }
        for nobody in ["", "~", "~!", "~YQ==", "~w6Q", "~AA", "ä", &"x".repeat(256)] {
            assert_eq!(named_customer(&staff, nobody), None, "{nobody}");
        }
    }

    #[test]
    fn a_link_says_its_parameters_so_that_they_come_back() {
        let link = link("/x", &[("q", "王 a&b=c+%"), ("page", "2")]);
        assert_eq!(link, "/x?q=%E7%8E%8B%20a%26b%3Dc%2B%25&page=2");
        assert_eq!(super::link("/x", &[]), "/x");
    }
}
