//! Certificate and key files, with MeshCentral's names.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::IdentityError;

/// A file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct FileError {
    path: String,
    reason: std::io::Error,
}

/// A certificate (with its chain) and its key.
pub(super) struct Pair {
    pub(super) name: &'static str,
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// A pair that was just made, as PEM.
pub(super) struct NewPair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Pair {
    pub(super) fn unusable(&self, reason: String) -> IdentityError {
        IdentityError::Unusable { file: format!("{}-cert-public.crt", self.name), reason }
    }
}

fn certificate_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}-cert-public.crt"))
}

fn key_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}-cert-private.key"))
}

/// Loads a pair; `None` when neither file is there. `…-cert-chain1.crt` and on are the chain.
pub(super) fn load_pair(folder: &Path, name: &'static str) -> Result<Option<Pair>, IdentityError> {
    let (certificate_path, key_path) = (certificate_path(folder, name), key_path(folder, name));
    let (certificate, key) = (read(&certificate_path)?, read(&key_path)?);
    let (certificate, key) = match (certificate, key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return Ok(None),
        (present, _) => {
            let (missing, there) =
                if present.is_some() { (key_path, certificate_path) } else { (certificate_path, key_path) };
            return Err(IdentityError::Unusable {
                file: there.display().to_string(),
                reason: format!("its pair {} is missing", missing.display()),
            });
        }
    };
    let unusable =
        |path: &Path, reason: String| IdentityError::Unusable { file: path.display().to_string(), reason };
    let mut certificates = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(&certificate_path, error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable(&certificate_path, "there is no certificate in it".into()));
    }
    for n in 1.. {
        let path = folder.join(format!("{name}-cert-chain{n}.crt"));
        let Some(link) = read(&path)? else { break };
        for certificate in CertificateDer::pem_slice_iter(link.as_bytes()) {
            certificates.push(certificate.map_err(|error| unusable(&path, error.to_string()))?);
        }
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| unusable(&key_path, error.to_string()))?;
    Ok(Some(Pair { name, certificates, key }))
}

/// Stores a new pair, the key first and readable to its owner only, and loads it.
pub(super) fn store_pair(folder: &Path, name: &'static str, pair: NewPair) -> Result<Pair, IdentityError> {
    write(&key_path(folder, name), &pair.key, 0o600)?;
    write(&certificate_path(folder, name), &pair.certificate, 0o644)?;
    let file = certificate_path(folder, name).display().to_string();
    load_pair(folder, name)?.ok_or_else(|| IdentityError::Unusable { file, reason: "it vanished".into() })
}

/// Keeps a pair as `…-old`, `…-old2`, ….
pub(super) fn set_aside(folder: &Path, name: &str) -> Result<(), IdentityError> {
    for path in [certificate_path(folder, name), key_path(folder, name)] {
        let mut aside = PathBuf::from(format!("{}-old", path.display()));
        let mut n = 2;
        while aside.exists() {
            aside = PathBuf::from(format!("{}-old{n}", path.display()));
            n += 1;
        }
        std::fs::rename(&path, &aside)
            .map_err(|reason| FileError { path: path.display().to_string(), reason })?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<String>, FileError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(reason) => Err(FileError { path: path.display().to_string(), reason }),
    }
}

/// Writes beside the target, syncs and renames, so a power cut leaves the old file or the new one.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    let temporary = PathBuf::from(format!("{}.new", path.display()));
    (|| {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        if let Some(folder) = path.parent() {
            std::fs::File::open(folder)?.sync_all()?;
        }
        Ok(())
    })()
    .map_err(|reason| FileError { path: path.display().to_string(), reason })
}
