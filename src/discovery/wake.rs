//! Wake-on-LAN.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

/// Ports that network cards listen on.
const PORT: u16 = 9;
/// Rounds sent, as packets get lost.
const ROUNDS: usize = 3;
/// Between two packets.
const PAUSE: Duration = Duration::from_millis(10);

/// The magic packet of a MAC address given as 12 hexadecimal digits.
fn magic_packet(mac: &str) -> Option<[u8; 102]> {
    let mut packet = [0xFF; 102];
    for (n, byte) in packet[6..].iter_mut().enumerate() {
        let at = n % 6 * 2;
        *byte = u8::from_str_radix(mac.get(at..at + 2)?, 16).ok()?;
    }
    Some(packet)
}

/// Sends magic packets for MAC addresses (12 hexadecimal digits each) by broadcast from every interface.
pub async fn wake(macs: &[String]) {
    let mut sources: Vec<IpAddr> = super::addresses().into_iter().filter(IpAddr::is_ipv4).collect();
    sources.push(Ipv4Addr::UNSPECIFIED.into());
    let target = SocketAddr::new(Ipv4Addr::BROADCAST.into(), PORT);
    for source in sources {
        let Ok(socket) = UdpSocket::bind(SocketAddr::new(source, 0)).await else { continue };
        if socket.set_broadcast(true).is_err() {
            continue;
        }
        for _ in 0..ROUNDS {
            for packet in macs.iter().filter_map(|mac| magic_packet(mac)) {
                if let Err(error) = socket.send_to(&packet, target).await {
                    log::debug!("a wake packet could not be sent from {source}: {error}");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::magic_packet;

    #[test]
    fn a_magic_packet_is_six_ones_and_sixteen_addresses() {
        let packet = magic_packet("02fc00000001").expect("a packet");
        assert_eq!(&packet[..6], &[0xFF; 6]);
        assert_eq!(&packet[6..12], &[2, 0xFC, 0, 0, 0, 1]);
        assert_eq!(&packet[96..], &[2, 0xFC, 0, 0, 0, 1]);
        assert!(magic_packet("xyz").is_none());
    }
}
