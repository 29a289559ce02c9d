//! People with browsers: each comes, logs in, looks around, fills a cart, and more than half of them buy.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

use crate::link::Link;
use crate::pod::{CORRELATION_ID, IDEMPOTENCY_KEY, Outgoing, Pod, Reply, Stop};
use crate::role::Role;
use crate::story::{LAST_VISITOR, dice};

/// Of 100 journeys, how many end with a purchase.
const BUYERS: u64 = 65;
/// Of 100 purchases, how many are made with one click, by cart-service.
const ONE_CLICK: u64 = 25;
/// Of 100 requests, how many lack a correlation id.
const WITHOUT_CORRELATION: u64 = 12;
/// Most requests in a journey, for numbering them over all journeys.
const STEPS: u64 = 8;

/// Plays all journeys. Told to stop, nobody comes any more and those who are there finish.
pub async fn play(pod: &Arc<Pod>, mut stop: Stop) {
    let mut journeys = JoinSet::new();
    let between = Duration::from_secs_f64(1.0 / pod.journeys_per_second);
    for journey in 0.. {
        let jitter = dice(pod.seed, &[journey, 0]) % 1000;
        let begins = between.mul_f64(journey as f64 + jitter as f64 / 2000.0);
        if begins >= LAST_VISITOR {
            break;
        }
        tokio::select! {
            () = pod.clock.sleep_until(begins) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        let pod = Arc::clone(pod);
        journeys.spawn(async move {
            if let Err(error) = Journey::begin(&pod, journey).await {
                eprintln!("journey {journey} ended early: {error:#}");
            }
        });
    }
    while journeys.join_next().await.is_some() {}
}

/// One user on one connection.
struct Journey<'a> {
    pod: &'a Pod,
    number: u64,
    link: Link,
    /// Requests sent.
    step: u64,
    /// Dice thrown.
    throws: u64,
}

impl<'a> Journey<'a> {
    async fn begin(pod: &'a Pod, number: u64) -> anyhow::Result<()> {
        let link = pod.connect(Role::Frontend).await?;
        Self {
            pod,
            number,
            link,
            step: 0,
            throws: 0,
        }
        .walk()
        .await
    }

    async fn walk(mut self) -> anyhow::Result<()> {
        let number = self.number;
        let login = |password: &str| {
            Outgoing::new(Method::POST, "/api/v1/login")
                .json(&json!({ "user": format!("user-{number}"), "password": password }))
        };
        // Some mistype.
        let password = if self.chance(1) { "swordfihs" } else { "swordfish" };
        let reply = self.send(login(password)).await?;
        if reply.status == StatusCode::UNAUTHORIZED {
            self.send(login("swordfish")).await?;
        }

        let mut list = Outgoing::new(Method::GET, format!("/api/v1/catalogue?page={}", number % 7));
        if self.chance(10) {
            list = list.header("if-none-match", "\"spring\"");
        }
        self.send(list).await?;

        let product = self.throw() % 200;
        let method = if self.chance(8) { Method::HEAD } else { Method::GET };
        self.send(Outgoing::new(method, format!("/api/v1/catalogue/{product}")))
            .await?;

        let item = json!({ "user": number, "product": product, "quantity": 1 + self.throw() % 3 });
        self.send(Outgoing::new(Method::POST, "/api/v1/cart").json(&item))
            .await?;
        if self.chance(5) {
            self.send(Outgoing::new(Method::DELETE, format!("/api/v1/cart/{number}")))
                .await?;
            return Ok(());
        }

        if self.chance(BUYERS) {
            let path = if self.chance(ONE_CLICK) {
                "/api/v1/cart/buy"
            } else {
                "/api/v1/checkout"
            };
            let order =
                json!({ "user": number, "cart": number, "amount_cents": 500 + self.throw() % 20_000 });
            let buy = Outgoing::new(Method::POST, path)
                .header(IDEMPOTENCY_KEY, &format!("order-{number}"))
                .json(&order);
            self.send(buy).await?;
        }
        Ok(())
    }

    /// Sends one request after a moment's thought.
    async fn send(&mut self, outgoing: Outgoing) -> anyhow::Result<Reply> {
        self.pod
            .clock
            .sleep(Duration::from_millis(300 + self.throw() % 600))
            .await;
        // Spread evenly over all requests of all users: out of any hundred in a row, the same number lack it.
        let ordinal = self.number * STEPS + self.step;
        self.step += 1;
        let lacks = ordinal * WITHOUT_CORRELATION / 100 != (ordinal + 1) * WITHOUT_CORRELATION / 100;
        let outgoing = if lacks {
            outgoing
        } else {
            outgoing.header(CORRELATION_ID, &format!("journey-{}-{}", self.number, self.step))
        };
        self.pod.exchange(Role::Frontend, &mut self.link, outgoing).await
    }

    /// A throw of this journey's; each is another.
    fn throw(&mut self) -> u64 {
        self.throws += 1;
        dice(self.pod.seed, &[self.number, self.throws])
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.throw() % 100 < percent
    }
}
