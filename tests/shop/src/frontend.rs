//! What the users talk to: logs them in, passes the rest on.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;

use crate::body::Payload;
use crate::pod::{Answer, Asked, Outgoing, Pod};
use crate::role::Role;

/// What a page takes here, beside what stands behind it.
const WORK: Duration = Duration::from_millis(8);
/// Checking a password takes longer, on purpose.
const LOGIN: Duration = Duration::from_millis(35);

pub async fn answer(pod: &Pod, asked: Asked) -> Answer {
    let path = asked.path.strip_prefix("/api/v1/").unwrap_or_default().to_owned();
    if path == "login" {
        return login(pod, &asked).await;
    }
    pod.clock.sleep(WORK).await;
    let (to, target) = match (asked.method.as_str(), path.split_once('/')) {
        ("GET", None) if path == "catalogue" => (Role::Catalogue, format!("/products?{}", asked.query)),
        ("GET" | "HEAD", Some(("catalogue", product))) => (Role::Catalogue, format!("/products/{product}")),
        ("POST", None) if path == "cart" => (Role::CartService, "/carts/items".to_owned()),
        ("POST", Some(("cart", "buy"))) => (Role::CartService, "/carts/buy".to_owned()),
        ("DELETE", Some(("cart", cart))) => (Role::CartService, format!("/carts/{cart}")),
        ("POST", None) if path == "checkout" => (Role::Checkout, "/orders".to_owned()),
        _ => {
            return Answer::json(
                StatusCode::NOT_FOUND,
                &json!({ "error": "there is no such page" }),
            );
        }
    };
    let mut outgoing = Outgoing::new(asked.method.clone(), target).because_of(&asked);
    if asked.method == Method::POST {
        outgoing = outgoing.body("application/json", Payload::sized(asked.body.clone()));
    }
    if let Some(Ok(tag)) = asked.headers.get("if-none-match").map(|tag| tag.to_str()) {
        outgoing = outgoing.header("if-none-match", tag);
    }
    match pod.call(to, outgoing).await {
        Ok(reply) => reply.pass_on(),
        Err(error) => Answer::bad_gateway(&error),
    }
}

async fn login(pod: &Pod, asked: &Asked) -> Answer {
    pod.clock.sleep(LOGIN).await;
    let form: serde_json::Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    if form.get("password").and_then(|password| password.as_str()) != Some("swordfish") {
        return Answer::json(
            StatusCode::UNAUTHORIZED,
            &json!({ "error": "wrong user or password" }),
        );
    }
    let token = format!(
        "{:016x}",
        crate::story::dice(pod.seed, &[asked.body.len() as u64])
    );
    Answer::json(StatusCode::OK, &json!({ "token": token }))
}
