//! Finding orders by what staff remember of them: any part of the id, the e-mail address, the first or the last name.
//!
//! An index lists each order under short pieces of these texts. Whatever a query matches is listed under every one of the
//! query's own pieces, so any of them leads to all that it matches, and to more: whoever reads a list asks
//! [`SearchQuery::matches`].

use std::collections::{BTreeMap, BTreeSet};

use unicode_normalization::UnicodeNormalization;

use crate::{order_view::OrderView, text::Invalid};

/// Every three neighbouring characters are a piece: what a query has to have at least.
const SHORT: usize = 3;

/// Of longer pieces there are so many different ones that few orders share one.
const LONG: usize = 5;

/// Not every longer piece is listed, but the greatest of each so many characters (winnowing): two texts that share as many
/// characters share one of these. An order's id begins with eight digits before its first dash.
const WINDOW: usize = 8;

/// Stands between texts. No text and no query contains it, so no query matches across.
const BETWEEN: &str = "\n";

/// Upper and lower case are one, and so are the forms in which Unicode writes the same character: composed or not, full or
/// half width. Each character is folded by itself: what a part of a text becomes must not depend on the rest.
fn normalise(text: &str) -> String {
    text.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect()
}

/// Chinese characters, of which one alone says much.
fn is_han(c: char) -> bool {
    matches!(c, '々' | '〇' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

fn short_pieces(text: &[char]) -> impl Iterator<Item = &[char]> {
    text.windows(SHORT)
}

fn long_pieces(text: &[char]) -> impl Iterator<Item = &[char]> {
    text.windows(WINDOW).filter_map(|window| window.windows(LONG).max())
}

fn han_pieces(text: &[char]) -> impl Iterator<Item = &[char]> {
    text.chunks(1).filter(|piece| piece.iter().copied().any(is_han))
}

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

/// Dashes stand in the id as it is shown, and may be left out by whoever types it.
fn without_dashes(text: &str) -> String {
    text.replace('-', "")
}

/// Every piece under which a text is listed.
fn pieces(text: &str) -> BTreeSet<String> {
    let (as_shown, dashless) = (chars(text), chars(&without_dashes(text)));
    let short = short_pieces(&as_shown).chain(han_pieces(&as_shown));
    short.chain(long_pieces(&dashless)).map(String::from_iter).collect()
}

/// The terms under which an order is listed. With each goes what a reader of the list needs beside the order's id: the
/// texts that have brought the order there, normalised.
pub fn terms_of(view: &OrderView) -> BTreeMap<String, String> {
    let id = view.id.to_string();
    let of_id = pieces(&id).into_iter().chain(pieces(&without_dashes(&id)));
    let mut terms: BTreeMap<String, String> = of_id.map(|piece| (piece, String::new())).collect();
    for text in customer_texts(view) {
        for piece in pieces(&text) {
            let texts = terms.entry(piece).or_default();
            if !texts.is_empty() {
                texts.push_str(BETWEEN);
            }
            texts.push_str(&text);
        }
    }
    terms
}

fn customer_texts(view: &OrderView) -> impl Iterator<Item = String> {
    let customer = &view.customer;
    [&customer.email, &customer.first_name, &customer.last_name].into_iter().flatten().map(|text| normalise(text))
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    typed: String,
    normalised: String,
}

impl SearchQuery {
    const MAX: usize = 100;

    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let typed = input.trim().to_owned();
        let normalised = normalise(&typed);
        if typed.chars().count() > Self::MAX {
            Err(Invalid::new(format!("must be at most {} characters long", Self::MAX)))
        } else if typed.chars().any(char::is_control) {
            Err(Invalid::new("must not contain control characters"))
        } else if normalised.chars().count() < SHORT && !normalised.chars().any(is_han) {
            Err(Invalid::new(format!("must be at least {SHORT} characters long; a Chinese character may stand alone")))
        } else {
            Ok(Self { typed, normalised })
        }
    }

    /// As it was typed.
    pub fn as_str(&self) -> &str {
        &self.typed
    }

    /// At least one term, each once, in the order of the text. Whatever the query matches is listed under each of them.
    pub fn terms(&self) -> Vec<String> {
        let (as_shown, dashless) = (chars(&self.normalised), chars(&without_dashes(&self.normalised)));
        let mut terms: Vec<&[char]> = long_pieces(&dashless).collect();
        if terms.is_empty() {
            terms = short_pieces(&as_shown).collect();
        }
        if terms.is_empty() {
            terms = han_pieces(&as_shown).collect();
        }
        let mut seen = BTreeSet::new();
        terms.retain(|term| seen.insert(*term));
        terms.into_iter().map(String::from_iter).collect()
    }

    /// Whether the order with this id and these texts is looked for, the texts as [`terms_of`] has them.
    pub fn matches(&self, order_id: &str, texts: &str) -> bool {
        let query = self.normalised.as_str();
        texts.contains(query) || order_id.contains(query) || without_dashes(order_id).contains(query)
    }

    pub fn finds(&self, view: &OrderView) -> bool {
        let texts: Vec<String> = customer_texts(view).collect();
        self.matches(&view.id.to_string(), &texts.join(BETWEEN))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;
    use crate::spec::{at, created, order_id};

    fn view_of(email: &str, first_name: &str, last_name: &str) -> OrderView {
        let mut view = OrderView::evolve(None, order_id(), &created(), 1, at(0)).unwrap();
        view.customer.email = Some(email.to_owned());
        view.customer.first_name = Some(first_name.to_owned());
        view.customer.last_name = Some(last_name.to_owned());
        view
    }

    fn finds(query: &str, view: &OrderView) -> bool {
        SearchQuery::parse(query).unwrap().finds(view)
    }

    #[test]
    fn any_part_of_any_text_is_found_in_any_case() {
        let view = view_of("Anna.Liu@Example.com", "Anna Maria", "Müller");
        for query in ["anna", "ANNA.LIU@EXAMPLE.COM", "na mar", "ÜLL", "  ller ", "u@e"] {
            assert!(finds(query, &view), "{query}");
        }
        for query in ["anna müller", "mariamüller", "muller", "anna  maria"] {
            assert!(!finds(query, &view), "{query}");
        }
    }

    #[test]
    fn one_character_written_in_two_ways_is_the_same() {
        let view = view_of("ａｎｎａ＠example.com", "Ame\u{301}lie", "ＷＡＮＧ 王ΟΔΟΣ Straße");
        for query in ["anna@ex", "ＡＮＮＡ", "amélie", "ame\u{301}lie", "wang", "οδος", "οδοσ", "STRASSE", "王οδ"]
        {
            assert!(finds(query, &view), "{query}");
        }
        // What is composed is another character than its base.
        assert!(!finds("amelie", &view));
    }

    #[test]
    fn an_order_is_found_by_any_part_of_its_id_with_its_dashes_or_without() {
        let view = view_of("a@b.example", "A", "B");
        let shown = view.id.to_string();
        let dashless = without_dashes(&shown);
        for text in [&shown, &dashless, &shown.to_uppercase()] {
            let text = chars(text);
            for length in [3, 8, 9, 13, text.len()] {
                for part in text.windows(length).map(String::from_iter) {
                    assert!(finds(&part, &view), "{part}");
                }
            }
        }
        let (first, second) = dashless.split_at(4);
        assert!(!finds(&format!("{first}-{second}"), &view), "a dash where none stands");
    }

    #[test]
    fn a_query_has_three_characters_or_a_chinese_one() {
        for good in ["abc", " abc ", "王", "a王", "ﬃ", "〇", &"x".repeat(100)] {
            assert!(SearchQuery::parse(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "ab", " a ", "ü", "ан", "a\nb c", "a\u{0}bc", &"x".repeat(101)] {
            assert!(SearchQuery::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(SearchQuery::parse(" Anna ").unwrap().as_str(), "Anna");
    }

    #[test]
    fn the_longest_pieces_of_a_query_lead_to_its_orders() {
        let terms = |query: &str| SearchQuery::parse(query).unwrap().terms();
        assert_eq!(terms("anna"), ["ann", "nna"]);
        assert_eq!(terms("小明"), ["小", "明"]);
        assert_eq!(terms("王x"), ["王"]);
        assert_eq!(terms("王小明"), ["王小明"]);
        assert_eq!(terms("-5ec7-b1f6"), ["ec7b1"]);
        assert_eq!(terms("anna.liu@example"), ["nna.l", "na.li", "liu@e", "u@exa", "xampl"]);
        assert_eq!(terms("-----------"), ["---"]);
    }

    /// Each is one item of the index, and one write unit.
    #[test]
    fn an_ordinary_order_has_about_seventy_five_terms_with_short_texts() {
        let terms = terms_of(&view_of("anna.liu@example.com", "Anna", "Liu"));
        assert_eq!(terms.len(), 74);
        assert!(terms.values().all(|texts| texts.len() <= 32), "{terms:?}");
        let anonymous = OrderView::evolve(None, order_id(), &created(), 1, at(0)).unwrap();
        let of_id = terms_of(&anonymous);
        assert_eq!(of_id.len(), 50);
        assert!(of_id.values().all(String::is_empty));
    }

    fn some_text() -> impl Strategy<Value = String> {
        let c = prop_oneof![
            proptest::sample::select("abABéß-@. 王小明々ＡΣςİ\u{301}ǰ".chars().collect::<Vec<_>>()),
            // No name has control characters.
            any::<char>().prop_map(|c| if c.is_control() { 'x' } else { c }),
        ];
        vec(c, 1..30).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn what_a_query_matches_is_listed_under_each_of_its_terms(
            texts in [some_text(), some_text(), some_text()], which in 0..5_usize, from: Index, length in 1..30_usize,
        ) {
            let [email, first_name, last_name] = &texts;
            let view = view_of(email, first_name, last_name);
            let shown = view.id.to_string();
            let id_without_dashes = without_dashes(&shown);
            let whole = [email, first_name, last_name, &shown, &id_without_dashes][which];
            let part: String = whole.chars().skip(from.index(whole.chars().count())).take(length).collect();
            let Ok(query) = SearchQuery::parse(&part) else { return Ok(()) };
            let listed = terms_of(&view);
            let terms = query.terms();
            prop_assert!(!terms.is_empty());
            if query.finds(&view) {
                for term in terms {
                    prop_assert!(listed.get(&term).is_some_and(|texts| query.matches(&shown, texts)), "{term:?}");
                }
            } else {
                // A part of a text that is not a part of it once both are normalised: the cut went through a character.
                prop_assert!(!normalise(whole).contains(&normalise(part.trim())));
            }
        }

        #[test]
        fn what_is_normalised_stays_as_it_is(text in some_text()) {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }
    }
}
