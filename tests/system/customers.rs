//! Who a customer is, and what only the customer and staff may know.

use serde_json::json;

use crate::service::{Service, fresh_key, id_of, order};

#[tokio::test]
async fn a_customer_keeps_a_profile_that_others_do_not_see() {
    let service = Service::connect().await;
    // Nobody else uses this customer's profile.
    let path = format!("/api/v1/customers/{}", id_of("customer-2"));
    let profile = json!({"first_name": "小明", "last_name": "王", "email": "ming@example.com"});
    let put = service.put("customer-2", &path, &profile).await;
    assert!([200, 201].contains(&put.status), "{:#}", put.body);
    let version = put.body["version"].as_u64().unwrap();
    assert_eq!(service.put("customer-2", &path, &profile).await.expect(200).body["version"], version);
    for who in ["customer-2", "staff-1"] {
        let seen = service.get(who, &path).await.expect(200).body;
        assert_eq!((&seen["first_name"], &seen["email"]), (&profile["first_name"], &profile["email"]));
    }
    for stranger in ["customer-1", "carrier-1"] {
        service.get(stranger, &path).await.expect(404);
        service.put(stranger, &path, &profile).await.expect(404);
    }
    let renamed = json!({"first_name": "小明", "last_name": "李", "email": "ming@example.com"});
    // The order placed before shows the customer as they are now, and the address as it was ordered.
    let product = service.product(10).await;
    let placed = service.place("customer-2", &fresh_key(), &order("customer-2", &product)).await.expect(201);
    let order_id = placed.text("order_id");
    let read = service.await_customer("customer-2", &order_id, version).await;
    assert_eq!(
        (&read["customer"]["last_name"], &read["customer"]["email"]),
        (&profile["last_name"], &profile["email"])
    );
    assert_eq!(service.put("staff-1", &path, &renamed).await.expect(200).body["version"], version + 1);
    let read = service.await_customer("customer-2", &order_id, version + 1).await;
    assert_eq!(read["customer"]["last_name"], "李");
    assert_eq!(read["shipping_address"]["street"], "1 Secret Lane");
    service.get("staff-1", "/api/v1/customers/nobody-at-all").await.expect(404);
    let wrong = json!({"first_name": "", "email": "nowhere", "nickname": "x"});
    let answer = service.put("customer-2", &path, &wrong).await.expect(400);
    assert_eq!(answer.pointers(), ["/email", "/first_name", "/last_name", "/nickname"]);
}
