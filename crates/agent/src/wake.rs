//! Wake-on-LAN: magic packets to sleeping neighbours.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

/// The "discard" port that magic packets go to.
const PORT: u16 = 7;
/// The list is sent this often; UDP promises nothing.
const ROUNDS: usize = 3;
/// Between two packets, so that a small switch forwards them all.
const SPACING: Duration = Duration::from_millis(10);
/// Addresses taken from one request.
const MAX_TARGETS: usize = 256;

/// A hardware address.
pub type Mac = [u8; 6];

/// Sends magic packets for all of `macs` from every interface; returns how many packets went out.
pub async fn wake(macs: &[Mac]) -> io::Result<usize> {
    let mut sockets = Vec::new();
    for address in crate::discovery::own_ipv4_addresses() {
        if let Ok(socket) = UdpSocket::bind((address, 0)).await {
            socket.set_broadcast(true)?;
            sockets.push(socket);
        }
    }
    let target = SocketAddr::from((Ipv4Addr::BROADCAST, PORT));
    let mut sent = 0;
    for _ in 0..ROUNDS {
        for mac in macs.iter().take(MAX_TARGETS) {
            for socket in &sockets {
                sent += usize::from(socket.send_to(&magic_packet(mac), target).await.is_ok());
                tokio::time::sleep(SPACING).await;
            }
        }
    }
    Ok(sent)
}

/// Six bytes of FF and the address sixteen times.
fn magic_packet(mac: &Mac) -> Vec<u8> {
    let mut packet = vec![0xFF; 6];
    packet.extend(mac.repeat(16));
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_magic_packet_is_what_cards_listen_for() {
        let packet = magic_packet(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(packet.len(), 102);
        assert_eq!(&packet[..12], [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4, 5, 6]);
    }
}
