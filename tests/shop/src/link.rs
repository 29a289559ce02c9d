//! One client connection, and pools of them.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

use crate::body::Payload;

/// One HTTP/1.1 connection, as its client holds it.
pub struct Link {
    /// Where requests go in.
    pub sender: SendRequest<Payload>,
    reset: oneshot::Sender<()>,
}

impl Link {
    /// Connects from an address of one's own, so that the packets say who sent them.
    pub async fn open(from: IpAddr, to: SocketAddr) -> anyhow::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(connect(from, to).await?)).await?;
        let (reset, asked_to_reset) = oneshot::channel();
        tokio::spawn(async move {
            let mut connection = connection;
            tokio::select! {
                // In this order: a request that was given up makes the connection close by itself, which must not
                // come first.
                biased;
                Ok(()) = asked_to_reset => {
                    let stream = connection.into_parts().io.into_inner();
                    if let Err(error) = stream.set_zero_linger() {
                        eprintln!("closed a connection that was to be reset: {error}");
                    }
                }
                // The client hears of a failure through the request that it makes.
                _ = &mut connection => {}
            }
        });
        Ok(Self { sender, reset })
    }

    /// Ends the connection with a reset (RST) instead of closing it.
    pub fn reset(self) {
        // A connection that has ended by itself is not there to be reset.
        let _ = self.reset.send(());
    }
}

/// A TCP connection from an address of one's own.
pub async fn connect(from: IpAddr, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket
        .bind(SocketAddr::new(from, 0))
        .with_context(|| format!("cannot send from {from}"))?;
    let stream = socket
        .connect(to)
        .await
        .with_context(|| format!("{to} cannot be reached from {from}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connections that wait for the next request.
#[derive(Default)]
pub struct Pool(Mutex<Vec<Link>>);

impl Pool {
    /// One that is free.
    pub fn take(&self) -> Option<Link> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(link) = idle.pop() {
            if !link.sender.is_closed() {
                return Some(link);
            }
        }
        None
    }

    /// Gives one back.
    pub fn put(&self, link: Link) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(link);
    }

    /// Closes all that wait.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
