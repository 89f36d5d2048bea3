//! Who this server is: its root, web and agent-server certificates, made once and kept.

mod files;
mod make;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use outpost_wire::handshake::{RsaSigner, public_key_hash_of_certificate};
use outpost_wire::id::Hash384;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use files::FileError;

/// Why there is no identity.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A certificate or key cannot be made.
    #[error("cannot make the {what} certificate: {reason}")]
    Make { what: &'static str, reason: String },
    /// A certificate or key that is there cannot be used.
    #[error(
        "cannot use {file}: {reason}. Restore it from a backup, or move it and its pair aside to have them made again (agents then have to be installed again)"
    )]
    Unusable { file: String, reason: String },
}

/// The server's certificates and keys.
pub struct Identity {
    /// The root that browsers may be told to trust, DER.
    pub root: CertificateDer<'static>,
    /// What TLS presents.
    pub web: WebIdentity,
    /// What agents know the server by.
    pub agent: AgentIdentity,
}

/// The TLS certificate and its key.
pub struct WebIdentity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Private key of the leaf.
    pub key: PrivateKeyDer<'static>,
    /// SHA-384 of the whole leaf: what agents bind their handshake to.
    pub full_hash: Hash384,
    /// SHA-384 of the leaf's public key.
    pub key_hash: Hash384,
    /// When the certificate ends, Unix seconds.
    pub not_after: Option<i64>,
    /// The certificate was issued by our own root, so browsers do not know it.
    pub self_made: bool,
}

/// The RSA certificate that agents pin the key of.
pub struct AgentIdentity {
    /// Signs handshakes.
    pub signer: Arc<RsaSigner>,
    /// DER.
    pub certificate: Arc<[u8]>,
    /// `ServerID`: SHA-384 of the public key.
    pub server_id: Hash384,
}

/// The names a web certificate has to cover.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Name of the certificate: the configured DNS name, else the host name.
    pub common: String,
    /// Further DNS names.
    pub dns: Vec<String>,
    /// Addresses of this machine.
    pub addresses: Vec<IpAddr>,
}

/// Servers of one name on a LAN whose certificates cover the name that they get there: `outpost-2.local` is the second.
const SAME_NAME: u32 = 4;

impl Names {
    /// The names of this machine: `cert` if configured, host name, `outpost.local`, what that becomes where another machine
    /// has it (discovery puts a number behind it), addresses.
    pub fn of_this_machine(cert: Option<&str>, addresses: Vec<IpAddr>) -> Names {
        let host =
            nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        Names::of_host(&host.to_ascii_lowercase(), cert, addresses)
    }

    fn of_host(host: &str, cert: Option<&str>, addresses: Vec<IpAddr>) -> Names {
        let common = cert.unwrap_or(if host.is_empty() { "outpost" } else { host }).to_owned();
        let mut wanted = vec![common.clone(), "outpost.local".to_owned(), "localhost".to_owned()];
        if host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)) && !host.is_empty()
        {
            wanted.push(host.to_owned());
            if !host.contains('.') {
                wanted.push(format!("{host}.local"));
                wanted.extend((2..=SAME_NAME).map(|n| format!("{host}-{n}.local")));
            }
        }
        let mut dns: Vec<String> = Vec::with_capacity(wanted.len());
        for name in wanted {
            if !dns.contains(&name) {
                dns.push(name);
            }
        }
        Names { common, dns, addresses }
    }
}

