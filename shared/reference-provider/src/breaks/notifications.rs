use super::{Break, again_when_at_once, another_key, asks, once_per_order};

pub(super) const BREAKS: &[Break] = &[
    asks(
        "send",
        "a_repeated_notification_gets_the_first_id",
        "a message that is asked for again is sent again",
        &["a_notification_that_comes_twenty_times_at_once_is_sent_once"],
        |now, asked| {
            if now.times > 1 {
                asked["idempotency_key"] = another_key();
            }
        },
    ),
    asks(
        "send",
        "a_notification_that_comes_twenty_times_at_once_is_sent_once",
        "a message that is asked for again while the first is under way is sent again",
        &[],
        again_when_at_once,
    ),
    asks("send", "two_keys_send_two_messages", "an order gets one message, whatever the key", &[], once_per_order),
];
