//! Finding orders by what staff remember of them: any part of the id, the e-mail address, the first or the last name.
//!
//! An index lists each customer under short pieces of these texts. Whoever a query matches is listed under every one of the
//! query's own pieces, so any of them leads to all that it matches, and to more: whoever reads a list asks
//! [`SearchQuery::matches`]. Ids are no texts of an index: a whole one is a key, and parts of them are looked for in the list of
//! all ids.

use std::collections::{BTreeMap, BTreeSet};

use icu_casemap::CaseMapper;
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use crate::{
    ids::OrderId,
    order_view::{CustomerView, OrderView},
    text::{Invalid, Text, is_unseen},
};

/// Every three neighbouring characters are a piece: what a query has to have at least.
const SHORT: usize = 3;

/// Of longer pieces there are so many different ones that few orders share one.
const LONG: usize = 5;

/// Not every longer piece is listed, but the greatest of each so many characters (winnowing): two texts that share as many
/// characters share one of these.
const WINDOW: usize = 8;

/// How an id is shown, with a 0 for each digit.
const ID_SHAPE: &str = "00000000-0000-0000-0000-000000000000";

/// Stands between texts. No text and no query contains it, so no query matches across.
const BETWEEN: &str = "\n";

/// Upper and lower case are one, and so are the forms in which Unicode writes the same character: composed or not, full or
/// half width. What nobody sees is not there. Each character is folded by itself: what a part of a text becomes must not
/// depend on the rest. From upper case, because some letters, as the dotless `ı`, meet others only there; and decomposed, because
/// an iota below a Greek letter is a letter of its own when it is folded. An `i` loses the dot that `İ` leaves it with, as whoever
/// types in another language leaves it out.
fn normalise(text: &str) -> String {
    let case = CaseMapper::new();
    let seen = text.chars().filter(|&c| !is_unseen(c));
    let upper: String = seen.nfkd().map(|c| case.simple_uppercase(c)).collect();
    let folded = case.fold_string(&upper);
    let mut after_i = false;
    let dotless = folded.chars().filter(|&c| {
        let dot = after_i && c == '\u{307}';
        after_i = c == 'i' || dot;
        !dot
    });
    dotless.nfkc().collect()
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

/// The terms under which a customer is listed. With each goes what a reader of the list needs to know: the texts that have
/// brought the customer there, normalised.
pub fn terms_of(customer: &CustomerView) -> BTreeMap<String, String> {
    let mut terms: BTreeMap<String, String> = BTreeMap::new();
    for text in customer_texts(customer) {
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

fn customer_texts(customer: &CustomerView) -> impl Iterator<Item = String> {
    [&customer.email, &customer.first_name, &customer.last_name].into_iter().flatten().map(|text| normalise(text))
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    typed: Text<100>,
    normalised: String,
}

impl SearchQuery {
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let typed = Text::parse(input)?;
        let normalised = normalise(typed.as_str());
        if normalised.chars().count() < SHORT && !normalised.chars().any(is_han) {
            Err(Invalid::new(format!("must be at least {SHORT} characters long; a Chinese character may stand alone")))
        } else {
            Ok(Self { typed, normalised })
        }
    }

    /// As it was typed.
    pub fn as_str(&self) -> &str {
        self.typed.as_str()
    }

    /// At least one term, each once: the longer ones first, and in the order of the text. Whichever customer the query matches is
    /// listed under each of them.
    pub fn terms(&self) -> Vec<String> {
        let (as_shown, dashless) = (chars(&self.normalised), chars(&without_dashes(&self.normalised)));
        let mut terms: Vec<&[char]> = long_pieces(&dashless).chain(short_pieces(&as_shown)).collect();
        if terms.is_empty() {
            terms = han_pieces(&as_shown).collect();
        }
        let mut seen = BTreeSet::new();
        terms.retain(|term| seen.insert(*term));
        terms.into_iter().map(String::from_iter).collect()
    }

    /// Whether a customer with these texts is looked for, the texts as [`terms_of`] has them.
    pub fn matches(&self, texts: &str) -> bool {
        texts.contains(&self.normalised)
    }

    /// The order whose id this is, with its dashes or without: no other has it as a part of its own.
    pub fn order_id(&self) -> Option<OrderId> {
        OrderId::parse(&self.normalised).filter(|id| self.matches_id(*id))
    }

    /// Whether any order's id can have this as a part, with the dashes where they stand in ids, or without.
    pub fn may_be_of_an_id(&self) -> bool {
        let query = self.normalised.as_bytes();
        let fits_at = |shape: &[u8]| {
            query.iter().zip(shape).all(|(byte, place)| match place {
                b'-' => *byte == b'-',
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            })
        };
        let fits = |shape: &str| shape.as_bytes().windows(query.len()).any(fits_at);
        fits(ID_SHAPE) || fits(&without_dashes(ID_SHAPE))
    }

    pub fn matches_id(&self, order_id: OrderId) -> bool {
        let (mut shown, mut dashless) = (Uuid::encode_buffer(), Uuid::encode_buffer());
        let (id, query) = (order_id.uuid(), self.normalised.as_str());
        id.simple().encode_lower(&mut dashless).contains(query)
            || id.hyphenated().encode_lower(&mut shown).contains(query)
    }

    pub fn finds(&self, view: &OrderView) -> bool {
        self.matches_id(view.id) || customer_texts(&view.customer).any(|text| self.matches(&text))
    }
}

#[cfg(test)]
mod tests {
    use icu_casemap::options::TitlecaseOptions;
    use icu_locale_core::LanguageIdentifier;
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;
    use crate::{
        customer::{Customer, Email, Profile},
        ids::CustomerId,
        spec::{at, created, order_id},
        text::is_visible,
    };

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
    fn a_search_sees_what_people_see() {
        let view = view_of(
            "anna@example.com",
            "An\u{200d}na می\u{200c}خواهم",
            "葛\u{e0100}城 \u{115f}\u{1161}\u{fe0f}b\u{34f}c",
        );
        for query in ["anna م", "an\u{ad}na", "میخواهم", "葛城", "葛\u{e0101}城", "\u{1161}bc"] {
            assert!(finds(query, &view), "{query:?}");
        }
        for query in ["\u{200b}\u{200b}\u{200b}", "\u{3164}\u{3164}\u{3164}", "ab\u{200d}"] {
            assert!(SearchQuery::parse(query).is_err(), "{query:?}");
        }
    }

    #[test]
    fn every_pair_of_cases_meets() {
        for (one, other) in [
            ("Groß", "GROẞ"),
            ("groẞe", "GROSSE"),
            ("ΌΔΟΣ", "όδος"),
            ("ᾳaa", "ᾼAA"),
            ("ıII", "iii"),
            ("ŉab", "ʼNab"),
            ("ꭰꭱꭲ", "ᎠᎡᎢ"),
        ] {
            assert!(
                finds(one, &view_of("a@b", other, "c")) && finds(other, &view_of("a@b", one, "c")),
                "{one} {other}"
            );
        }
    }

    #[test]
    fn a_query_is_bounded_also_in_what_its_characters_stand_for() {
        assert!(SearchQuery::parse(&"\u{fdfa}".repeat(5)).is_ok());
        assert!(SearchQuery::parse(&"\u{fdfa}".repeat(6)).is_err());
    }

    /// Every character that there is.
    fn all() -> impl Iterator<Item = char> {
        '\0'..=char::MAX
    }

    #[test]
    fn every_character_is_normalised_once_and_for_all() {
        let unstable: Vec<char> =
            all().filter(|&c| normalise(&normalise(&c.to_string())) != normalise(&c.to_string())).collect();
        assert!(unstable.is_empty(), "{unstable:?}");
    }

    #[test]
    fn a_character_and_its_other_cases_are_one() {
        let icu = CaseMapper::new();
        let no_language = LanguageIdentifier::UNKNOWN;
        let apart = |&c: &char| {
            let text = c.to_string();
            let simple =
                [icu.simple_uppercase(c), icu.simple_lowercase(c), icu.simple_titlecase(c), icu.simple_fold(c)];
            let title =
                icu.titlecase_segment_with_only_case_data_to_string(&text, &no_language, TitlecaseOptions::default());
            let full = [
                text.to_uppercase(),
                text.to_lowercase(),
                icu.uppercase_to_string(&text, &no_language).into_owned(),
                icu.lowercase_to_string(&text, &no_language).into_owned(),
                title.into_owned(),
                icu.fold_string(&text).into_owned(),
            ];
            let cases = simple.iter().map(char::to_string).chain(full);
            cases.filter(|case| *case != text).any(|case| normalise(&case) != normalise(&text))
        };
        let apart: Vec<char> = all().filter(apart).collect();
        assert!(apart.is_empty(), "{apart:?}");
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
        assert_eq!(terms("li@qq.com"), ["qq.co", "li@", "i@q", "@qq", "qq.", "q.c", ".co", "com"]);
        assert_eq!(terms("anna.liu@example")[..6], ["nna.l", "na.li", "liu@e", "u@exa", "xampl", "ann"]);
        assert_eq!(terms("-----------"), ["---"]);
    }

    /// Each is one item of the index, and one write unit.
    #[test]
    fn an_ordinary_customer_has_about_two_dozen_terms_with_short_texts() {
        let terms = terms_of(&view_of("anna.liu@example.com", "Anna", "Liu").customer);
        assert_eq!(terms.len(), 24);
        assert!(terms.values().all(|texts| texts.len() <= 32), "{terms:?}");
        let anonymous = OrderView::evolve(None, order_id(), &created(), 1, at(0)).unwrap();
        assert!(terms_of(&anonymous.customer).is_empty());
    }

    #[test]
    fn a_whole_id_is_a_key_and_what_cannot_be_a_part_of_one_is_not_looked_for_among_ids() {
        let query = |text: &str| SearchQuery::parse(text).unwrap();
        let shown = order_id().to_string();
        for whole in [&shown, &without_dashes(&shown), &shown.to_uppercase()] {
            assert_eq!(query(whole).order_id(), Some(order_id()), "{whole}");
            assert!(query(whole).may_be_of_an_id());
        }
        let dashless = without_dashes(&shown);
        let (first, rest) = dashless.split_at(3);
        for part in [shown.split_at(1).1, shown.split_at(8).0, &format!("{first}-{rest}"), "anna", "ad5-"] {
            assert_eq!(query(part).order_id(), None, "{part}");
        }
        for part in ["-4f", "01-2", "abcdef", "1234-5678-9abc-de", &"a".repeat(32)] {
            assert!(query(part).may_be_of_an_id(), "{part}");
        }
        for other in ["anna", "123g", "１２３ｚ", "2024-01-15", "---", "a-b-c", &"a".repeat(33), &"a".repeat(37)] {
            assert!(!query(other).may_be_of_an_id(), "{other}");
        }
    }

    fn some_text() -> impl Strategy<Value = String> {
        let c = prop_oneof![
            proptest::sample::select(
                "abABéßẞ-@. 王小明々ＡΣςİıŉᾳǰ가ﬃ\u{301}\u{342}\u{345}\u{1161}\u{200d}\u{34f}\u{fe0f}"
                    .chars()
                    .collect::<Vec<_>>()
            ),
            // No name has control characters.
            any::<char>().prop_map(|c| if c.is_control() { 'x' } else { c }),
        ];
        vec(c, 1..30).prop_map(String::from_iter)
    }

    #[test]
    fn what_can_be_seen_can_be_searched_for() {
        let lost: Vec<char> = all().filter(|&c| is_visible(c) && normalise(&c.to_string()).is_empty()).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }

    /// What the index keeps of a profile: terms, and the bytes of the texts under them. An ordinary one has 25 and 500. The
    /// worst of 12,000 that were made for it has 912 and 456,195: names of rare Chinese characters in their order, an e-mail
    /// address of signs that stand for words. By their lengths alone, no profile can have more than these.
    const TERMS_MAX: usize = 1_500;
    const BYTES_MAX: usize = 900_000;

    /// The longest beginning of the text that is accepted.
    fn longest<T>(text: &str, parse: impl Fn(&str) -> Result<T, Invalid>) -> Option<T> {
        let beginning = |length| text.chars().take(length).collect::<String>();
        (1..=text.chars().count().min(254)).rev().find_map(|length| parse(&beginning(length)).ok())
    }

    fn index_of(first_name: &str, last_name: &str, email: &str) -> Option<(usize, usize)> {
        let profile = Profile {
            first_name: longest(first_name, Text::parse)?,
            last_name: longest(last_name, Text::parse),
            email: longest(email, Email::parse)?,
            email_verified: false,
        };
        let customer = Customer { profile: Some(profile) };
        let view = CustomerView::of(CustomerId::stored("anna"), &customer, 1);
        let texts: Vec<String> = terms_of(&view).into_values().collect();
        Some((texts.len(), texts.iter().map(String::len).sum()))
    }

    /// Texts of characters that become many, that are long in bytes, or of which each is a term; near ones, because a mixture of
    /// all is the worst of nothing.
    fn worst_text() -> impl Strategy<Value = String> {
        let kinds = [
            ('\u{20000}', 600),
            ('一', 600),
            ('\u{f900}', 300),
            ('\u{3300}', 256),
            ('\u{fdf0}', 13),
            ('\u{1f80}', 128),
            ('ﬀ', 7),
        ];
        let near = prop_oneof![proptest::sample::select(kinds.to_vec()), (any::<char>(), 10..300_u32)].prop_map(
            |(first, many)| {
                let codes = u32::from(first)..u32::from(first).saturating_add(many);
                codes.filter_map(char::from_u32).collect::<Vec<_>>()
            },
        );
        // In their order each greatest piece is another one.
        (near, any::<bool>()).prop_flat_map(|(near, ordered)| {
            let ascending = String::from_iter(&near);
            let mixed = vec(proptest::sample::select(near), 254).prop_map(String::from_iter);
            mixed.prop_map(move |mixed| if ordered { ascending.clone() } else { mixed })
        })
    }

    proptest! {
        #[test]
        fn whom_a_query_matches_is_listed_under_each_of_its_terms(
            texts in [some_text(), some_text(), some_text()], which in 0..5_usize, from: Index, length in 1..30_usize,
        ) {
            let [email, first_name, last_name] = &texts;
            let view = view_of(email, first_name, last_name);
            let shown = view.id.to_string();
            let id_without_dashes = without_dashes(&shown);
            let whole = [email, first_name, last_name, &shown, &id_without_dashes][which];
            let part: String = whole.chars().skip(from.index(whole.chars().count())).take(length).collect();
            let Ok(query) = SearchQuery::parse(&part) else { return Ok(()) };
            let listed = terms_of(&view.customer);
            let terms = query.terms();
            prop_assert!(!terms.is_empty());
            if query.finds(&view) {
                let by_id = query.may_be_of_an_id() && query.matches_id(view.id);
                for term in terms {
                    prop_assert!(by_id || listed.get(&term).is_some_and(|texts| query.matches(texts)), "{term:?}");
                }
            } else {
                // A part of a text that is not a part of it once both are normalised: the cut went through a character.
                prop_assert!(!normalise(whole).contains(&normalise(part.trim())));
            }
        }

        #[test]
        fn the_index_entries_of_a_profile_are_bounded(
            first_name in worst_text(), last_name in worst_text(), domain in worst_text(),
        ) {
            if let Some((terms, bytes)) = index_of(&first_name, &last_name, &format!("a@{domain}")) {
                prop_assert!(terms <= TERMS_MAX && bytes <= BYTES_MAX, "{terms} {bytes}");
            }
        }

        #[test]
        fn what_is_normalised_stays_as_it_is(text in some_text()) {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }
    }
}
