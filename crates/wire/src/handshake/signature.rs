//! RSA signatures and the public keys of certificates.

use std::fmt;

use ring::{rand::SystemRandom, signature};

use super::HandshakeError;
use crate::{
    der::{BIT_STRING, CONTEXT_0, CONTEXT_1, Der, INTEGER, OCTET_STRING, OID, SEQUENCE, SET},
    id::Hash384,
};

/// Shortest RSA key that is trusted. Real agents have 3072 bits, ours and our server 2048.
pub const MIN_KEY_BITS: usize = 2048;

/// `rsaEncryption`, 1.2.840.113549.1.1.1.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// `signedData`, 1.2.840.113549.1.7.2.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];

/// An RSA private key that signs as the protocol wants it: PKCS#1 v1.5 with SHA-384.
pub struct RsaSigner {
    pair: signature::RsaKeyPair,
}

impl RsaSigner {
    /// Takes a PKCS#8 key (`PRIVATE KEY`), DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, HandshakeError> {
        Self::made(signature::RsaKeyPair::from_pkcs8(der))
    }

    /// Takes a PKCS#1 key (`RSA PRIVATE KEY`), DER.
    pub fn from_pkcs1(der: &[u8]) -> Result<Self, HandshakeError> {
        Self::made(signature::RsaKeyPair::from_der(der))
    }

    fn made(pair: Result<signature::RsaKeyPair, ring::error::KeyRejected>) -> Result<Self, HandshakeError> {
        pair.map(|pair| Self { pair }).map_err(|e| HandshakeError::BadPrivateKey(e.to_string()))
    }

    /// The hash that names the holder: a server's `ServerID`, an agent's device id.
    pub fn public_key_hash(&self) -> Hash384 {
        Hash384::of(self.pair.public().as_ref())
    }

    /// The signature, as long as the modulus.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut out = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&signature::RSA_PKCS1_SHA384, &SystemRandom::new(), message, &mut out)
            .expect("a checked key signs, and the buffer has the length of the modulus");
        out
    }
}

/// Never the key itself.
impl fmt::Debug for RsaSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaSigner({:?})", self.public_key_hash())
    }
}

/// The hash that names the holder of a certificate: SHA-384 of the contents of its public key's BIT STRING.
/// For RSA that is the PKCS#1 `RSAPublicKey`.
pub fn public_key_hash_of_certificate(der: &[u8]) -> Result<Hash384, HandshakeError> {
    Ok(Hash384::of(public_key(der)?.key))
}

/// What a certificate says of its key.
pub(super) struct PublicKey<'a> {
    algorithm: &'a [u8],
    /// Contents of the BIT STRING.
    key: &'a [u8],
}

impl PublicKey<'_> {
    pub(super) fn hash(&self) -> Hash384 {
        Hash384::of(self.key)
    }

    /// Whether `signed` is a signature of `message` by this key: raw RSA, or a PKCS#7 as Windows agents
    /// with a key in the system's store make it.
    pub(super) fn verify(&self, message: &[u8], signed: &[u8]) -> Result<(), HandshakeError> {
        let modulus = self.modulus()?;
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |b| b.leading_zeros() as usize);
        if bits < MIN_KEY_BITS {
            return Err(HandshakeError::KeyTooSmall { bits });
        }
        let raw = if signed.len() == modulus.len() {
            signed
        } else {
            pkcs7_signature(signed).ok_or(HandshakeError::BadSignature)?
        };
        signature::UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA384, self.key)
            .verify(message, raw)
            .map_err(|_| HandshakeError::BadSignature)
    }

    /// The modulus without leading zero bytes.
    fn modulus(&self) -> Result<&[u8], HandshakeError> {
        if self.algorithm != RSA_ENCRYPTION {
            return Err(HandshakeError::NotRsa);
        }
        let modulus = Der::new(self.key)
            .enter(SEQUENCE)
            .and_then(|mut key| key.take(INTEGER))
            .ok_or(HandshakeError::UndecodableCertificate)?;
        let zeros = modulus.iter().take_while(|&&b| b == 0).count();
        Ok(&modulus[zeros..])
    }
}

