//! gRPC by the tonic crate. Messages are bytes as they are.
//!
//! A line per call: method, status, messages sent and received; `deadline` for the status of a call whose client did
//! not wait any longer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::codec::{
    Codec, CompressionEncoding, DecodeBuf, Decoder, EnabledCompressionEncodings, EncodeBuf, Encoder,
};
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::{Service, service_fn};

/// How long the server sleeps when it is asked to, and how long its client waits for that.
const SLEEP: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_millis(300);
/// What every other call may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of the four kinds of calls.
pub async fn serve(address: SocketAddr) -> Result<()> {
    Server::builder().add_service(Peer).serve(address).await?;
    Ok(())
}

#[derive(Clone)]
struct Peer;

impl NamedService for Peer {
    const NAME: &'static str = "peers.Peer";
}

impl Service<http::Request<Body>> for Peer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(answer(request).await) })
    }
}

async fn answer(request: http::Request<Body>) -> http::Response<Body> {
    let mut gzip = EnabledCompressionEncodings::default();
    gzip.enable(CompressionEncoding::Gzip);
    let mut grpc = tonic::server::Grpc::new(Raw).apply_compression_config(gzip, gzip);
    match request.uri().path() {
        "/peers.Peer/Unary" => grpc.unary(service_fn(unary), request).await,
        "/peers.Peer/ServerStream" => {
            let stream = async |request: Request<Vec<u8>>| {
                let count = number(&request.into_inner())?;
                let messages = (0..count).map(|number| Ok(number.to_string().into_bytes()));
                Ok(Response::new(tokio_stream::iter(messages)))
            };
            grpc.server_streaming(service_fn(stream), request).await
        }
        "/peers.Peer/ClientStream" => {
            let stream = async |request: Request<Streaming<Vec<u8>>>| {
                let messages: Vec<_> = request.into_inner().collect::<Result<_, Status>>().await?;
                Ok(Response::new(messages.len().to_string().into_bytes()))
            };
            grpc.client_streaming(service_fn(stream), request).await
        }
        "/peers.Peer/Bidirectional" => {
            let stream = async |request: Request<Streaming<Vec<u8>>>| Ok(Response::new(request.into_inner()));
            grpc.streaming(service_fn(stream), request).await
        }
        _ => Status::unimplemented("there is no such method").into_http(),
    }
}

/// Answers with what it was asked, unless it is told otherwise.
async fn unary(request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Status> {
    let message = request.into_inner();
    if let Some(code) = message.strip_prefix(b"fail ") {
        let code = i32::try_from(number(code)?).unwrap_or_default();
        return Err(Status::new(Code::from_i32(code), "as it was told: ÄÖ"));
    }
    if message == b"sleep" {
        tokio::time::sleep(SLEEP).await;
    }
    Ok(Response::new(message))
}

fn number(text: &[u8]) -> Result<u32, Status> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Status::invalid_argument("no number"))
}

/// A client of them.
pub async fn ask(address: SocketAddr, gzip: bool) -> Result<()> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect()
        .await?;
    let client = Client { channel, gzip };
    for number in 0..40_usize {
        client.unary("Unary", vec![b'm'; number * 100], PATIENCE).await?;
    }
    client.unary("Unary", vec![b'm'; 300_000], PATIENCE).await?;
    for code in 1..=16 {
        client
            .unary("Unary", format!("fail {code}").into_bytes(), PATIENCE)
            .await?;
    }
    client.unary("Nowhere", Vec::new(), PATIENCE).await?;
    for count in [0, 1, 10, 200] {
        client.server_stream(count).await?;
        client.client_stream(count).await?;
        client.bidirectional(count).await?;
    }
    client.unary("Unary", b"sleep".to_vec(), DEADLINE).await
}

struct Client {
    channel: Channel,
    gzip: bool,
}

impl Client {
    async fn unary(&self, method: &str, message: Vec<u8>, patience: Duration) -> Result<()> {
        let mut request = Request::new(message);
        request.set_timeout(patience);
        match self.grpc().await?.unary(request, path(method)?, Raw).await {
            Ok(_) => println!("{method} 0 1 1"),
            // The status is the client's own.
            Err(_) if patience == DEADLINE => println!("{method} deadline 1 0"),
            Err(status) => println!("{method} {} 1 0", i32::from(status.code())),
        }
        Ok(())
    }

    async fn server_stream(&self, count: usize) -> Result<()> {
        let request = Request::new(count.to_string().into_bytes());
        let response = self
            .grpc()
            .await?
            .server_streaming(request, path("ServerStream")?, Raw)
            .await?;
        let received = all(response).await?;
        println!("ServerStream 0 1 {received}");
        Ok(())
    }

    async fn client_stream(&self, count: usize) -> Result<()> {
        let request = Request::new(tokio_stream::iter(vec![b"a message".to_vec(); count]));
        self.grpc()
            .await?
            .client_streaming(request, path("ClientStream")?, Raw)
            .await?;
        println!("ClientStream 0 {count} 1");
        Ok(())
    }

    async fn bidirectional(&self, count: usize) -> Result<()> {
        let request = Request::new(tokio_stream::iter(vec![b"a message".to_vec(); count]));
        let response = self
            .grpc()
            .await?
            .streaming(request, path("Bidirectional")?, Raw)
            .await?;
        let received = all(response).await?;
        println!("Bidirectional 0 {count} {received}");
        Ok(())
    }

    async fn grpc(&self) -> Result<tonic::client::Grpc<Channel>> {
        let mut grpc =
            tonic::client::Grpc::new(self.channel.clone()).accept_compressed(CompressionEncoding::Gzip);
        if self.gzip {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        }
        grpc.ready().await.context("the server has gone")?;
        Ok(grpc)
    }
}

fn path(method: &str) -> Result<PathAndQuery> {
    Ok(format!("/peers.Peer/{method}").parse()?)
}

/// How many messages a stream has, up to its good end.
async fn all(response: Response<Streaming<Vec<u8>>>) -> Result<usize> {
    let messages: Vec<_> = response.into_inner().collect::<Result<_, Status>>().await?;
    Ok(messages.len())
}

/// Messages as they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}
