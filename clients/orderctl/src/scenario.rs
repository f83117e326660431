//! How an order asks the sandbox for something to go wrong: by its own data, as the README's table has it.

use clap::{ValueEnum, builder::PossibleValue};

/// One of the sandbox's ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scenario {
    name: &'static str,
    help: &'static str,
    pub(crate) payment_method: &'static str,
    pub(crate) postal_code: &'static str,
    /// It goes wrong when the confirmed order is cancelled.
    pub(crate) then_cancel: bool,
}

const VISA: &str = "pm_card_visa";
const SHANGHAI: &str = "200001";

const fn charge(name: &'static str, help: &'static str, payment_method: &'static str) -> Scenario {
    Scenario { name, help, payment_method, postal_code: SHANGHAI, then_cancel: false }
}

const fn parcel(name: &'static str, help: &'static str, postal_code: &'static str) -> Scenario {
    Scenario { name, help, payment_method: VISA, postal_code, then_cancel: false }
}

const ALL: [Scenario; 11] = [
    charge("declined", "The charge is declined: rejected", "pm_card_declined"),
    charge("insufficient-funds", "The same, for want of money: rejected", "pm_card_insufficient_funds"),
    charge(
        "charge-times-out",
        "The charge is made, its answer is lost: confirmed, with one charge",
        "pm_charged_then_timeout",
    ),
    charge("charge-fails-twice", "The third try makes it: confirmed", "pm_fails_twice"),
    charge("charge-is-slow", "It takes two seconds more: confirmed", "pm_slow"),
    Scenario {
        then_cancel: true,
        ..charge("refund-fails", "It is cancelled, and the refund refused: needs attention", "pm_refund_fails")
    },
    Scenario {
        then_cancel: true,
        ..charge(
            "refund-fails-twice",
            "It is cancelled, and the third try refunds it: cancelled",
            "pm_refund_fails_twice",
        )
    },
    parcel(
        "carrier-refuses",
        "The carrier refuses the paid parcel: rejected, and the money goes back",
        "SANDBOX-REFUSE",
    ),
    parcel(
        "shipment-times-out",
        "The shipment is made, its answer is lost: confirmed, with one parcel",
        "SANDBOX-TIMEOUT",
    ),
    Scenario {
        then_cancel: true,
        ..parcel("carrier-keeps", "It is cancelled, and the carrier keeps the parcel: needs attention", "SANDBOX-KEEP")
    },
    parcel("customer-is-not-told", "No message can be sent: confirmed all the same", "SANDBOX-MUTE"),
];

impl ValueEnum for Scenario {
    fn value_variants<'a>() -> &'a [Self] {
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name).help(self.help))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_way_of_the_readme_is_a_scenario_and_no_other() {
        let readme = include_str!("../../../README.md");
        let (_, table) = readme.split_once("| place this | what happens |").unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        let placed = table.split('`').filter_map(|code| code.strip_prefix("place "));
        let words: BTreeSet<(&str, &str)> =
            placed.map(|words| words.split_once(' ').unwrap_or((words, SHANGHAI))).collect();
        assert_eq!(words, ALL.iter().map(|scenario| (scenario.payment_method, scenario.postal_code)).collect());
    }
}
