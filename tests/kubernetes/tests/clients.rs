//! What kube-rs, the client that agent and hub use, makes of the double.

use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Event as ClusterEvent, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use wiretape_kubernetes::{Kubernetes, objects};

fn client(kubernetes: &Kubernetes) -> Client {
    let url = format!("http://{}", kubernetes.address()).parse().expect("a URL");
    Client::try_from(kube::Config::new(url)).expect("a client")
}

fn cluster() -> Kubernetes {
    let kubernetes = Kubernetes::start().expect("starts");
    for (number, node) in [(1, "node-1"), (2, "node-2"), (3, "node-1")] {
        let name = format!("cart-6d4cf56db6-{number}");
        kubernetes.put(objects::pod("shop", &name, node, &format!("10.1.0.{number}")));
    }
    kubernetes
}

/// Of node-1, without jitter or long waits.
fn of_node() -> watcher::Config {
    watcher::Config::default()
        .fields("spec.nodeName=node-1")
        .page_size(1)
}

async fn next<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> T {
    tokio::time::timeout(Duration::from_secs(20), stream.next())
        .await
        .expect("within 20 s")
        .expect("not the end")
}

/// The name of the next pod that is applied or deleted, past errors and the beginnings of lists.
async fn news(stream: &mut (impl Stream<Item = watcher::Result<Event<Pod>>> + Unpin)) -> String {
    loop {
        match next(stream).await {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => return format!("+{}", pod.name_any()),
            Ok(Event::Delete(pod)) => return format!("-{}", pod.name_any()),
            Ok(Event::InitDone) => return "all".to_owned(),
            Ok(Event::Init) | Err(_) => {}
        }
    }
}

#[tokio::test]
async fn every_kind_is_read_as_its_type() {
    let kubernetes = cluster();
    let client = client(&kubernetes);
    kubernetes.put(objects::service("shop", "cart", "10.96.0.1"));
    kubernetes.put(objects::endpoint_slice(
        "shop",
        "cart",
        &[("cart-6d4cf56db6-1", "node-1", "10.1.0.1")],
    ));
    kubernetes.put(objects::node("node-1", "192.168.0.1"));
    let (pod, why) = ("cart-6d4cf56db6-1", "Back-off restarting failed container");
    kubernetes.put(objects::event(
        "shop",
        pod,
        "Warning",
        "BackOff",
        why,
        objects::LONG_AGO,
    ));

    let all = ListParams::default();
    let pods = Api::<Pod>::all(client.clone()).list(&all).await.expect("pods");
    assert_eq!(pods.items.len(), 3);
    let services = Api::<Service>::namespaced(client.clone(), "shop")
        .list(&all)
        .await
        .expect("services");
    assert_eq!(
        services.items[0]
            .spec
            .as_ref()
            .and_then(|spec| spec.cluster_ip.as_deref()),
        Some("10.96.0.1")
    );
    let slices = Api::<EndpointSlice>::all(client.clone())
        .list(&all)
        .await
        .expect("slices");
    assert_eq!(slices.items[0].endpoints[0].addresses, ["10.1.0.1"]);
    let node = Api::<Node>::all(client.clone())
        .get("node-1")
        .await
        .expect("a node");
    assert_eq!(node.name_any(), "node-1");
    let events = Api::<ClusterEvent>::all(client.clone())
        .list(&all)
        .await
        .expect("events");
    assert_eq!(events.items[0].message.as_deref(), Some(why));
    let newer = Api::<k8s_openapi::api::events::v1::Event>::all(client)
        .list(&all)
        .await
        .expect("newer events");
    assert_eq!(newer.items[0].note.as_deref(), Some(why));
    assert_eq!(
        newer.items[0]
            .regarding
            .as_ref()
            .and_then(|of| of.name.as_deref()),
        Some(pod)
    );
    assert_eq!(kubernetes.loads()["/api/v1/pods"].requests, 1);
}

#[tokio::test]
async fn a_list_comes_in_pages_and_shows_one_moment() {
    let kubernetes = cluster();
    let pods = Api::<Pod>::all(client(&kubernetes));
    let first = pods.list(&ListParams::default().limit(2)).await.expect("a page");
    assert_eq!(
        (first.items.len(), first.metadata.remaining_item_count),
        (2, Some(1))
    );
    kubernetes.delete("Pod", "shop", "cart-6d4cf56db6-3");
    let token = first.metadata.continue_.expect("there is more");
    let rest = ListParams::default().limit(2).continue_token(&token);
    let second = pods.list(&rest).await.expect("the other page");
    assert_eq!(second.items[0].name_any(), "cart-6d4cf56db6-3");
    assert_eq!(second.metadata.continue_, None);
    kubernetes.compact();
    let gone = pods.list(&rest).await.expect_err("the list is forgotten");
    assert!(matches!(gone, kube::Error::Api(status) if status.code == 410));
}

