//! HTTP proxies: `WebProxy=http://[user:password@]host:port` and the CONNECT request.

use std::fmt;

use base64::Engine as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer of a proxy, in bytes.
const MAX_ANSWER: usize = 8 * 1024;

/// What is wrong with a proxy.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The setting cannot be read.
    #[error("WebProxy must be http://[user:password@]host:port")]
    Setting,
    /// No talk with it.
    #[error("talking to the proxy: {0}")]
    Io(#[from] std::io::Error),
    /// It said no.
    #[error("the proxy refused: {0}")]
    Refused(String),
}

/// A proxy to go through.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    authority: String,
    credentials: Option<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Reads the setting.
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        let rest = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((credentials, authority)) => (Some(credentials.to_owned()), authority),
            None => (None, rest),
        };
        let (host, port) = authority.rsplit_once(':').ok_or(ProxyError::Setting)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) || !port.parse::<u16>().is_ok_and(|port| port != 0) {
            return Err(ProxyError::Setting);
        }
        Ok(Self { authority: authority.to_owned(), credentials })
    }

    /// Its own `host:port`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Asks for a tunnel to `target` on a fresh connection to the proxy.
    pub async fn tunnel(&self, mut stream: TcpStream, target: &str) -> Result<TcpStream, ProxyError> {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(credentials) = &self.credentials {
            let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
            request.push_str(&format!("Proxy-Authorization: Basic {encoded}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == MAX_ANSWER {
                return Err(ProxyError::Refused("an answer without end".into()));
            }
            // Byte by byte: what follows belongs to TLS.
            answer.push(stream.read_u8().await?);
        }
        let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        match line.split_ascii_whitespace().nth(1) {
            Some(status) if line.starts_with("HTTP/1.") && status.starts_with('2') && status.len() == 3 => {
                Ok(stream)
            }
            _ => Err(ProxyError::Refused(line.chars().filter(|c| !c.is_control()).take(200).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn settings_are_read_and_never_shown_whole() {
        let proxy = Proxy::parse("http://ada:s3cret@proxy.lan:3128").expect("proxy");
        assert_eq!(proxy.authority(), "proxy.lan:3128");
        assert!(!format!("{proxy:?}").contains("s3cret"));
        for bad in ["", "proxy", "http://:80", "http://h:0", "http://h:x", "http://a\r\nb:80"] {
            assert!(Proxy::parse(bad).is_err(), "{bad}");
        }
    }

    async fn answer_with(answer: &'static str) -> (Result<TcpStream, ProxyError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let mut request = vec![0; 1024];
            let n = stream.read(&mut request).await.expect("read");
            stream.write_all(answer.as_bytes()).await.expect("write");
            String::from_utf8_lossy(&request[..n]).into_owned()
        };
        let proxy = Proxy::parse(&format!("http://ada:pw@{address}")).expect("proxy");
        let client =
            async { proxy.tunnel(TcpStream::connect(address).await.expect("connect"), "h:443").await };
        tokio::join!(client, server)
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_with_credentials() {
        let (result, request) = answer_with("HTTP/1.1 200 Connection established\r\n\r\n").await;
        assert!(result.is_ok());
        assert!(
            request.starts_with("CONNECT h:443 HTTP/1.1\r\n") && request.contains("Basic YWRhOnB3\r\n"),
            "{request}"
        );
        let (result, _) = answer_with("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
        assert!(result.is_err_and(|error| error.to_string().contains("407")));
    }
}
