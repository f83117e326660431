//! `PUT /api/v1/products/{product_id}`: staff set a product's name, price and orderable stock.
//!
//! 201 for a new product, 200 for a known one; 400 for invalid input, 403 for customers.

use adapters::{
    aws,
    dynamodb::DynamoInventory,
    http::{self, ApiRequest, FieldErrors, MoneyBody, Problem},
    lambda,
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init_logs();
    let client = Client::new(&aws::config().await);
    let catalogue = DynamoInventory::new(client, lambda::variable("INVENTORY_TABLE")?);
    http::run(|request| handle(&catalogue, request)).await
}

async fn handle(catalogue: &impl Catalogue, request: ApiRequest) -> Result<Response<Body>, Problem> {
    request.staff()?;
    let id = ProductId::parse(&request.path_parameter("product_id"))
        .map_err(|invalid| Problem::invalid_field("/product_id", invalid.to_string()))?;
    let ProductBody { name, price, stock } = request.json()?;
    let product = Product { id, name, price, stock };
    let new = catalogue.put_product(&product).await.map_err(|error| Problem::unavailable(&error))?;
    http::json(if new { 201 } else { 200 }, &product)
}

#[derive(Deserr)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct ProductBody {
    #[deserr(try_from(&String) = Text::parse -> Invalid)]
    name: Text<200>,
    #[deserr(try_from(MoneyBody) = MoneyBody::money -> Invalid)]
    price: Money,
    stock: u32,
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
    async fn customers_may_not() {
        let problem = handle(&MemoryInventory::default(), request(&SAMPLE.replace("[staff]", "[]"))).await.unwrap_err();
        assert_eq!(problem.status, 403);
    }
}
