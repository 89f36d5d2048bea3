//! Whether the box brings itself up to date (config §1.4).

use serde_json::Value;

use super::reader::Section;
use super::url::Url;

/// Which release is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// `selfUpdate: false`: an administrator decides. The default.
    #[default]
    Never,
    /// `selfUpdate: true`: the newest one.
    Newest,
    /// `selfUpdate: "1.2.3"`: this one.
    Release(String),
}

/// The settings of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelfUpdate {
    /// `selfUpdate`.
    pub wanted: Wanted,
    /// `selfUpdateUrl`: the address of the index of releases.
    pub url: Option<Url>,
}

impl SelfUpdate {
    pub(super) fn read(section: &mut Section<'_>) -> SelfUpdate {
        let wanted = match section.take("selfupdate") {
            None | Some(Value::Null | Value::Bool(false)) => Wanted::Never,
            Some(Value::Bool(true)) => Wanted::Newest,
            Some(Value::String(version)) if !version.is_empty() && version.len() <= 64 => {
                Wanted::Release(version)
            }
            Some(_) => {
                section.wrong("selfupdate", "expected true, false or a release; nothing is updated".into());
                Wanted::Never
            }
        };
        let url = section.text("selfupdateurl").and_then(|text| match Url::parse(&text) {
            Ok(url) => Some(url),
            Err(error) => {
                section.wrong("selfupdateurl", error.to_string());
                None
            }
        });
        if wanted != Wanted::Never && url.is_none() {
            section.wrong(
                "selfupdate",
                "needs `selfUpdateUrl`, the address of an index; nothing is updated".into(),
            );
        }
        SelfUpdate { wanted, url }
    }
}
