//! `GET /api/v1/products/{product_id}`: staff read a product's name, price and orderable stock.
//!
//! 200, 403 for customers, 404.

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::DynamoInventory,
    http::{self, ApiRequest, Problem},
    lambda,
    limits::Limiter,
};
use application::ports::Catalogue;
use aws_sdk_dynamodb::Client;
use domain::ids::ProductId;
use lambda_http::{Body, Response};
use providers::{Choice, Port, Registry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let settings = app_config::settings(&config)?;
    let limiter = Limiter::of_process(&client, settings.clone(), "get-product").await?;
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
    let id = ProductId::parse(&request.path_parameter("product_id")).map_err(|_| Problem::not_found("product"))?;
    let products = catalogue.products(&[id]).await.map_err(|error| Problem::unavailable(&error))?;
    products.first().map_or_else(|| Err(Problem::not_found("product")), |product| http::json(200, product))
}

#[cfg(test)]
mod tests {
    use application::memory::MemoryInventory;
    use domain::{
        money::{Currency, Money},
        product::Product,
        text::Text,
    };

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/get-product.json");

    fn request(event: &str) -> ApiRequest {
        ApiRequest::from_event(event, chrono::Utc::now()).unwrap()
    }

    fn tea() -> Product {
        let price = Money::new(1999, Currency::parse("CNY").unwrap()).unwrap();
        Product { id: ProductId::parse("tea").unwrap(), name: Text::parse("Tea").unwrap(), price, stock: 5 }
    }

    #[tokio::test]
    async fn the_sample_product_is_read_by_staff_once_it_is_there() {
        let catalogue = MemoryInventory::default();
        assert_eq!(handle(&catalogue, request(SAMPLE)).await.unwrap_err().status, 404);
        catalogue.put_product(&tea()).await.unwrap();
        assert_eq!(handle(&catalogue, request(SAMPLE)).await.unwrap().status(), 200);
        assert_eq!(handle(&catalogue, request(&SAMPLE.replace("[staff]", "[]"))).await.unwrap_err().status, 403);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let catalogue = MemoryInventory::default();
        catalogue.put_product(&tea()).await.unwrap();
        http::hostile::is_answered(SAMPLE, |request| handle(&catalogue, request), || ()).await;
    }
}
