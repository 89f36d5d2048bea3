//! `consentMessages` and `notificationMessages` of a domain: what agents say and ask at devices, and when they
//! need not (config §1.5, tunnel-protocols §1.4).

use serde_json::{Map, Value};

use super::reader::Section;

/// Longest text, in bytes; agents take no longer ones.
const LONGEST: usize = 1024;
/// Longest that a question may wait for its answer, in seconds.
const LONGEST_WAIT: u64 = 3600;

/// Texts, by their setting and by what agents call them.
const QUESTIONS: [(&str, &str); 4] = [
    ("title", "consentTitle"),
    ("desktop", "consentMsgDesktop"),
    ("terminal", "consentMsgTerminal"),
    ("files", "consentMsgFiles"),
];
const NOTICES: [(&str, &str); 4] = [
    ("title", "notifyTitle"),
    ("desktop", "notifyMsgDesktop"),
    ("terminal", "notifyMsgTerminal"),
    ("files", "notifyMsgFiles"),
];
/// Rules. MeshCentral misspells the one for files without a user, so that it never has an effect there.
const RULES: [(&str, &str); 10] = [
    ("autoacceptontimeout", "consentAutoAccept"),
    ("autoacceptifnouser", "consentAutoAcceptIfNoUser"),
    ("autoacceptifdesktopnouser", "consentAutoAcceptIfDesktopNoUser"),
    ("autoacceptifterminalnouser", "consentAutoAcceptIfTerminalNoUser"),
    ("autoacceptiffilenouser", "consentAutoAcceptIfFileNoUser"),
    ("autoacceptiflocked", "consentAutoAcceptIfLocked"),
    ("autoacceptifdesktoplocked", "consentAutoAcceptIfDesktopLocked"),
    ("autoacceptifterminallocked", "consentAutoAcceptIfTerminalLocked"),
    ("autoacceptiffilelocked", "consentAutoAcceptIfFileLocked"),
    ("oldstyle", "oldStyle"),
];

/// The `soptions` of a domain's sessions, as agents read them.
pub(super) fn read(domain: &mut Section<'_>) -> Map<String, Value> {
    let mut options = Map::new();
    let mut questions = domain.section("consentmessages");
    texts(&mut questions, &QUESTIONS, &mut options);
    if let Some(seconds) = questions.number("consenttimeout", 1..=LONGEST_WAIT) {
        options.insert("consentTimeout".into(), seconds.into());
    }
    for (setting, option) in RULES {
        if questions.flag(setting, false) {
            options.insert(option.into(), true.into());
        }
    }
    questions.finish(&[]);
    let mut notices = domain.section("notificationmessages");
    texts(&mut notices, &NOTICES, &mut options);
    notices.finish(&[]);
    options
}

fn texts(section: &mut Section<'_>, names: &[(&str, &str)], options: &mut Map<String, Value>) {
    for (setting, option) in names {
        let Some(text) = section.text(setting) else { continue };
        if text.len() > LONGEST {
            section.wrong(setting, format!("at most {LONGEST} bytes; it is ignored"));
            continue;
        }
        options.insert((*option).into(), text.into());
    }
}
