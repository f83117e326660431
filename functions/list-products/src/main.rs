//! `GET /api/v1/products`: staff see all products, in the order of their ids.
//!
//! `?page_size=`; `next` leads on by `?after=`. 200, 400, 403 for customers, 409 where the inventory has no list of its products.

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::DynamoInventory,
    http::{self, ApiRequest, Problem, link},
    lambda,
    limits::Limiter,
};
use application::ports::{Catalogue, ListProductsError, ProductPage};
use aws_sdk_dynamodb::Client;
use domain::{ids::ProductId, product::Product, text::Invalid};
use lambda_http::{Body, Response};
use providers::{Choice, Port, Registry};
use serde::Serialize;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let settings = app_config::settings(&config)?;
    let limiter = Limiter::of_process(&client, settings.clone(), "list-products").await?;
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
    let (page_size, after) = asked(&request)?;
    respond(page_size, catalogue.list_products(after.as_ref(), page_size).await)
}

fn asked(request: &ApiRequest) -> Result<(usize, Option<ProductId>), Problem> {
    let mut query = request.query(&["page_size", "after"]);
    let page_size = query.page_size();
    let after = query.optional("after", |text| {
        ProductId::parse(text).map_err(|_| Invalid::new("must be as it came in the link to this page"))
    });
    query.finish(page_size.zip(after))
}

fn respond(page_size: usize, page: Result<ProductPage, ListProductsError>) -> Result<Response<Body>, Problem> {
    let ProductPage { products, next } = page.map_err(|error| match error {
        ListProductsError::Unavailable(error) => Problem::unavailable(&error),
        ListProductsError::NotSupported => Problem::new(
            409,
            "not-listable",
            "The products cannot be listed",
            "the inventory that new orders use does not list its products; each can be read by its id",
        ),
    })?;
    let page_size = page_size.to_string();
    let next = next.map(|end| link("/api/v1/products", &[("page_size", page_size.as_str()), ("after", end.as_str())]));
    http::json(200, &ListBody { products, next })
}

#[derive(Serialize)]
struct ListBody {
    products: Vec<Product>,
    next: Option<String>,
}

#[cfg(test)]
mod tests {
    use application::{memory::MemoryInventory, page::PAGE_BYTES_MAX};
    use domain::{
        money::{Currency, Money},
        text::Text,
    };
    use serde_json::{Value, json};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/list-products.json");
    const SAMPLE_QUERY: &str = "page_size=2";

    fn product(id: &str) -> Product {
        let price = Money::new(1999, Currency::parse("CNY").unwrap()).unwrap();
        Product { id: ProductId::parse(id).unwrap(), name: Text::parse("Tea").unwrap(), price, stock: 5 }
    }

    async fn catalogue(ids: &[&str]) -> MemoryInventory {
        let catalogue = MemoryInventory::default();
        for id in ids {
            catalogue.put_product(&product(id)).await.unwrap();
        }
        catalogue
    }

    fn request(event: &str) -> ApiRequest {
        ApiRequest::from_event(event, chrono::Utc::now()).unwrap()
    }

    async fn ask(catalogue: &MemoryInventory, query: &str) -> Result<Value, Problem> {
        let answer = handle(catalogue, request(&SAMPLE.replace(SAMPLE_QUERY, query))).await?;
        assert_eq!(answer.status(), 200);
        Ok(serde_json::from_slice(answer.body()).unwrap())
    }

    #[tokio::test]
    async fn the_sample_is_the_first_page_and_its_link_leads_to_the_last() {
        let catalogue = catalogue(&["tea", "Mug", "pot"]).await;
        let first = ask(&catalogue, SAMPLE_QUERY).await.unwrap();
        let expected = json!({
            "products": [product("Mug"), product("pot")],
            "next": "/api/v1/products?page_size=2&after=pot",
        });
        assert_eq!(first, expected);
        let last = ask(&catalogue, "page_size=2&after=pot").await.unwrap();
        assert_eq!(last, json!({"products": [product("tea")], "next": null}));
    }

    #[tokio::test]
    async fn without_a_size_a_page_has_twenty_and_where_nothing_is_it_is_empty() {
        let ids: Vec<String> = (100..121).map(|number| number.to_string()).collect();
        let catalogue = catalogue(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let page = ask(&catalogue, "").await.unwrap();
        assert_eq!(page["products"].as_array().unwrap().len(), 20);
        assert_eq!(page["next"], "/api/v1/products?page_size=20&after=119");
        let nothing = json!({"products": [], "next": null});
        assert_eq!(ask(&catalogue, "after=z").await.unwrap(), nothing);
        assert_eq!(ask(&MemoryInventory::default(), "").await.unwrap(), nothing);
    }

    #[test]
    fn an_inventory_without_a_list_is_no_failure() {
        let problem = respond(20, Err(ListProductsError::NotSupported)).unwrap_err();
        assert_eq!((problem.status, problem.kind), (409, "not-listable"));
    }

    #[test]
    fn a_page_of_the_largest_products_is_an_answer_that_lambda_can_give() {
        let name = Text::parse(&"\"".repeat(200)).unwrap();
        let largest = Product { name, stock: u32::MAX, ..product(&"x".repeat(64)) };
        let row = serde_json::to_vec(&largest).unwrap().len();
        assert!(row * 100 < PAGE_BYTES_MAX, "{row}");
    }

    #[tokio::test]
    async fn what_is_no_question_is_refused() {
        let catalogue = catalogue(&["tea"]).await;
        for (query, pointers) in [
            ("page_size=101&after=a%20b&sort=price", &["?sort", "?page_size", "?after"][..]),
            ("page_size=0&after=", &["?page_size", "?after"]),
            ("after=tea&after=tea", &["?after"]),
        ] {
            let problem = ask(&catalogue, query).await.unwrap_err();
            assert_eq!((problem.status, problem.pointers().as_slice()), (400, pointers), "{query}");
        }
    }

    #[tokio::test]
    async fn the_list_is_for_staff() {
        let catalogue = catalogue(&["tea"]).await;
        let problem = handle(&catalogue, request(&SAMPLE.replace("[staff]", "[]"))).await.unwrap_err();
        assert_eq!(problem.status, 403);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let catalogue = catalogue(&["mug", "pot", "tea"]).await;
        http::hostile::is_answered(SAMPLE, |request| handle(&catalogue, request), || catalogue.all()).await;
    }
}
