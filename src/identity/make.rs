//! Making certificates.

use outpost_wire::random;
use std::collections::HashSet;
use std::net::IpAddr;

use outpost_wire::handshake::RsaSigner;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA384, SanType, date_time_ymd,
};
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::pkcs8::EncodePrivateKey;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::files::{NewPair, Pair};
use super::{IdentityError, Names};

/// Bits of the agent-server key. MeshAgent takes RSA only; 2048 signs three times faster than
/// MeshCentral's 3072 and is accepted by every agent (agent-protocol §3.5).
const AGENT_KEY_BITS: usize = 2048;

fn failed(what: &'static str) -> impl Fn(rcgen::Error) -> IdentityError {
    move |error| IdentityError::Make { what, reason: error.to_string() }
}

/// A name no other box has, so that two boxes' roots can be trusted by one browser.
fn distinct(prefix: &str) -> String {
    let [a, b, c] = random::bytes();
    format!("{prefix}-{a:02x}{b:02x}{c:02x}")
}

/// Valid 2018..2049, as MeshCentral's: a box without a clock must not find its own certificate expired, and
/// browsers that bound a certificate's life do so for those issued after 2019.
fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(2018, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    params
}

pub(super) fn root() -> Result<NewPair, IdentityError> {
    let failed = failed("root");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(&failed)?;
    let mut params = params(&distinct("OutpostRoot"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(&failed)?;
    Ok(NewPair { certificate: certificate.pem(), key: key.serialize_pem() })
}

pub(super) fn web(root: &Pair, names: &Names) -> Result<NewPair, IdentityError> {
    let failed = failed("web");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(&failed)?;
    let mut params = params(&names.common);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in &names.dns {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(&failed)?));
    }
    let loopback = [IpAddr::from([127, 0, 0, 1])];
    for address in loopback.iter().chain(&names.addresses) {
        if !params.subject_alt_names.contains(&SanType::IpAddress(*address)) {
            params.subject_alt_names.push(SanType::IpAddress(*address));
        }
    }
    sign("web", &params, &key, root).map(|certificate| NewPair { certificate, key: key.serialize_pem() })
}

pub(super) fn agent_server(root: &Pair) -> Result<NewPair, IdentityError> {
    let what = "agent-server";
    let failed = |reason: String| IdentityError::Make { what, reason };
    let mut random = rsa::rand_core::UnwrapErr(getrandom::SysRng);
    let rsa = rsa::PrivateKey::new(&mut random, AGENT_KEY_BITS).map_err(|error| failed(error.to_string()))?;
    let pkcs8 = rsa.to_pkcs8_der().map_err(|error| failed(error.to_string()))?;
    let pkcs1 = rsa.to_pkcs1_pem(rsa::pkcs1::LineEnding::LF).map_err(|error| failed(error.to_string()))?;
    let key =
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8.as_bytes()), &PKCS_RSA_SHA384)
            .map_err(|error| failed(error.to_string()))?;
    let mut params = params(&distinct("OutpostAgentServer"));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    sign(what, &params, &key, root).map(|certificate| NewPair { certificate, key: pkcs1.to_string() })
}

fn sign(
    what: &'static str,
    params: &CertificateParams,
    key: &KeyPair,
    root: &Pair,
) -> Result<String, IdentityError> {
    let failed = failed(what);
    let root_key = root_key(&root.key).map_err(&failed)?;
    let issuer = Issuer::from_ca_cert_der(&root.certificates[0], root_key).map_err(&failed)?;
    Ok(params.signed_by(key, &issuer).map_err(&failed)?.pem())
}

/// The root's key; MeshCentral's RSA roots are PKCS#1 files.
fn root_key(key: &PrivateKeyDer<'static>) -> Result<KeyPair, rcgen::Error> {
    match key {
        PrivateKeyDer::Pkcs1(pkcs1) => {
            use rsa::pkcs1::DecodeRsaPrivateKey;
            let rsa = rsa::PrivateKey::from_pkcs1_der(pkcs1.secret_pkcs1_der())
                .map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
            let pkcs8 = rsa.to_pkcs8_der().map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
            KeyPair::from_pkcs8_der_and_sign_algo(
                &PrivatePkcs8KeyDer::from(pkcs8.as_bytes()),
                &PKCS_RSA_SHA384,
            )
        }
        other => KeyPair::try_from(other.secret_der()),
    }
}

/// What signs the agent handshake.
pub(super) fn signer(pair: &Pair) -> Result<RsaSigner, IdentityError> {
    let unusable =
        |reason: String| IdentityError::Unusable { file: format!("{}-cert-private.key", pair.name), reason };
    match &pair.key {
        PrivateKeyDer::Pkcs1(key) => RsaSigner::from_pkcs1(key.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(key) => RsaSigner::from_pkcs8(key.secret_pkcs8_der()),
        _ => return Err(unusable("agents accept RSA keys only".into())),
    }
    .map_err(|error| unusable(error.to_string()))
}

/// Whether our own root issued this certificate.
pub(super) fn is_ours(pair: &Pair, root: &Pair) -> bool {
    let (Ok((_, leaf)), Ok((_, root))) =
        (X509Certificate::from_der(&pair.certificates[0]), X509Certificate::from_der(&root.certificates[0]))
    else {
        return false;
    };
    leaf.issuer() == root.subject()
}

/// Whether a certificate covers all names.
pub(super) fn covers(pair: &Pair, names: &Names) -> bool {
    let Ok((_, leaf)) = X509Certificate::from_der(&pair.certificates[0]) else { return false };
    let Ok(Some(covered)) = leaf.subject_alternative_name() else { return false };
    let mut dns = HashSet::new();
    let mut addresses = HashSet::new();
    for name in &covered.value.general_names {
        match name {
            GeneralName::DNSName(name) => {
                dns.insert((*name).to_owned());
            }
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                addresses.extend(v4.or(v6));
            }
            _ => {}
        }
    }
    names.dns.iter().all(|name| dns.contains(name))
        && names.addresses.iter().all(|address| addresses.contains(address))
}
/// When a certificate ends, Unix seconds.
pub fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}