/// Finds the public key of an X.509 certificate. Nothing else of it matters here: trust comes from the key's
/// hash, and agents' certificates are self-signed.
pub(super) fn public_key(der: &[u8]) -> Result<PublicKey<'_>, HandshakeError> {
    fn find(der: &[u8]) -> Option<PublicKey<'_>> {
        let mut outer = Der::new(der);
        let mut certificate = outer.enter(SEQUENCE)?;
        if !outer.is_empty() {
            return None;
        }
        let mut tbs = certificate.enter(SEQUENCE)?;
        tbs.skip_optional(CONTEXT_0)?; // version
        tbs.take(INTEGER)?; // serial number
        tbs.take(SEQUENCE)?; // signature algorithm
        tbs.take(SEQUENCE)?; // issuer
        tbs.take(SEQUENCE)?; // validity
        tbs.take(SEQUENCE)?; // subject
        let mut info = tbs.enter(SEQUENCE)?;
        let algorithm = info.enter(SEQUENCE)?.take(OID)?;
        match info.take(BIT_STRING)?.split_first()? {
            (0, key) => Some(PublicKey { algorithm, key }),
            _ => None, // Keys have whole bytes.
        }
    }
    find(der).ok_or(HandshakeError::UndecodableCertificate)
}

/// The signature inside a PKCS#7 `SignedData` with one signer. Its content and certificates are left alone:
/// what counts is whether the signature fits what we know was to be signed, by the key we were shown. With
/// signed attributes it would be of something else, so such a one is refused.
fn pkcs7_signature(der: &[u8]) -> Option<&[u8]> {
    let mut info = Der::new(der).enter(SEQUENCE)?;
    if info.take(OID)? != SIGNED_DATA {
        return None;
    }
    let mut data = info.enter(CONTEXT_0)?.enter(SEQUENCE)?;
    data.take(INTEGER)?; // version
    data.take(SET)?; // digest algorithms
    data.take(SEQUENCE)?; // content
    data.skip_optional(CONTEXT_0)?; // certificates
    data.skip_optional(CONTEXT_1)?; // revocation lists
    let mut signers = data.enter(SET)?;
    let mut signer = signers.enter(SEQUENCE)?;
    if !signers.is_empty() {
        return None;
    }
    signer.take(INTEGER)?; // version
    signer.any()?; // who signed
    signer.take(SEQUENCE)?; // digest algorithm
    if signer.peek()? == CONTEXT_0 {
        return None; // signed attributes
    }
    signer.take(SEQUENCE)?; // signature algorithm
    signer.take(OCTET_STRING)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = &[0x5a; 144];
    const AGENT: &[u8] = include_bytes!("../../tests/data/agent.cert.der");

    #[test]
    fn keys_and_certificates_name_the_same_holder() {
        let signer = RsaSigner::from_pkcs8(include_bytes!("../../tests/data/agent.key.pkcs8.der")).unwrap();
        let same = RsaSigner::from_pkcs1(include_bytes!("../../tests/data/agent.key.pkcs1.der")).unwrap();
        assert_eq!(signer.public_key_hash(), public_key_hash_of_certificate(AGENT).unwrap());
        assert_eq!(signer.public_key_hash(), same.public_key_hash());
        assert!(matches!(RsaSigner::from_pkcs8(b"x"), Err(HandshakeError::BadPrivateKey(_))));
        let small = include_bytes!("../../tests/data/rsa1024.key.pkcs8.der");
        assert!(matches!(RsaSigner::from_pkcs8(small), Err(HandshakeError::BadPrivateKey(_))));
        public_key(AGENT).unwrap().verify(MESSAGE, &signer.sign(MESSAGE)).unwrap();
    }

    #[test]
    fn signatures_in_pkcs7_are_found() {
        let key = public_key(AGENT).unwrap();
        let plain = include_bytes!("../../tests/data/agent.plain.p7.der");
        key.verify(MESSAGE, plain).unwrap();
        assert_eq!(key.verify(&[0; 144], plain), Err(HandshakeError::BadSignature), "only of what we expect");
        let with_attributes = include_bytes!("../../tests/data/agent.attributes.p7.der");
        assert_eq!(key.verify(MESSAGE, with_attributes), Err(HandshakeError::BadSignature));
        for cut in 0..plain.len() {
            assert!(key.verify(MESSAGE, &plain[..cut]).is_err());
        }
    }

    #[test]
    fn unsuitable_certificates_are_refused() {
        let refusal =
            |der: &[u8]| public_key(der).and_then(|key| key.verify(MESSAGE, &[1; 256])).unwrap_err();
        assert_eq!(refusal(include_bytes!("../../tests/data/ecdsa.cert.der")), HandshakeError::NotRsa);
        assert_eq!(
            refusal(include_bytes!("../../tests/data/rsa1024.cert.der")),
            HandshakeError::KeyTooSmall { bits: 1024 }
        );
        assert_eq!(refusal(AGENT), HandshakeError::BadSignature);
        for cut in 0..AGENT.len() {
            assert_eq!(refusal(&AGENT[..cut]), HandshakeError::UndecodableCertificate);
        }
    }
}
