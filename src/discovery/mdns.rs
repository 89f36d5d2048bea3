//! The server's name under `.local` and the `_https._tcp` service by multicast DNS.

use mdns_sd::{DaemonEvent, ServiceDaemon, ServiceInfo};

const SERVICE: &str = "_https._tcp.local.";

/// The announcement; it ends when this is dropped.
pub struct Mdns {
    daemon: ServiceDaemon,
}

impl Mdns {
    /// Announces the server on every interface, following changes of addresses. `host` is a name of one label; where
    /// another machine on the LAN has it already, a number is put behind it (`outpost-2`), and `renamed` is told.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn start(
        title: &str,
        host: &str,
        port: u16,
        renamed: impl Fn(&str) + Send + 'static,
    ) -> Result<Mdns, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        let full = format!("{host}.local.");
        let service =
            ServiceInfo::new(SERVICE, title, &full, "", port, &[("path", "/")][..])?.enable_addr_auto();
        let events = daemon.monitor()?;
        daemon.register(service)?;
        tokio::spawn(async move {
            while let Ok(event) = events.recv_async().await {
                match event {
                    // Names of services are not what people type.
                    DaemonEvent::NameChange(change) if change.new_name.ends_with(SERVICE) => {}
                    DaemonEvent::NameChange(change) => {
                        let name = change.new_name.trim_end_matches('.');
                        log::warn!(
                            "another machine on this LAN has the name {}: this one is {name}",
                            change.original
                        );
                        renamed(name);
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