#[tokio::test]
async fn a_watch_of_one_node_sees_its_pods_only() {
    let kubernetes = cluster();
    let pods = Api::<Pod>::all(client(&kubernetes));
    let mut stream = Box::pin(watcher::watcher(pods, of_node()));
    assert_eq!(news(&mut stream).await, "+cart-6d4cf56db6-1");
    assert_eq!(news(&mut stream).await, "+cart-6d4cf56db6-3");
    assert_eq!(news(&mut stream).await, "all");
    kubernetes.put(objects::pod("shop", "elsewhere", "node-2", "10.2.0.1"));
    kubernetes.put(objects::pod("shop", "here", "node-1", "10.1.0.9"));
    assert_eq!(news(&mut stream).await, "+here");
    // No more what is watched is as gone as deleted.
    kubernetes.change("Pod", "shop", "here", |pod| {
        pod["spec"]["nodeName"] = "node-2".into()
    });
    assert_eq!(news(&mut stream).await, "-here");
    kubernetes.delete("Pod", "shop", "cart-6d4cf56db6-1");
    assert_eq!(news(&mut stream).await, "-cart-6d4cf56db6-1");
}

#[tokio::test]
async fn a_broken_watch_goes_on_where_it_was() {
    let kubernetes = cluster();
    let pods = Api::<Pod>::all(client(&kubernetes));
    let mut stream = Box::pin(watcher::watcher(pods, of_node()));
    while news(&mut stream).await != "all" {}
    let lists = kubernetes.load().requests;
    kubernetes.put(objects::pod("shop", "first", "node-1", "10.1.0.9"));
    assert_eq!(news(&mut stream).await, "+first");
    kubernetes.disconnect();
    kubernetes.put(objects::pod("shop", "second", "node-1", "10.1.0.10"));
    assert_eq!(news(&mut stream).await, "+second");
    // Two watches more, and no list.
    assert!(kubernetes.load().requests - lists <= 2);
}

#[tokio::test]
async fn forgotten_history_makes_a_watch_begin_anew() {
    let kubernetes = cluster();
    let pods = Api::<Pod>::all(client(&kubernetes));
    let mut stream = Box::pin(watcher::watcher(pods, of_node()));
    while news(&mut stream).await != "all" {}
    // With this, the watch has begun.
    kubernetes.put(objects::pod("shop", "first", "node-1", "10.1.0.9"));
    assert_eq!(news(&mut stream).await, "+first");
    kubernetes.expire_watches();
    assert_eq!(news(&mut stream).await, "+cart-6d4cf56db6-1");
    while news(&mut stream).await != "all" {}
    // And when the watch comes back too late: also then the API server says so in the stream.
    kubernetes.stop();
    kubernetes.put(objects::pod("shop", "later", "node-2", "10.1.0.10"));
    kubernetes.compact();
    kubernetes.resume().expect("the port is free");
    assert_eq!(news(&mut stream).await, "+cart-6d4cf56db6-1");
}

#[tokio::test]
async fn bookmarks_carry_the_version() {
    let kubernetes = cluster();
    let pods = Api::<Pod>::all(client(&kubernetes));
    let from = pods
        .list(&ListParams::default())
        .await
        .expect("a list")
        .metadata
        .resource_version
        .expect("a version");
    let parameters = WatchParams::default().fields("spec.nodeName=node-1");
    let mut stream = Box::pin(pods.watch(&parameters, &from).await.expect("a watch"));
    let reached = kubernetes.put(objects::pod("shop", "elsewhere", "node-2", "10.2.0.1"));
    kubernetes.bookmark();
    match next(&mut stream).await.expect("an event") {
        WatchEvent::Bookmark(mark) => assert_eq!(mark.metadata.resource_version, reached.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn too_many_requests_are_put_off() {
    let kubernetes = cluster();
    kubernetes.throttle(1);
    let url = format!("http://{}", kubernetes.address());
    let mut config = kube::Config::new(url.parse().expect("a URL"));
    config.read_timeout = Some(Duration::from_secs(5));
    let pods = Api::<Pod>::all(Client::try_from(config).expect("a client"));
    let first = pods.list(&ListParams::default()).await;
    let told = kubernetes.loads()["/api/v1/pods"].requests;
    // kube-rs may try again by itself after the second that it is told to wait.
    assert!(first.is_err() || told >= 2, "{told} requests");
    assert_eq!(
        pods.list(&ListParams::default()).await.expect("now").items.len(),
        3
    );
}
