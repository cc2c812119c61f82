//! A TCP proxy whose connections can be cut, so that each end sees the other die.

use std::net::{Ipv4Addr, SocketAddr};

use telemetry::Scope;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Between a node and its gateway.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// Whether it is cut.
    cut: watch::Sender<bool>,
}

impl Proxy {
    /// A proxy to `target` on a free port; `scope` owns its tasks.
    pub(crate) async fn to(target: SocketAddr, scope: &Scope) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let cut = watch::channel(false).0;
        let (cuts, of) = (cut.subscribe(), scope.clone());
        scope.spawn("proxy", async move {
            loop {
                let accepted = tokio::select! {
                    () = of.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                if let Ok((near, _)) = accepted {
                    of.spawn("proxied", pipe(near, target, cuts.clone(), of.clone()));
                }
            }
        });
        Self { address, cut }
    }

    /// Cuts every connection, and new ones at once; or lets them through again.
    pub(crate) fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

async fn pipe(mut near: TcpStream, target: SocketAddr, cut: watch::Receiver<bool>, scope: Scope) {
    let mut cuts = cut;
    let piped = async {
        let mut far = TcpStream::connect(target).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        tokio::io::copy_bidirectional(&mut near, &mut far).await
    };
    tokio::select! {
        _ = cuts.wait_for(|cut| *cut) => {}
        () = scope.cancelled() => {}
        _ = piped => {}
    }
}
