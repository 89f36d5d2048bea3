//! A fixed address, as systemd-networkd's file.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::document::{Fields, Problem, Section};

/// Most name servers that are taken.
const MOST_SERVERS: usize = 4;

/// What the section asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wired {
    /// Whatever the network gives.
    Automatic,
    /// Always the same.
    Fixed(Fixed),
}

/// An address that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    address: Subnet,
    gateway: Option<IpAddr>,
    dns: Vec<IpAddr>,
    interface: Option<Interface>,
}

/// An address with the length of its network's prefix: `192.168.1.10/24`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Subnet {
    address: IpAddr,
    prefix: u32,
}

impl Subnet {
    fn has(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                other.is_unicast_link_local()
                    || (own.to_bits() ^ other.to_bits()).checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Subnet, String> {
        let wanted = || "expected an address with its network, such as \"192.168.1.10/24\"".to_owned();
        let (address, prefix) = text.split_once('/').ok_or_else(wanted)?;
        let address: IpAddr = address.parse().map_err(|_| wanted())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix =
            prefix.parse().ok().filter(|prefix| (1..=longest).contains(prefix)).ok_or_else(wanted)?;
        if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
            return Err("this is not an address for a machine".into());
        }
        Ok(Subnet { address, prefix })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Name of a network interface, as the kernel allows it and without what systemd takes for a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interface(String);

impl FromStr for Interface {
    type Err = String;

    fn from_str(text: &str) -> Result<Interface, String> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if text.is_empty() || text.len() > 15 || !plain || text.starts_with(['-', '.']) {
            return Err("expected the name of an interface, such as \"eth0\" or \"wlan0\"".into());
        }
        Ok(Interface(text.to_owned()))
    }
}

impl Wired {
    pub(super) fn read(section: &Section) -> Result<Wired, Vec<Problem>> {
        let mut fields = Fields::of("network", section);
        if section.value.get("address").and_then(serde_json::Value::as_str) == Some("dhcp") {
            fields.text("address");
            return fields.finish(Some(Wired::Automatic));
        }
        let address: Option<Subnet> = fields.parsed("address");
        let gateway = fields.text("gateway").and_then(|text| {
            text.parse().map_err(|_| fields.wrong("gateway", "expected an IP address")).ok()
        });
        let mut dns = Vec::new();
        for text in fields.texts("dns").unwrap_or_default() {
            match text.parse() {
                Ok(server) => dns.push(server),
                Err(_) => fields.wrong("dns", "expected IP addresses of name servers"),
            }
        }
        if dns.len() > MOST_SERVERS {
            fields.wrong("dns", format!("{MOST_SERVERS} name servers at most"));
        }
        let interface = fields.parsed("interface");
        let Some(address) = address else {
            if section.value.get("address").is_none() {
                fields.wrong("", "address = \"…\" is missing; \"dhcp\" takes what the network gives");
            }
            return fields.finish(None);
        };
        if gateway.is_some_and(|gateway| !address.has(gateway)) {
            fields.wrong("gateway", "the gateway is not in the network of the address");
        }
        fields.finish(Some(Wired::Fixed(Fixed { address, gateway, dns, interface })))
    }
}

impl Fixed {
    /// The file for systemd-networkd.
    pub(super) fn file(&self) -> String {
        let mut text = match &self.interface {
            Some(Interface(name)) => format!("[Match]\nName={name}\n"),
            None => "[Match]\nType=ether\n".to_owned(),
        };
        text.push_str("\n[Network]\nDHCP=no\nLinkLocalAddressing=ipv6\nMulticastDNS=no\nLLMNR=no\n");
        text.push_str(&format!("Address={}\n", self.address));
        if let Some(gateway) = self.gateway {
            text.push_str(&format!("Gateway={gateway}\n"));
        }
        for server in &self.dns {
            text.push_str(&format!("DNS={server}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::Document;
    use super::*;

    fn read(text: &str) -> Result<Wired, Vec<Problem>> {
        let document = Document::parse(format!("[network]\n{text}").as_bytes()).expect("TOML");
        Wired::read(&document.sections["network"])
    }

    #[test]
    fn a_fixed_address_becomes_networkds_file() {
        let text = "address = \"192.168.1.10/24\"\ngateway = \"192.168.1.1\"\ndns = [\"192.168.1.1\", \"2001:db8::1\"]\n";
        let Ok(Wired::Fixed(fixed)) = read(text) else { panic!("{:?}", read(text)) };
        let file = fixed.file();
        assert!(file.starts_with("[Match]\nType=ether\n"), "{file}");
        assert!(
            file.ends_with(
                "Address=192.168.1.10/24\nGateway=192.168.1.1\nDNS=192.168.1.1\nDNS=2001:db8::1\n"
            ),
            "{file}"
        );
        let Ok(Wired::Fixed(six)) =
            read("address = \"2001:db8::7/64\"\ngateway = \"fe80::1\"\ninterface = \"wlan0\"\n")
        else {
            panic!("not read")
        };
        assert!(six.file().starts_with("[Match]\nName=wlan0\n"), "{}", six.file());
        assert_eq!(read("address = \"dhcp\"\n"), Ok(Wired::Automatic));
        assert!(read("address = \"10.0.0.1/32\"\n").is_ok());
    }

    #[test]
    fn nothing_breaks_out_of_the_file() {
        for bad in [
            r#"address = "192.168.1.10""#,
            r#"address = "192.168.1.10/33""#,
            r#"address = "192.168.1.10/24\n[Network]\nDHCP=yes""#,
            r#"address = "127.0.0.1/8""#,
            r#"address = "192.168.1.10/24"
gateway = "10.0.0.1""#,
            r#"address = "192.168.1.10/24"
gateway = "192.168.1.1\nDNS=6.6.6.6""#,
            r#"address = "192.168.1.10/24"
interface = "eth0\nName=*""#,
            r#"address = "192.168.1.10/24"
interface = "*""#,
            r#"address = "192.168.1.10/24"
dns = "one""#,
            r#"address = "192.168.1.10/24"
dns = ["1.1.1.1","1.1.1.1","1.1.1.1","1.1.1.1","1.1.1.1"]"#,
            r#"address = "dhcp"
gateway = "192.168.1.1""#,
            r#"gateway = "192.168.1.1""#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
