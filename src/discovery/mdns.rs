//! `outpost.local` and the `_https._tcp` service by multicast DNS.

use mdns_sd::{DaemonEvent, ServiceDaemon, ServiceInfo};

/// Host name announced. A second box on the LAN becomes `outpost-2.local`.
pub const HOST: &str = "outpost.local.";
const SERVICE: &str = "_https._tcp.local.";

/// The announcement; it ends when this is dropped.
pub struct Mdns {
    daemon: ServiceDaemon,
}

impl Mdns {
    /// Announces the server on every interface, following changes of addresses.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn start(title: &str, port: u16) -> Result<Mdns, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        let service =
            ServiceInfo::new(SERVICE, title, HOST, "", port, &[("path", "/")][..])?.enable_addr_auto();
        let events = daemon.monitor()?;
        daemon.register(service)?;
        tokio::spawn(async move {
            while let Ok(event) = events.recv_async().await {
                match event {
                    DaemonEvent::NameChange(change) => {
                        log::warn!(
                            "the name {} is taken on this LAN: this box is {}",
                            change.original,
                            change.new_name
                        );
                    }
                    DaemonEvent::Error(error) => log::debug!("mDNS: {error}"),
                    _ => {}
                }
            }
        });
        Ok(Mdns { daemon })
    }
}

impl Drop for Mdns {
    fn drop(&mut self) {
        // Says goodbye to the LAN; whether somebody hears it does not matter.
        let _ = self.daemon.shutdown();
    }
}