impl Identity {
    /// Loads the identity of a data folder, making what is missing. An existing web certificate is made again
    /// only when `names` asks for a name it does not cover and `keep` is not set; its predecessor is kept as
    /// `…-old`.
    ///
    /// # Errors
    /// [`IdentityError`] names the file.
    pub fn load(folder: &Path, names: &Names, keep: bool) -> Result<Identity, IdentityError> {
        let root = match files::load_pair(folder, "root")? {
            Some(pair) => pair,
            None => files::store_pair(folder, "root", make::root()?)?,
        };
        let agent = match files::load_pair(folder, "agentserver")? {
            Some(pair) => pair,
            None => {
                log::info!("making the key that agents will know this server by (RSA-2048)");
                files::store_pair(folder, "agentserver", make::agent_server(&root)?)?
            }
        };
        let web = match files::load_pair(folder, "webserver")? {
            Some(pair) if keep || !make::is_ours(&pair, &root) || make::covers(&pair, names) => pair,
            Some(_) => {
                log::info!(
                    "the web certificate does not cover every name of this machine any more: making a new one"
                );
                files::set_aside(folder, "webserver")?;
                files::store_pair(folder, "webserver", make::web(&root, names)?)?
            }
            None => files::store_pair(folder, "webserver", make::web(&root, names)?)?,
        };
        let agent = AgentIdentity {
            signer: Arc::new(make::signer(&agent)?),
            server_id: public_key_hash_of_certificate(&agent.certificates[0])
                .map_err(|error| agent.unusable(error.to_string()))?,
            certificate: Arc::from(agent.certificates[0].as_ref()),
        };
        if agent.signer.public_key_hash() != agent.server_id {
            return Err(IdentityError::Unusable {
                file: "agentserver-cert-private.key".into(),
                reason: "it does not belong to the certificate beside it".into(),
            });
        }
        let leaf = &web.certificates[0];
        let self_made = make::is_ours(&web, &root);
        let mut chain = web.certificates.clone();
        if self_made && chain.len() == 1 {
            chain.push(root.certificates[0].clone());
        }
        let web = WebIdentity {
            full_hash: Hash384::of(leaf),
            key_hash: public_key_hash_of_certificate(leaf)
                .map_err(|error| web.unusable(error.to_string()))?,
            not_after: make::not_after(leaf),
            key: web.key.clone_key(),
            chain,
            self_made,
        };
        Ok(Identity { root: root.certificates[0].clone(), web, agent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(common: &str) -> Names {
        Names {
            common: common.into(),
            dns: vec![common.into(), "outpost.local".into()],
            addresses: vec!["192.0.2.1".parse().expect("an address")],
        }
    }

    #[test]
    fn a_second_box_in_the_lan_has_its_name_in_the_certificate() {
        let names = Names::of_host("outpost", None, Vec::new());
        let wanted = [
            "outpost",
            "outpost.local",
            "localhost",
            "outpost-2.local",
            "outpost-3.local",
            "outpost-4.local",
        ];
        assert_eq!(names.dns, wanted);
        let named = Names::of_host("attic", Some("rmm.example.org"), Vec::new());
        assert_eq!(named.common, "rmm.example.org");
        for name in ["rmm.example.org", "attic.local", "attic-2.local", "outpost.local"] {
            assert!(named.dns.iter().any(|one| one == name), "{name}");
        }
        assert_eq!(Names::of_host("", None, Vec::new()).dns, ["outpost", "outpost.local", "localhost"]);
        assert_eq!(Names::of_host("no name", None, Vec::new()).dns[1..], ["outpost.local", "localhost"]);
    }

    #[test]
    fn an_identity_is_made_once_and_reused_byte_for_byte() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Identity::load(folder.path(), &names("box"), false).expect("an identity");
        let again = Identity::load(folder.path(), &names("box"), false).expect("the same");
        assert_eq!(first.web.full_hash, again.web.full_hash);
        assert_eq!(first.agent.server_id, again.agent.server_id);
        assert_eq!(first.root, again.root);
        use std::os::unix::fs::PermissionsExt;
        for name in ["root", "agentserver", "webserver"] {
            let key = folder.path().join(format!("{name}-cert-private.key"));
            assert_eq!(std::fs::metadata(key).expect("a key").permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_new_name_makes_a_new_web_certificate_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Identity::load(folder.path(), &names("box"), false).expect("an identity");
        let kept = Identity::load(folder.path(), &names("other"), true).expect("kept");
        assert_eq!(first.web.full_hash, kept.web.full_hash);
        let second = Identity::load(folder.path(), &names("other"), false).expect("a new one");
        assert_ne!(first.web.full_hash, second.web.full_hash);
        assert_eq!(first.agent.server_id, second.agent.server_id);
        assert!(folder.path().join("webserver-cert-public.crt-old").exists());
    }

    #[test]
    fn the_key_of_another_certificate_is_refused() {
        let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        Identity::load(one.path(), &names("box"), false).expect("an identity");
        Identity::load(two.path(), &names("box"), false).expect("an identity");
        let key = "agentserver-cert-private.key";
        std::fs::copy(two.path().join(key), one.path().join(key)).expect("copied");
        let error = Identity::load(one.path(), &names("box"), false).err().expect("refused");
        assert!(error.to_string().contains("does not belong"), "{error}");
        std::fs::write(one.path().join(key), "not a key").expect("written");
        let error = Identity::load(one.path(), &names("box"), false).err().expect("refused");
        assert!(error.to_string().contains(key), "{error}");
    }
}
