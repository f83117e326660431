//! Orders as they may come in.

use chrono::{DateTime, Utc};
use domain::{
    address::{CountryCode, ShippingAddress},
    ids::{CustomerId, PaymentMethod, ProductId},
    money::{Currency, Money, Quantity},
    order::create::{CreateOrder, RequestedItem, RequestedItems},
    product::Product,
    text::Text,
};
use uuid::Uuid;

const ADDRESSES: [[&str; 5]; 4] = [
    ["南京东路 100 号", "上海", "上海", "CN", "200001"],
    ["中关村大街 27 号", "北京", "北京", "CN", "100080"],
    ["Torstraße 12", "Berlin", "Berlin", "DE", "10119"],
    ["350 Fifth Avenue", "New York", "NY", "US", "10118"],
];
const PRODUCTS: [(&str, &str, u64); 8] = [
    ("tea-longjing-250", "龙井茶 250 克", 12_800),
    ("tea-puer-357", "普洱茶饼 357 克", 26_800),
    ("cup-celadon", "青瓷茶杯", 5_900),
    ("kettle-iron", "Cast iron kettle, 1.2 l", 45_900),
    ("tray-bamboo", "Bamboo tea tray", 19_900),
    ("scoop-brass", "Brass tea scoop", 3_500),
    ("caddy-tin", "Tin caddy for 500 g of tea", 7_900),
    ("scale-pocket", "Pocket scale, 0.1 g", 9_900),
];

/// The customer with the most orders.
pub(crate) fn wholesaler() -> CustomerId {
    customer_id(0)
}

/// A small order as a customer would place it.
pub(crate) fn small_order() -> CreateOrder {
    order_of(&mut Dice::new(0), &wholesaler(), 1, Utc::now())
}

/// As an issuer of tokens would name them: version 4 UUIDs in text, but the same in every run.
fn customer_id(number: usize) -> CustomerId {
    CustomerId::parse(&Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes()).to_string()).unwrap()
}

fn order_of(dice: &mut Dice, customer: &CustomerId, lines: usize, now: DateTime<Utc>) -> CreateOrder {
    let first = dice.below(PRODUCTS.len());
    let products = PRODUCTS.iter().cycle().skip(first).take(lines);
    let catalogue: Vec<Product> = products
        .map(|(id, name, price)| Product {
            id: ProductId::parse(id).unwrap(),
            name: text(name),
            price: cny(*price),
            stock: 1_000,
        })
        .collect();
    let items = catalogue.iter().map(|product| RequestedItem {
        product_id: product.id.clone(),
        quantity: Quantity::new(u32::try_from(1 + dice.below(3)).unwrap()).unwrap(),
        unit_price: None,
    });
    let items = RequestedItems::new(items.collect()).unwrap();
    let [street, city, state, country, postal_code] = dice.pick(&ADDRESSES);
    CreateOrder {
        customer_id: customer.clone(),
        items,
        shipping_address: ShippingAddress {
            street: text(street),
            city: text(city),
            state: text(state),
            country: CountryCode::parse(country).unwrap(),
            postal_code: text(postal_code),
        },
        payment_method: PaymentMethod::default(),
        catalogue,
        now,
    }
}

fn cny(amount: u64) -> Money {
    Money::new(amount, Currency::CNY).unwrap()
}

fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::parse(text).unwrap()
}

/// Numbers without a pattern, the same for the same seed: the generator `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn new(seed: usize) -> Self {
        Self(u64::try_from(seed).unwrap())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
