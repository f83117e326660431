//! How an order asks the sandbox for something to go wrong: by its own data, as the table of docs/tutorial.md has it.

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
    fn every_way_of_the_tutorial_is_a_scenario_and_no_other() {
        let page = include_str!("../../../docs/tutorial.md");
        let (_, table) = page.split_once("| `orderctl trigger` | field | value |").unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let told: BTreeSet<[&str; 3]> = rows
            .map(|row| {
                let mut words = row.split('`').skip(1).step_by(2);
                std::array::from_fn(|_| words.next().unwrap())
            })
            .collect();
        let known = ALL.iter().map(|scenario| match scenario.postal_code {
            SHANGHAI => [scenario.name, "payment_method", scenario.payment_method],
            postal_code => [scenario.name, "postal_code", postal_code],
        });
        assert_eq!(told, known.collect());
    }
}
