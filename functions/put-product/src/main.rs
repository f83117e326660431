//! `PUT /api/v1/products/{product_id}`: staff set a product's name and price, and its orderable stock if that is given.
//!
//! 201 for a new product, 200 for a known one; 400 for invalid input, 403 for customers.

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::DynamoInventory,
    http::{self, ApiRequest, FieldErrors, MoneyBody, Problem},
    lambda,
    limits::Limiter,
};
use application::ports::Catalogue;
use aws_sdk_dynamodb::Client;
use deserr::Deserr;
use domain::{
    ids::ProductId,
    money::Money,
    product::Product,
    text::{Invalid, Text},
};
use lambda_http::{Body, Response};
use providers::{Choice, Port, Registry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let settings = app_config::settings(&config)?;
    let limiter = Limiter::of_process(&client, settings.clone(), "put-product").await?;
    let inventory = Choice::new(
        Port::Inventory,
        DynamoInventory::new(client, lambda::variable("INVENTORY_TABLE")?),
        settings,
        Registry::new(cloud_map::of_process(&config)?),
    );
    http::run(&limiter, |request| async {
        let inventory = inventory.now().await?;
        handle(inventory.of_new_orders()?, request).await
    })
    .await
}

async fn handle(catalogue: &impl Catalogue, request: ApiRequest) -> Result<Response<Body>, Problem> {
    request.staff()?;
    let id = ProductId::parse(&request.path_parameter("product_id"))
        .map_err(|invalid| Problem::invalid_field("/product_id", invalid.to_string()))?;
    let ProductBody { name, price, stock } = request.json()?;
    let put = match stock {
        Some(stock) => {
            let product = Product { id, name, price, stock };
            catalogue.put_product(&product).await.map(|new| (product, new))
        }
        None => catalogue.describe_product(&id, &name, price).await,
    };
    let (product, new) = put.map_err(|error| Problem::unavailable(&error))?;
    http::json(if new { 201 } else { 200 }, &product)
}

#[derive(Deserr)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct ProductBody {
    #[deserr(try_from(&String) = Text::parse -> Invalid)]
    name: Text<200>,
    #[deserr(try_from(MoneyBody) = MoneyBody::money -> Invalid)]
    price: Money,
    /// The stock stays as it is without; a new product has none then.
    #[deserr(default)]
    stock: Option<u32>,
}

#[cfg(test)]
mod tests {
    use application::memory::MemoryInventory;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/put-product.json");

    fn request(event: &str) -> ApiRequest {
        ApiRequest::from_event(event, chrono::Utc::now()).unwrap()
    }

    #[tokio::test]
    async fn the_sample_product_is_new_once() {
        let catalogue = MemoryInventory::default();
        assert_eq!(handle(&catalogue, request(SAMPLE)).await.unwrap().status(), 201);
        assert_eq!(handle(&catalogue, request(SAMPLE)).await.unwrap().status(), 200);
        let product = catalogue.products(&[ProductId::parse("tea").unwrap()]).await.unwrap().remove(0);
        assert_eq!((product.price.amount(), product.stock), (1999, 100));
    }

    #[tokio::test]
    async fn without_a_stock_the_stock_stays() {
        let catalogue = MemoryInventory::default();
        let without = SAMPLE.replace(", \\\"stock\\\": 100", "");
        assert_ne!(without, SAMPLE);
        for (event, status, stock) in [(without.as_str(), 201, 0), (SAMPLE, 200, 100), (&without, 200, 100)] {
            let answer = handle(&catalogue, request(event)).await.unwrap();
            let product: Product = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!((answer.status().as_u16(), product.stock), (status, stock));
        }
    }

    #[tokio::test]
    async fn a_price_is_in_money_that_people_pay_with() {
        for code in ["XXX", "XTS", "XAU", "XDR", "CLF", "HRK"] {
            let problem = handle(&MemoryInventory::default(), request(&SAMPLE.replace("CNY", code))).await.unwrap_err();
            let body = problem.body("/", "c");
            assert_eq!((problem.status, &body["errors"][0]["pointer"]), (400, &"/price/currency".into()), "{code}");
        }
    }

    #[tokio::test]
    async fn customers_may_not() {
        let problem = handle(&MemoryInventory::default(), request(&SAMPLE.replace("[staff]", "[]"))).await.unwrap_err();
        assert_eq!(problem.status, 403);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let catalogue = MemoryInventory::default();
        http::hostile::is_answered(SAMPLE, |request| handle(&catalogue, request), || catalogue.all()).await;
    }
}
