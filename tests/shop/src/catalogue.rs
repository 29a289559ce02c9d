//! Lists products, asking the database anew for every question.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::json;

use crate::body::{Payload, gzip};
use crate::database;
use crate::pod::{Answer, Asked, Pod};
use crate::role::Role;

const WORK: Duration = Duration::from_millis(6);
/// Products on a page: enough for an answer of several packets.
const PAGE: u64 = 60;
/// Products that there are; numbers above are asked for and not found.
const PRODUCTS: u64 = 195;
/// Bytes of a chunk of a page, so that an answer has several.
const CHUNK: usize = 512;

pub async fn answer(pod: &Pod, asked: Asked) -> Answer {
    pod.clock.sleep(WORK).await;
    match asked.path.strip_prefix("/products") {
        Some("") => page(pod, &asked).await,
        Some(number) => product(pod, number.trim_start_matches('/')).await,
        None => Answer::json(
            StatusCode::NOT_FOUND,
            &json!({ "error": "there is no such list" }),
        ),
    }
}

async fn page(pod: &Pod, asked: &Asked) -> Answer {
    if let Err(error) = ask(pod, "SELECT version FROM catalogue").await {
        return Answer::bad_gateway(&error);
    }
    let etag = HeaderValue::from_static("\"spring\"");
    if asked.headers.get("if-none-match") == Some(&etag) {
        let mut answer = Answer::empty(StatusCode::NOT_MODIFIED);
        answer.headers.insert("etag", etag);
        return answer;
    }
    if let Err(error) = ask(pod, &format!("SELECT * FROM products WHERE {}", asked.query)).await {
        return Answer::bad_gateway(&error);
    }
    let products: Vec<_> = (0..PAGE).map(describe).collect();
    let body = gzip(json!({ "products": products }).to_string().as_bytes());
    let mut answer = Answer::empty(StatusCode::OK);
    answer
        .headers
        .insert("content-type", HeaderValue::from_static("application/json"));
    answer
        .headers
        .insert("content-encoding", HeaderValue::from_static("gzip"));
    answer.headers.insert("etag", etag);
    answer.body = Payload::chunked(body, CHUNK);
    answer
}

async fn product(pod: &Pod, number: &str) -> Answer {
    for table in ["products", "stock"] {
        if let Err(error) = ask(pod, &format!("SELECT * FROM {table} WHERE id = {number}")).await {
            return Answer::bad_gateway(&error);
        }
    }
    match number.parse() {
        Ok(number) if number < PRODUCTS => Answer::json(StatusCode::OK, &describe(number)),
        _ => Answer::json(
            StatusCode::NOT_FOUND,
            &json!({ "error": "there is no such product" }),
        ),
    }
}

fn describe(number: u64) -> serde_json::Value {
    json!({
        "id": number,
        "name": format!("Product {number}"),
        "price_cents": 100 + number * 37 % 9900,
        "description": format!("The {number}th thing that one did not know to need, in {} colours.", 2 + number % 5),
    })
}

async fn ask(pod: &Pod, query: &str) -> anyhow::Result<()> {
    let from = pod.directory.find(pod.role)?.ip();
    pod.journal.database_connection();
    database::query(from, pod.directory.find(Role::CatalogueDb)?, query).await?;
    Ok(())
}
