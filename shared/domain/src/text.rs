//! Text that somebody typed: there is something to be seen, it is bounded, and what nobody sees is left out.

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup, JoinControl, VariationSelector},
};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// Why a value is not what its type asks for, in words for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// 1 to `MAX` characters, of which one can be seen.
///
/// Deserialising does not check again: what was stored once must stay readable when the rules change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let kept = kept(input);
        let text = kept.trim();
        if text.is_empty() {
            Err(Invalid::new("must not be empty"))
        } else if !text.chars().any(is_visible) {
            Err(Invalid::new("must have a character that can be seen"))
        } else if text.chars().count() > MAX || written_out(text) > MAX {
            Err(too_long(MAX))
        } else if text.chars().any(char::is_control) {
            Err(Invalid::new("must not contain control characters"))
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// For what may be left out: `null`, the empty text and a blank one are nothing, as no field at all is.
    pub fn parse_optional(input: Option<String>) -> Result<Option<Self>, Invalid> {
        input.filter(|text| !is_blank(text)).map(|text| Self::parse(&text)).transpose()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether nothing was typed.
pub fn is_blank(text: &str) -> bool {
    kept(text).trim().is_empty()
}

/// How many characters the text has with all those written out that stand for others: `㎏` for two, some for eighteen. An index
/// has to hold these.
pub(crate) fn written_out(text: &str) -> usize {
    text.nfkc().count()
}

pub(crate) fn too_long(max: usize) -> Invalid {
    Invalid::new(format!("must be at most {max} characters long, also where a character stands for several"))
}

/// Without what is not seen and does nothing for what is: soft hyphens, zero-width spaces, marks of direction and order, tags.
fn kept(text: &str) -> String {
    text.chars().filter(|&c| !is_unseen(c) || is_needed(c)).collect()
}

/// Whether the character leaves no trace of its own, wherever it stands. Those around an annotation are not ignorable by
/// default, because a program that lays it out should know them; none does.
pub(crate) fn is_unseen(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c) || matches!(c, '\u{fff9}'..='\u{fffb}')
}

/// Whether something stands in it that nobody sees and no script needs: it could make a text look like another one.
pub fn has_unseen(text: &str) -> bool {
    text.chars().any(|c| is_unseen(c) && !is_needed(c))
}

/// Whether some script is written wrongly without it, though it is unseen: it joins, parts or picks the forms of others. Beside
/// what has a property there are the grapheme joiner, the fillers of Hangul, and the vowel separator of Mongolian.
fn is_needed(c: char) -> bool {
    CodePointSetData::new::<JoinControl>().contains(c)
        || CodePointSetData::new::<VariationSelector>().contains(c)
        || matches!(c, '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{ffa0}')
}

/// Whether the character by itself shows what somebody meant. Some of these categories are blank, or stand for what was lost:
/// the empty Braille cell, a null notehead, blanks among hieroglyphs, an object, a character that could not be read.
pub(crate) fn is_visible(c: char) -> bool {
    let shows = is_of(c, GeneralCategoryGroup::Letter)
        || is_of(c, GeneralCategoryGroup::Number)
        || is_of(c, GeneralCategoryGroup::Punctuation)
        || is_of(c, GeneralCategoryGroup::Symbol);
    shows
        && !is_unseen(c)
        && !matches!(c, '\u{2800}' | '\u{fffc}' | '\u{fffd}' | '\u{13441}' | '\u{13442}' | '\u{1d159}')
}

/// Whether the character shows on the one before.
pub(crate) fn is_mark(c: char) -> bool {
    is_of(c, GeneralCategoryGroup::Mark) && !is_unseen(c)
}

fn is_of(c: char, group: GeneralCategoryGroup) -> bool {
    group.contains(CodePointMapData::<GeneralCategory>::new().get(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_trimmed_and_bounded_in_characters_not_bytes() {
        assert_eq!(Text::<3>::parse(" 订单号 ").unwrap().as_str(), "订单号");
        assert!(Text::<2>::parse("订单号").is_err());
        assert!(Text::<9>::parse(" \t ").is_err());
        assert!(Text::<9>::parse("a\u{0}b").is_err());
    }

    fn parsed(text: &str) -> Option<String> {
        Text::<100>::parse(text).ok().map(|text| text.as_str().to_owned())
    }

    #[test]
    fn what_nobody_sees_is_left_out() {
        for (typed, kept) in [
            ("\u{feff}Anna", "Anna"),
            ("\u{200b} An\u{ad}na \u{2060}", "Anna"),
            ("\u{202e}an\u{2066}na\u{200f}", "anna"),
            ("an\u{fff9}na\u{e0041}", "anna"),
            // Arabic has signs that are of the category of formats, and seen.
            ("\u{600}١", "\u{600}١"),
        ] {
            assert_eq!(parsed(typed).as_deref(), Some(kept), "{typed:?}");
        }
    }

    #[test]
    fn what_a_script_needs_stays() {
        for text in [
            "می\u{200c}خواهم",
            "ക്\u{200d}",
            "葛\u{e0100}城",
            "❤\u{fe0f}",
            "\u{1112}\u{1160}",
            "c\u{34f}h",
            "ᠠ\u{180e}ᠨ\u{180b}",
        ] {
            assert_eq!(parsed(text).as_deref(), Some(text), "{text:?}");
        }
    }

    #[test]
    fn a_text_has_something_to_be_seen() {
        for unseen in [
            "\u{200b}",
            "\u{ad}",
            "\u{feff} \u{2060}",
            "\u{200d}\u{fe0f}",
            "\u{3164}",
            "\u{115f}\u{1160}",
            "\u{2800}",
            "\u{fffc}",
            "\u{fffd}\u{fffd}",
            "\u{301}",
            "\u{e000}",
            "\u{378}",
        ] {
            assert_eq!(parsed(unseen), None, "{unseen:?}");
        }
        for seen in ["王", "7", ".", "💐", "a\u{301}", "i\u{fffd}"] {
            assert_eq!(parsed(seen).as_deref(), Some(seen));
        }
    }

    #[test]
    fn a_text_is_bounded_also_in_what_its_characters_stand_for() {
        assert_eq!(parsed(&"\u{fdfa}".repeat(100)), None);
        assert!(parsed(&"\u{fdfa}".repeat(5)).is_some());
        assert_eq!(parsed(&"\u{fdfa}".repeat(6)), None);
    }

    /// Of every character that there is.
    #[test]
    fn a_character_is_seen_or_kept_or_dropped_or_refused() {
        for c in '\0'..=char::MAX {
            let alone = parsed(&c.to_string());
            assert_eq!(alone.is_some(), is_visible(c), "{c:?} alone");
            assert_eq!(is_blank(&c.to_string()), c.is_whitespace() || is_unseen(c) && !is_needed(c), "{c:?}");
            let between = parsed(&format!("a{c}b"));
            let expected = if c.is_control() {
                None
            } else if is_unseen(c) && !is_needed(c) {
                Some("ab".to_owned())
            } else {
                Some(format!("a{c}b"))
            };
            assert_eq!(between, expected, "{c:?} between others");
            let once = parsed(&format!("{c} a {c}b{c} "));
            assert_eq!(once.as_deref().map_or(once.clone(), parsed), once, "{c:?}: what was parsed stays as it is");
        }
    }
}
