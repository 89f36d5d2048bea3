//! Who this device is: an RSA-2048 key and the self-signed certificate that carries it.
//!
//! RSA because MeshCentral knows no other agent key; 2048 bits because signing costs a third of 3072.

use std::sync::Arc;

use outpost_wire::handshake::{RsaSigner, public_key_hash_of_certificate};
use outpost_wire::id::Hash384;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA384,
};
use ring::rand::{SecureRandom, SystemRandom};
use rsa::pkcs8::EncodePrivateKey;
use rsa::rand_core::{TryCryptoRng, TryRng};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// The name MeshCentral's own agents put into their certificates.
const COMMON_NAME: &str = "MeshNodeCertificate";
const KEY_BITS: usize = 2048;

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Key generation failed.
    #[error("making an RSA key: {0}")]
    Generate(String),
    /// Certificate making failed.
    #[error("making the device certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The stored text holds no key and certificate that belong together.
    #[error("the stored identity is not usable: {0}")]
    Stored(String),
}

/// Key, certificate and the device number that follows from them.
#[derive(Clone)]
pub struct Identity {
    signer: Arc<RsaSigner>,
    certificate_der: Arc<[u8]>,
    key_pkcs8: Arc<[u8]>,
    node: Hash384,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Identity {
    /// Makes a new key (takes up to some seconds on a small board).
    pub fn generate() -> Result<Self, IdentityError> {
        let key = rsa::PrivateKey::new(&mut SystemSource(SystemRandom::new()), KEY_BITS)
            .map_err(|error| IdentityError::Generate(error.to_string()))?;
        let pkcs8 = key.to_pkcs8_der().map_err(|error| IdentityError::Generate(error.to_string()))?;
        let certificate = certificate(pkcs8.as_bytes())?;
        Self::from_der(pkcs8.as_bytes(), &certificate)
    }

    /// Reads what [`to_pem`](Self::to_pem) wrote.
    pub fn from_pem(text: &str) -> Result<Self, IdentityError> {
        let stored = |error: rustls::pki_types::pem::Error| IdentityError::Stored(error.to_string());
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(stored)?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).map_err(stored)?;
        Self::from_der(key.secret_pkcs8_der(), &certificate)
    }

    fn from_der(key: &[u8], certificate: &[u8]) -> Result<Self, IdentityError> {
        let signer = RsaSigner::from_pkcs8(key).map_err(|error| IdentityError::Stored(error.to_string()))?;
        let node = public_key_hash_of_certificate(certificate)
            .map_err(|error| IdentityError::Stored(error.to_string()))?;
        if signer.public_key_hash() != node {
            return Err(IdentityError::Stored("the certificate belongs to another key".into()));
        }
        Ok(Self {
            signer: Arc::new(signer),
            certificate_der: certificate.into(),
            key_pkcs8: key.into(),
            node,
        })
    }

    /// Key and certificate as PEM, for the state folder.
    pub fn to_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key_pkcs8) + &pem("CERTIFICATE", &self.certificate_der)
    }

    /// Signs handshakes.
    pub fn signer(&self) -> Arc<RsaSigner> {
        self.signer.clone()
    }

    /// The certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// Hash of the public key: the device's number on every server.
    pub fn node(&self) -> Hash384 {
        self.node
    }
}

fn certificate(key_pkcs8: &[u8]) -> Result<Vec<u8>, IdentityError> {
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(key_pkcs8), &PKCS_RSA_SHA384)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Only the key counts to servers. The dates are wide because a board without a clock battery may
    // make this certificate in 1970.
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 12, 31);
    Ok(params.self_signed(&key)?.der().to_vec())
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

/// The system's random source in the form the key generator asks for.
struct SystemSource(SystemRandom);

impl TryRng for SystemSource {
    type Error = SourceError;

    fn try_next_u32(&mut self) -> Result<u32, SourceError> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, SourceError> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), SourceError> {
        self.0.fill(bytes).map_err(|_| SourceError)
    }
}

impl TryCryptoRng for SystemSource {}

/// The system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system's random source failed")]
struct SourceError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_round_trip_keeps_the_device_number() {
        let made = Identity::generate().expect("make");
        let read = Identity::from_pem(&made.to_pem()).expect("read");
        assert_eq!(made.node(), read.node());
        assert_eq!(made.certificate_der(), read.certificate_der());
    }

    #[test]
    fn a_key_with_a_foreign_certificate_is_refused() {
        let (one, two) = (Identity::generate().expect("make"), Identity::generate().expect("make"));
        let mixed = pem("PRIVATE KEY", &one.key_pkcs8) + &pem("CERTIFICATE", &two.certificate_der);
        let error = Identity::from_pem(&mixed).expect_err("must be refused");
        assert!(error.to_string().contains("another key"), "{error}");
    }
}
