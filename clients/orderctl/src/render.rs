//! What people read: tables, and the story of an order. Times are in UTC, money in its currency's own unit, ids whole.

use chrono::{DateTime, Utc};
use order_client::{
    Currency, Customer, DeadLetter, FailedLetter, FoundOrder, Ledger, LedgerBooks, ListedOrder, Money, Order,
    PastEvent, Product, Stats, TimelineEntry, TimelineNext,
};
use unicode_width::UnicodeWidthStr;

/// Whether words are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Coloured,
}

impl Style {
    pub(crate) fn of(terminal: bool, no_color: Option<&str>, term: Option<&str>) -> Self {
        let wanted = no_color.is_none_or(str::is_empty) && term != Some("dumb");
        if terminal && wanted { Self::Coloured } else { Self::Plain }
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn error(self) -> String {
        self.paint("1;31", "error:")
    }

    /// A status, or another word that says how it stands.
    fn status(self, word: &str) -> String {
        match word {
            "confirmed" | "completed" | "delivered" => self.paint("32", word),
            "needs_attention" | "failed" => self.paint("1;31", word),
            "rejected" | "cancelled" | "cancelling" => self.paint("33", word),
            _ => word.to_owned(),
        }
    }
}

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Left(&'static str),
    Right(&'static str),
    /// On the left, and coloured by what it says.
    Status(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Self::Left(title) | Self::Right(title) | Self::Status(title) => title,
        }
    }
}

/// Rows under titles, two spaces between columns. What has no row has no titles either.
fn table<const N: usize>(style: Style, columns: [Column; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let mut widths = columns.map(|column| column.title().width());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    let line = |cells: [&str; N], title: bool| {
        let cells = columns.iter().zip(widths).zip(cells).map(|((column, width), cell)| {
            let space = " ".repeat(width.saturating_sub(cell.width()));
            let painted = match column {
                _ if title => style.bold(cell),
                Column::Status(_) => style.status(cell),
                Column::Left(_) | Column::Right(_) => cell.to_owned(),
            };
            match column {
                Column::Right(_) => format!("{space}{painted}"),
                Column::Left(_) | Column::Status(_) => format!("{painted}{space}"),
            }
        });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let titles = line(columns.map(Column::title), true);
    rows.iter().fold(titles, |text, row| text + &line(row.each_ref().map(String::as_str), false))
}

/// What customers have typed must not move the cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// An amount in minor units; one beyond what money can be is still told.
fn money(amount: u64, currency: Currency) -> String {
    Money::new(amount, currency)
        .map_or_else(|_| format!("{amount} minor units of {currency}"), |money| money.to_string())
}

fn name(customer: &Customer) -> String {
    let names = [customer.first_name.as_deref(), customer.last_name.as_deref()];
    let names: Vec<&str> = names.into_iter().flatten().collect();
    if names.is_empty() { customer.id.to_string() } else { names.join(" ") }
}

pub(crate) fn found(style: Style, orders: &[FoundOrder]) -> String {
    let columns = [
        Column::Left("ORDER"),
        Column::Status("STATUS"),
        Column::Right("TOTAL"),
        Column::Left("PLACED (UTC)"),
        Column::Left("CUSTOMER"),
    ];
    let row = |order: &FoundOrder| {
        let FoundOrder { id, status, total_amount, created_at, customer, .. } = order;
        [id.to_string(), status.clone(), total_amount.to_string(), time(*created_at), name(customer)]
    };
    table(style, columns, &orders.iter().map(row).collect::<Vec<_>>())
}

pub(crate) fn attention(style: Style, orders: &[ListedOrder]) -> String {
    let columns = [
        Column::Left("ORDER"),
        Column::Left("STEP"),
        Column::Left("ERROR"),
        Column::Left("SINCE (UTC)"),
        Column::Right("TOTAL"),
        Column::Left("CUSTOMER"),
    ];
    let row = |order: &ListedOrder| {
        let (step, reason) =
            order.attention.as_ref().map(|stuck| (stuck.step.clone(), stuck.reason.clone())).unwrap_or_default();
        let ListedOrder { id, updated_at, total_amount, customer, .. } = order;
        [id.to_string(), step, reason, time(*updated_at), total_amount.to_string(), name(customer)]
    };
    table(style, columns, &orders.iter().map(row).collect::<Vec<_>>())
}

/// Which events of the stream these are, where it is known.
fn events_of(DeadLetter { first_sequence, last_sequence, .. }: &DeadLetter) -> String {
    match (first_sequence, last_sequence) {
        (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
        (Some(only), _) | (None, Some(only)) => only.to_string(),
        (None, None) => String::new(),
    }
}

pub(crate) fn letters(style: Style, letters: &[DeadLetter]) -> String {
    let columns = [
        Column::Left("LETTER"),
        Column::Left("EVENTS"),
        Column::Left("ERROR"),
        Column::Left("SINCE (UTC)"),
        Column::Right("TRIES"),
        Column::Left("WHAT"),
    ];
    let row = |letter: &DeadLetter| {
        let DeadLetter { id, error_type, error, since, tries, .. } = letter;
        [id.clone(), events_of(letter), error_type.clone(), time(*since), tries.to_string(), error.clone()]
    };
    table(style, columns, &letters.iter().map(row).collect::<Vec<_>>())
}

pub(crate) fn settled_letters(style: Style, letters: &[DeadLetter]) -> String {
    let columns = [
        Column::Left("LETTER"),
        Column::Left("EVENTS"),
        Column::Left("ERROR"),
        Column::Left("OUTCOME"),
        Column::Left("AT (UTC)"),
        Column::Left("BY"),
        Column::Left("REASON"),
    ];
    let row = |letter: &DeadLetter| {
        let (id, events, error) = (letter.id.clone(), events_of(letter), letter.error_type.clone());
        letter.settlement.as_ref().map(|settled| {
            let (outcome, at) = (settled.outcome.clone(), time(settled.at));
            [id, events, error, outcome, at, settled.by.clone(), settled.reason.clone()]
        })
    };
    table(style, columns, &letters.iter().filter_map(row).collect::<Vec<_>>())
}

pub(crate) fn failed_letters(style: Style, failed: &[FailedLetter]) -> String {
    let columns = [Column::Left("LETTER"), Column::Left("ERROR"), Column::Left("WHAT")];
    let row = |FailedLetter { id, error_type, error }: &FailedLetter| [id.clone(), error_type.clone(), error.clone()];
    table(style, columns, &failed.iter().map(row).collect::<Vec<_>>())
}

pub(crate) fn products(style: Style, products: &[Product]) -> String {
    let columns = [Column::Left("PRODUCT"), Column::Right("PRICE"), Column::Right("STOCK"), Column::Left("NAME")];
    let row = |Product { id, name, price, stock }: &Product| {
        [id.to_string(), price.to_string(), stock.to_string(), name.clone()]
    };
    table(style, columns, &products.iter().map(row).collect::<Vec<_>>())
}

/// First how many orders, then what they came to, in each currency.
pub(crate) fn stats(style: Style, Stats { by, periods }: &Stats) -> String {
    let period = |from: DateTime<Utc>| if by == "day" { from.format("%Y-%m-%d").to_string() } else { time(from) };
    let columns = [
        Column::Left("FROM (UTC)"),
        Column::Right("PLACED"),
        Column::Right("CONFIRMED"),
        Column::Right("REJECTED"),
        Column::Right("CANCELLED"),
        Column::Right("REFUNDED"),
    ];
    let row = |from: DateTime<Utc>, [placed, confirmed, rejected, cancelled, refunded]: [String; 5]| {
        [period(from), placed, confirmed, rejected, cancelled, refunded]
    };
    let counts = periods.iter().map(|each| {
        let counted = [each.placed, each.confirmed, each.rejected, each.cancelled, each.refunded];
        row(each.from, counted.map(|count| count.to_string()))
    });
    let amounts = periods.iter().flat_map(|each| each.amounts.iter().map(move |amounts| (each.from, amounts)));
    let amounts = amounts.map(|(from, each)| {
        let amounts = [each.placed, each.confirmed, each.rejected, each.cancelled, each.refunded];
        row(from, amounts.map(|amount| money(amount, each.currency)))
    });
    let tables =
        [table(style, columns, &counts.collect::<Vec<_>>()), table(style, columns, &amounts.collect::<Vec<_>>())];
    tables.into_iter().filter(|table| !table.is_empty()).collect::<Vec<_>>().join("\n")
}

/// A line of the story.
pub(crate) fn entry(TimelineEntry { at, who, what, why, .. }: &TimelineEntry) -> String {
    let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    format!("{}\n", printable(&format!("{} UTC  {who:<8}  {what}{why}", time(*at))))
}

pub(crate) fn next(style: Style, status: &str, TimelineNext { what, waits_for, by, .. }: &TimelineNext) -> String {
    let by = by.map(|by| format!(", by {} UTC", time(by))).unwrap_or_default();
    let waits_for = if waits_for == "nobody" { String::new() } else { format!(" (waits for {waits_for}{by})") };
    format!("{}: {}{waits_for}\n", style.status(status), printable(what))
}

/// An order, and what is beside it.
pub(crate) fn order(style: Style, order: &Order, ledger: Option<&Ledger>, events: Option<&[PastEvent]>) -> String {
    let Order { customer, shipping_address: address, .. } = order;
    let mut facts = vec![
        ("order", order.id.to_string()),
        ("status", format!("{}, at version {}", style.status(&order.status), order.version)),
    ];
    if let Some(stuck) = &order.attention {
        facts.push(("stuck at", printable(&format!("{}: {}; it was {}", stuck.step, stuck.reason, stuck.interrupted))));
    }
    if let Some(rejection) = &order.rejection {
        facts.push(("rejected", printable(&format!("{}: {}", rejection.code, rejection.detail))));
    }
    if let Some(cancellation) = &order.cancellation {
        facts.push(("cancelled", printable(&cancellation.reason)));
    }
    let email = customer.email.as_ref().map(|email| format!(" <{email}>")).unwrap_or_default();
    let id = if customer.first_name.is_some() { format!(", {}", customer.id) } else { String::new() };
    facts.push(("customer", printable(&format!("{}{email}{id}", name(customer)))));
    let parts = [&address.city, &address.state, &address.postal_code];
    let parts = [Some(address.street.as_str())].into_iter().chain(parts.map(|part| part.as_deref()));
    let parts: Vec<&str> = parts.chain([Some(address.country.as_str())]).flatten().collect();
    facts.push(("ships to", printable(&parts.join(", "))));
    facts.push(("placed", format!("{} UTC", time(order.created_at))));
    facts.push(("changed", format!("{} UTC", time(order.updated_at))));
    if let Some(payment) = &order.payment {
        let id = payment.transaction_id.as_ref().map(|id| format!(", {id}")).unwrap_or_default();
        facts.push(("payment", format!("{}, {}{id}", style.status(&payment.status), payment.amount)));
    }
    if let Some(shipment) = &order.shipment {
        let (carrier, number) = (printable(&shipment.carrier), printable(&shipment.tracking_number));
        facts.push(("parcel", format!("{}, {carrier} {number}", style.status(&shipment.status))));
    }
    facts.push(("total", order.total_amount.to_string()));
    let facts = facts.into_iter().map(|(what, fact)| format!("{}  {fact}\n", style.bold(&format!("{what:<9}"))));

    let items = order.items.iter().map(|item| {
        [item.quantity.to_string(), item.product_id.to_string(), item.unit_price.to_string(), item.name.clone()]
    });
    let columns = [Column::Right("PIECES"), Column::Left("PRODUCT"), Column::Right("PRICE"), Column::Left("NAME")];
    let items = table(style, columns, &items.collect::<Vec<_>>());
    let refunds = order.refunds.iter().map(|refund| {
        let amount = refund.amount.to_string();
        [refund.refund_id.to_string(), amount, refund.status.clone(), time(refund.requested_at), refund.reason.clone()]
    });
    let columns = [
        Column::Left("REFUND"),
        Column::Right("AMOUNT"),
        Column::Status("STATUS"),
        Column::Left("REQUESTED (UTC)"),
        Column::Left("REASON"),
    ];
    let refunds = table(style, columns, &refunds.collect::<Vec<_>>());
    let books = ledger.map(|ledger| books(style, ledger)).unwrap_or_default();
    let events = events.map(|events| history(style, events)).unwrap_or_default();
    let parts = [facts.collect(), items, refunds, books, events];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

fn books(style: Style, Ledger { currency, order, providers, agrees, .. }: &Ledger) -> String {
    let reserved = |books: &LedgerBooks| {
        let lines = books.reserved.iter().map(|line| format!("{} {}", line.quantity, line.product_id));
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() { "nothing".to_owned() } else { lines.join(", ") }
    };
    let money = |amount| money(amount, *currency);
    let rows = [
        ["charged".to_owned(), money(order.charged), money(providers.charged)],
        ["refunded".to_owned(), money(order.refunded), money(providers.refunded)],
        ["reserved".to_owned(), reserved(order), reserved(providers)],
        ["parcel".to_owned(), order.shipment.clone(), providers.shipment.clone()],
    ];
    let columns = [Column::Left("BOOKS"), Column::Left("ORDER"), Column::Left("PROVIDERS")];
    let agree = if *agrees { "They agree." } else { "They do not agree." };
    format!("{}{agree}\n", table(style, columns, &rows))
}

fn history(style: Style, events: &[PastEvent]) -> String {
    let row = |event: &PastEvent| {
        [event.version.to_string(), time(event.occurred_at), event.event_type.clone(), event.actor.clone()]
    };
    let columns = [Column::Right("VERSION"), Column::Left("AT (UTC)"), Column::Left("EVENT"), Column::Left("WHO")];
    table(style, columns, &events.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "7e108758-d8c7-5ab4-90d5-4d493c88ba33";

    fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn anna() -> Value {
        json!({"id": "5f1c", "version": 2, "first_name": "Anna", "last_name": "王", "email": "anna@example.com", "email_verified": true})
    }

    fn row(status: &str, currency: &str, customer: &Value) -> Value {
        json!({"id": ID, "status": status, "total_amount": {"amount": 1999, "currency": currency}, "item_count": 1,
            "created_at": "2026-03-01T08:00:00.123456789Z", "customer": customer,
            "attention": {"step": "refund-payment", "reason": "RequestRefused", "interrupted": "cancelling"},
            "updated_at": "2026-03-01T08:09:12Z"})
    }

    fn stuck() -> Value {
        json!({
            "id": ID, "status": "needs_attention", "version": 8, "customer": anna(),
            "items": [{"product_id": "cup-celadon", "name": "Celadon cup", "quantity": 1, "unit_price": {"amount": 1999, "currency": "CNY"}}],
            "shipping_address": {"street": "1 Nanjing Road", "city": "Shanghai", "state": null, "country": "CN", "postal_code": "200001"},
            "payment": {"transaction_id": "ch_1", "status": "completed", "amount": {"amount": 1999, "currency": "CNY"},
                "processed_at": "2026-03-01T08:00:00Z"},
            "shipment": {"shipment_id": "shp_02", "carrier": "sandbox", "tracking_number": "SB0002", "status": "cancelled",
                "estimated_delivery": "2026-03-04T08:00:00Z", "delivered_at": null},
            "refunds": [{"refund_id": ID, "amount": {"amount": 500, "currency": "CNY"}, "reason": "damp", "status": "failed",
                "requested_at": "2026-03-01T08:05:00Z"}],
            "total_amount": {"amount": 1999, "currency": "CNY"}, "rejection": null, "cancellation": {"reason": "changed my mind"},
            "attention": {"step": "refund-payment", "reason": "RequestRefused", "interrupted": "cancelling"},
            "created_at": "2026-03-01T08:00:00.123Z", "updated_at": "2026-03-01T08:09:12.70011Z"
        })
    }

    #[test]
    fn columns_stand_below_each_other_however_wide_a_letter_is() {
        let nobody = json!({"id": "auth0|7", "version": 0, "first_name": null, "last_name": null, "email": null, "email_verified": false});
        let orders = [of(row("confirmed", "CNY", &anna())), of(row("needs_attention", "JPY", &nobody))];
        let told = "\
ORDER                                 STATUS               TOTAL  PLACED (UTC)         CUSTOMER
7e108758-d8c7-5ab4-90d5-4d493c88ba33  confirmed        19.99 CNY  2026-03-01 08:00:00  Anna 王
7e108758-d8c7-5ab4-90d5-4d493c88ba33  needs_attention   1999 JPY  2026-03-01 08:00:00  auth0|7
";
        assert_eq!(found(Style::Plain, &orders), told);
        assert_eq!(found(Style::Plain, &[]), "");
        let wide = [["王王".to_owned(), "x".to_owned()], ["abc".to_owned(), "y".to_owned()]];
        let told = "A     B\n王王  x\nabc   y\n";
        assert_eq!(table(Style::Plain, [Column::Left("A"), Column::Left("B")], &wide), told);
    }

    #[test]
    fn what_waits_for_a_person_says_where_why_and_since_when() {
        let told = "\
ORDER                                 STEP            ERROR           SINCE (UTC)              TOTAL  CUSTOMER
7e108758-d8c7-5ab4-90d5-4d493c88ba33  refund-payment  RequestRefused  2026-03-01 08:09:12  19.99 CNY  Anna 王
";
        assert_eq!(attention(Style::Plain, &[of(row("needs_attention", "CNY", &anna()))]), told);
    }

    #[test]
    fn a_dead_letter_says_what_waits_and_a_settled_one_who_ended_that() {
        let letter = |id: &str, first: Value, last: Value, settlement: Value| -> DeadLetter {
            of(
                json!({"id": id, "kind": "parked", "aggregate_type": "order", "aggregate_id": "7", "first_sequence": first,
                "last_sequence": last, "error_type": "Unreadable", "error": "no \u{1b}[31m event", "since": "2026-03-01T08:00:00Z",
                "tries": 3, "last_tried_at": null, "settlement": settlement}),
            )
        };
        let waiting = [
            letter("order/7", 5.into(), 7.into(), Value::Null),
            letter("message/9", Value::Null, Value::Null, Value::Null),
        ];
        let told = "\
LETTER     EVENTS  ERROR       SINCE (UTC)          TRIES  WHAT
order/7    5 to 7  Unreadable  2026-03-01 08:00:00      3  no ?[31m event
message/9          Unreadable  2026-03-01 08:00:00      3  no ?[31m event
";
        assert_eq!(letters(Style::Plain, &waiting), told.replace('?', "\u{fffd}"));
        let settlement = json!({"outcome": "discarded", "by": "staff:anna", "reason": "nobody wants it", "at": "2026-03-01T09:00:00Z"});
        let told = "\
LETTER   EVENTS  ERROR       OUTCOME    AT (UTC)             BY          REASON
order/7  5       Unreadable  discarded  2026-03-01 09:00:00  staff:anna  nobody wants it
";
        assert_eq!(settled_letters(Style::Plain, &[letter("order/7", 5.into(), 5.into(), settlement)]), told);
    }

    #[test]
    fn an_order_is_told_with_its_books_and_its_events() {
        let ledger: Ledger = of(json!({"order_id": ID, "currency": "CNY", "agrees": false,
            "order": {"charged": 1999, "refunded": 0, "reserved": [{"product_id": "cup-celadon", "quantity": 1}], "shipment": "none"},
            "providers": {"charged": 1999, "refunded": 1999, "reserved": [], "shipment": "cancelled"}}));
        let event: PastEvent = of(
            json!({"version": 8, "type": "OrderFlagged", "data": {}, "occurred_at": "2026-03-01T08:09:12.7Z",
            "actor": "service:flag-order", "command_id": ID, "correlation_id": "c", "causation_id": "c", "traceparent": null}),
        );
        let told = "\
order      7e108758-d8c7-5ab4-90d5-4d493c88ba33
status     needs_attention, at version 8
stuck at   refund-payment: RequestRefused; it was cancelling
cancelled  changed my mind
customer   Anna 王 <anna@example.com>, 5f1c
ships to   1 Nanjing Road, Shanghai, 200001, CN
placed     2026-03-01 08:00:00 UTC
changed    2026-03-01 08:09:12 UTC
payment    completed, 19.99 CNY, ch_1
parcel     cancelled, sandbox SB0002
total      19.99 CNY

PIECES  PRODUCT          PRICE  NAME
     1  cup-celadon  19.99 CNY  Celadon cup

REFUND                                  AMOUNT  STATUS  REQUESTED (UTC)      REASON
7e108758-d8c7-5ab4-90d5-4d493c88ba33  5.00 CNY  failed  2026-03-01 08:05:00  damp

BOOKS     ORDER          PROVIDERS
charged   19.99 CNY      19.99 CNY
refunded  0.00 CNY       19.99 CNY
reserved  1 cup-celadon  nothing
parcel    none           cancelled
They do not agree.

VERSION  AT (UTC)             EVENT         WHO
      8  2026-03-01 08:09:12  OrderFlagged  service:flag-order
";
        assert_eq!(order(Style::Plain, &of(stuck()), Some(&ledger), Some(&[event])), told);
    }

    #[test]
    fn money_and_counts_of_a_time_are_told_apart() {
        let stats: Stats = of(json!({"by": "day", "periods": [
            {"from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z", "placed": 3, "confirmed": 2, "rejected": 1, "cancelled": 0, "refunded": 1,
             "amounts": [{"currency": "CNY", "placed": 5997, "confirmed": 3998, "rejected": 1999, "cancelled": 0, "refunded": 500}]},
            {"from": "2026-03-02T00:00:00Z", "to": "2026-03-03T00:00:00Z", "placed": 0, "confirmed": 0, "rejected": 0, "cancelled": 0, "refunded": 0,
             "amounts": []}]}));
        let told = "\
FROM (UTC)  PLACED  CONFIRMED  REJECTED  CANCELLED  REFUNDED
2026-03-01       3          2         1          0         1
2026-03-02       0          0         0          0         0

FROM (UTC)     PLACED  CONFIRMED   REJECTED  CANCELLED  REFUNDED
2026-03-01  59.97 CNY  39.98 CNY  19.99 CNY   0.00 CNY  5.00 CNY
";
        assert_eq!(super::stats(Style::Plain, &stats), told);
    }

    #[test]
    fn the_catalogue_is_told() {
        let tea = json!({"id": "tea-white", "name": "White tea, 100 g", "price": {"amount": 8800, "currency": "CNY"}, "stock": 40});
        let told = "PRODUCT        PRICE  STOCK  NAME\ntea-white  88.00 CNY     40  White tea, 100 g\n";
        assert_eq!(products(Style::Plain, &[of(tea)]), told);
    }

    #[test]
    fn a_story_is_told_in_lines_and_ends_with_what_comes_next() {
        let placed = json!({"version": 1, "at": "2026-03-01T08:00:00Z", "who": "customer", "what": "The order was placed.", "why": "a\u{1b}[2Jgift"});
        let told = "2026-03-01 08:00:00 UTC  customer  The order was placed. (a\u{fffd}[2Jgift)\n";
        assert_eq!(entry(&of(placed)), told, "and nothing moves the cursor");
        let next_of = |waits_for: &str, by: Value| {
            let what = "The payment is being taken.";
            let told = of(json!({"what": what, "code": "take_payment", "waits_for": waits_for, "by": by}));
            next(Style::Plain, "reserved", &told)
        };
        let told = "reserved: The payment is being taken. (waits for service, by 2026-03-02 08:00:00 UTC)\n";
        assert_eq!(next_of("service", json!("2026-03-02T08:00:00Z")), told);
        assert_eq!(next_of("nobody", Value::Null), "reserved: The payment is being taken.\n");
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        assert_eq!(Style::of(true, None, Some("xterm")), Style::Coloured);
        assert_eq!(Style::of(true, Some(""), None), Style::Coloured);
        for (terminal, no_color, term) in [(false, None, None), (true, Some("1"), None), (true, None, Some("dumb"))] {
            assert_eq!(Style::of(terminal, no_color, term), Style::Plain);
        }
        let coloured = found(Style::Coloured, &[of(row("needs_attention", "CNY", &anna()))]);
        assert!(coloured.contains("\u{1b}[1;31mneeds_attention\u{1b}[0m  "), "{coloured:?}");
    }
}
