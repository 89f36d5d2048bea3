//! Asking whoever sits at the device before a session begins, and telling them of it (tunnel-protocols §1.10).
//!
//! Consent is a state of its own: not a byte of the session flows before it is given, and an agent that cannot
//! ask takes the answer for no.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use outpost_wire::message::SessionOptions;

use crate::desktop::{Answer, Desktops, Dialog};
use crate::logins;

/// How long a question waits for its answer when the server does not say (tunnel-protocols §1.10), and at most.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);
/// How long a notice is shown.
const NOTICE: Duration = Duration::from_secs(10);

/// A kind of session, as far as consent goes.
#[derive(Debug)]
pub struct Matter {
    /// What it is, in words that fit "asks for … of this device".
    pub name: &'static str,
    /// The bit by which the user of the device is asked first.
    pub asks: u32,
    /// The bit by which they are told.
    pub tells: u32,
    /// The server's rule by which an empty machine needs no consent.
    pub unless_empty: &'static str,
    /// The server's own words for the question and the notice.
    pub words: fn(&SessionOptions) -> (Option<&str>, Option<&str>),
}

/// Who wants something.
#[derive(Debug, Clone, Default)]
pub struct Asker {
    /// Login name.
    pub user: String,
    /// Real name.
    pub real_name: Option<String>,
}

impl Asker {
    fn fill(&self, words: &str) -> String {
        let real = self.real_name.as_deref().unwrap_or(&self.user);
        words.replace("{0}", real).replace("{1}", &self.user)
    }
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consent {
    /// They agreed.
    Given,
    /// They did not, or could not be asked; the reason in words.
    Refused(String),
}

/// Whether somebody has to be asked first.
pub fn is_needed(matter: &Matter, bits: u32, rules: &SessionOptions) -> bool {
    bits & matter.asks != 0 && !nobody_to_ask(rules, matter, &logins::users())
}

/// The server's rule that an empty machine needs no consent.
fn nobody_to_ask(rules: &SessionOptions, matter: &Matter, users: &[String]) -> bool {
    let for_this = rules.extra.get(matter.unless_empty).and_then(serde_json::Value::as_bool);
    users.is_empty() && (rules.consent_auto_accept_if_no_user == Some(true) || for_this == Some(true))
}

/// Asks. When this future is dropped, the question is withdrawn.
pub async fn ask(
    desktops: &Arc<Desktops>,
    matter: &Matter,
    asker: &Asker,
    rules: &SessionOptions,
) -> Consent {
    let patience = rules.consent_timeout.map_or(PATIENCE, |seconds| Duration::from_secs(seconds.into()));
    let (question, _) = (matter.words)(rules);
    let text = question.map(|words| asker.fill(words)).unwrap_or_else(|| {
        asker.fill(&format!("{{0}} ({{1}}) asks for {} of this device.\nDo you agree?", matter.name))
    });
    let dialog = Dialog {
        title: rules.consent_title.clone().unwrap_or_else(|| "Remote access".into()),
        text,
        buttons: vec!["Allow".into(), "Refuse".into()],
        timeout: Some(patience.clamp(Duration::from_secs(1), LONGEST_PATIENCE)),
    };
    match show(desktops, dialog).await {
        Ok(Answer::Button(0)) => Consent::Given,
        Ok(Answer::Timeout) if rules.consent_auto_accept == Some(true) => Consent::Given,
        Ok(Answer::Button(_)) => Consent::Refused("The user of this device has refused".into()),
        Ok(Answer::Timeout) => Consent::Refused("The user of this device did not answer".into()),
        Ok(Answer::Withdrawn) => Consent::Refused("The question was withdrawn".into()),
        Err(reason) => Consent::Refused(format!(
            "The user of this device must be asked first, and this agent cannot ask: {reason}"
        )),
    }
}

/// Tells whoever sits there that a session has begun, if the server wants that. Not being able to is no reason
/// against it: it is a courtesy, where the question is a condition.
pub fn tell(desktops: &Arc<Desktops>, matter: &Matter, asker: &Asker, bits: u32, rules: &SessionOptions) {
    if bits & matter.tells == 0 {
        return;
    }
    let (_, words) = (matter.words)(rules);
    let text = words
        .map(|words| asker.fill(words))
        .unwrap_or_else(|| asker.fill(&format!("{{0}} ({{1}}) uses {} of this device.", matter.name)));
    let dialog = Dialog {
        title: rules.notify_title.clone().unwrap_or_else(|| "Remote access".into()),
        text,
        buttons: vec!["OK".into()],
        timeout: Some(NOTICE),
    };
    let desktops = desktops.clone();
    tokio::spawn(async move {
        if let Err(reason) = show(&desktops, dialog).await {
            log::info!("a notice could not be shown: {reason}");
        }
    });
}

/// Shows a dialog beside the agent's thread; dropping this takes it away.
pub async fn show(desktops: &Arc<Desktops>, dialog: Dialog) -> Result<Answer, String> {
    let (kept, watched) = UnixStream::pair().map_err(|error| error.to_string())?;
    let place = desktops.dialogs.clone().try_acquire_owned();
    let place = place.map_err(|_| "too many dialogs are shown there already".to_owned())?;
    let desktops = desktops.clone();
    let shown = tokio::task::spawn_blocking(move || {
        let answer = desktops.ask(&dialog, &watched);
        drop(place);
        answer
    });
    let shown = shown.await;
    drop(kept);
    shown.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MATTER: Matter = Matter {
        name: "the files",
        asks: 32,
        tells: 4,
        unless_empty: "consentAutoAcceptIfFileNoUser",
        words: |_| (None, None),
    };

    #[test]
    fn an_empty_machine_needs_no_consent_only_by_rule() {
        let rule = SessionOptions { consent_auto_accept_if_no_user: Some(true), ..SessionOptions::default() };
        assert!(nobody_to_ask(&rule, &MATTER, &[]));
        assert!(!nobody_to_ask(&rule, &MATTER, &["ada".into()]));
        assert!(!nobody_to_ask(&SessionOptions::default(), &MATTER, &[]));
        let mut for_files = SessionOptions::default();
        for_files.extra.insert("consentAutoAcceptIfFileNoUser".into(), true.into());
        assert!(nobody_to_ask(&for_files, &MATTER, &[]));
        let terminal = Matter { unless_empty: "consentAutoAcceptIfTerminalNoUser", ..MATTER };
        assert!(!nobody_to_ask(&for_files, &terminal, &[]));
        assert!(!is_needed(&MATTER, 16, &SessionOptions::default()));
    }

    #[test]
    fn words_name_who_asks() {
        let ada = Asker { user: "ada".into(), real_name: Some("Ada L".into()) };
        assert_eq!(ada.fill("{0} ({1})"), "Ada L (ada)");
        assert_eq!(Asker { real_name: None, ..ada }.fill("{0} ({1})"), "ada (ada)");
    }
}
