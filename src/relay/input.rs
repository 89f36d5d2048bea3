//! What a guest, or somebody who may only look, may send to a device.
//!
//! MeshCentral leaves this to its page and to the agent; a guest with a script of his own could type there
//! (tunnel-protocols §4.7). Here nothing but looking passes.

use std::sync::Arc;

use outpost_wire::tunnel::Control;

use crate::config::{SessionRecording, same_kind};

/// Desktop commands that change nothing on the device (tunnel-protocols §4.3): compression, refresh, pause,
/// list of displays, frame timer.
const HARMLESS: [u16; 5] = [5, 6, 8, 11, 13];

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It is dropped.
    Drop,
    /// It ends the tunnel: another protocol was chosen than the one that was allowed.
    End,
}

/// Which protocols may be chosen in a tunnel.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Any.
    Any,
    /// One of these.
    OneOf(&'static [u16]),
    /// One of the same kind as this, since the recording says that it is one.
    Like(u16),
    /// One that is not recorded.
    Unrecorded(Arc<SessionRecording>),
}

impl Choice {
    fn allows(&self, protocol: u16) -> bool {
        match self {
            Choice::Any => true,
            Choice::OneOf(usages) => usages.contains(&protocol),
            Choice::Like(declared) => same_kind(*declared, protocol),
            Choice::Unrecorded(policy) => !policy.covers(protocol),
        }
    }
}

/// Stands between a viewer who has not every right, or who is recorded, and the device.
pub struct Gate {
    choices: Vec<Choice>,
    look_only: bool,
    stays_here: bool,
    chosen: Option<Chosen>,
}

/// What the viewer chose: a protocol, or something that is none.
pub type Chosen = Option<u16>;

impl Gate {
    /// For a tunnel in which a protocol may be chosen that all of these allow and, with `look_only`, nothing
    /// touched. With `stays_here` the session may not leave the server: it is recorded here. Where there are no
    /// choices to allow, it only listens to what is chosen.
    pub fn new(choices: Vec<Choice>, look_only: bool, stays_here: bool) -> Gate {
        Gate { choices, look_only, stays_here, chosen: None }
    }

    /// Whether messages of this kind have to be judged still.
    pub fn is_watching(&self, is_text: bool) -> bool {
        self.look_only || self.chosen.is_none() || (self.stays_here && is_text)
    }

    /// Whether nothing is refused here: a message too long to be a choice need not be judged then.
    pub fn only_listens(&self) -> bool {
        self.choices.is_empty() && !self.look_only && !self.stays_here
    }

    /// What was chosen, once something is.
    pub fn chosen(&self) -> Option<Chosen> {
        self.chosen
    }

    /// Judges a whole message of the viewer.
    pub fn judge(&mut self, is_text: bool, message: &[u8]) -> Verdict {
        let text = std::str::from_utf8(message).ok().filter(|_| is_text || self.chosen.is_none());
        if self.chosen.is_none() {
            if let Some(control) = text.filter(|text| text.len() > 3 && text.starts_with('{')) {
                return self.judge_control(control);
            }
            let protocol = text.and_then(|text| text.trim().parse().ok());
            self.chosen = Some(protocol);
            let allowed = self.only_listens()
                || protocol.is_some_and(|protocol| self.choices.iter().all(|choice| choice.allows(protocol)));
            return if allowed { Verdict::Pass } else { Verdict::End };
        }
        if self.stays_here && text.is_some_and(leaves) {
            return Verdict::Drop;
        }
        if !self.look_only {
            return Verdict::Pass;
        }
        if is_text {
            return text.map_or(Verdict::Drop, |text| self.judge_control(text));
        }
        match message {
            [a, b, c, d, ..]
                if HARMLESS.contains(&u16::from_be_bytes([*a, *b]))
                    && usize::from(u16::from_be_bytes([*c, *d])) == message.len() =>
            {
                Verdict::Pass
            }
            _ => Verdict::Drop,
        }
    }

    fn judge_control(&self, text: &str) -> Verdict {
        if self.stays_here && leaves(text) {
            return Verdict::Drop;
        }
        match Control::parse(text) {
            Some(Control::Options(options)) if self.look_only && options.autolock => Verdict::Drop,
            Some(
                Control::Options(_) | Control::Rtt { .. } | Control::Ping | Control::Pong | Control::Close,
            ) => Verdict::Pass,
            _ if self.look_only => Verdict::Drop,
            _ => Verdict::Pass,
        }
    }
}

/// Whether a control message is about going on without the server (tunnel-protocols §10).
fn leaves(text: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Typed<'a> {
        #[serde(rename = "type", borrow)]
        kind: std::borrow::Cow<'a, str>,
    }
    serde_json::from_str::<Typed<'_>>(text)
        .is_ok_and(|typed| matches!(&*typed.kind, "offer" | "answer" | "webrtc0" | "webrtc1" | "webrtc2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_session_is_what_it_says_and_stays_here() {
        let mut gate = Gate::new(vec![Choice::Like(1)], false, true);
        let offer = br#"{"ctrlChannel":"102938","type":"offer","sdp":"v=0"}"#;
        assert_eq!(gate.judge(true, offer), Verdict::Drop);
        assert_eq!(gate.judge(true, b"8"), Verdict::Pass, "another shell");
        assert!(gate.is_watching(true) && !gate.is_watching(false));
        assert_eq!(gate.judge(true, offer), Verdict::Drop);
        assert_eq!(gate.judge(true, br#"{"ctrlChannel":"102938","type":"rtt","time":1}"#), Verdict::Pass);
        assert_eq!(Gate::new(vec![Choice::Like(5)], false, true).judge(true, b"2"), Verdict::End);
    }

    #[test]
    fn what_has_to_be_recorded_is_not_chosen_in_a_tunnel_that_is_not() {
        let document = crate::config::Document::parse(
            r#"{"domains":{"":{"sessionRecording":{"protocols":[2]}}}}"#,
            std::path::Path::new("config.json"),
        );
        let (config, _) = crate::config::read(&document.expect("JSON"), "/srv/outpost-data".into());
        let policy = config.domain("").session_recording.clone().expect("a policy");
        let choose = |chosen: &[u8]| {
            Gate::new(vec![Choice::Unrecorded(policy.clone())], false, false).judge(true, chosen)
        };
        assert_eq!(choose(b"5"), Verdict::Pass);
        for dodge in [&b"2"[..], b" 2", b"02", b"2abc", b"0x2"] {
            assert_eq!(choose(dodge), Verdict::End, "{dodge:?}");
        }
    }

    #[test]
    fn where_nothing_is_refused_it_is_heard_what_is_chosen() {
        for (first, chosen) in [(&b"5"[..], Some(5)), (b"SSH-2.0", None), (b"\xFF", None)] {
            let mut gate = Gate::new(Vec::new(), false, false);
            assert!(gate.only_listens() && gate.is_watching(false));
            assert_eq!(gate.judge(true, br#"{"type":"options","cols":80}"#), Verdict::Pass);
            assert_eq!(gate.chosen(), None);
            assert_eq!(gate.judge(false, first), Verdict::Pass);
            assert_eq!(gate.chosen(), Some(chosen));
            assert!(!gate.is_watching(true) && !gate.is_watching(false), "it is out of the way");
        }
        assert!(!Gate::new(vec![Choice::Like(1)], false, false).only_listens());
    }

    #[test]
    fn looking_passes_and_touching_does_not() {
        let mut look = Gate::new(vec![Choice::OneOf(&[2])], true, false);
        assert_eq!(look.judge(true, br#"{"type":"options","autolock":true}"#), Verdict::Drop);
        assert_eq!(look.judge(true, br#"{"type":"options","cols":80}"#), Verdict::Pass);
        assert_eq!(look.judge(true, br#"{"ctrlChannel":"102938","type":"lock"}"#), Verdict::Drop);
        assert_eq!(look.judge(true, b"2"), Verdict::Pass);
        for harmless in
            [&[0, 5, 0, 10, 1, 50, 4, 0, 0, 100][..], &[0, 6, 0, 4], &[0, 8, 0, 5, 0], &[0, 11, 0, 4]]
        {
            assert_eq!(look.judge(false, harmless), Verdict::Pass, "{harmless:?}");
        }
        for input in [
            &[0, 1, 0, 6, 0, 65][..],
            &[0, 2, 0, 10, 0, 2, 0, 1, 0, 1],
            &[0, 10, 0, 4],
            &[0, 85, 0, 7, 0, 0, 65],
            // A key hidden behind a harmless command.
            &[0, 6, 0, 4, 0, 1, 0, 6, 0, 65],
            &[0, 6],
            &[],
        ] {
            assert_eq!(look.judge(false, input), Verdict::Drop, "{input:?}");
        }
        // Nothing of files or terminals passes either, in whatever kind of message.
        for action in ["ls", "zip", "unzip", "cancel", "copy", "upload", "uploadhash", "download", "findfile"]
        {
            let request = format!(r#"{{"action":"{action}","path":"/","watch":true}}"#);
            for is_text in [true, false] {
                assert_eq!(look.judge(is_text, request.as_bytes()), Verdict::Drop, "{action}");
            }
        }
        assert_eq!(look.judge(true, br#"{"ctrlChannel":"102938","type":"surroundings"}"#), Verdict::Drop);
        assert_eq!(look.judge(true, br#"{"ctrlChannel":"102938","type":"rtt","time":1}"#), Verdict::Pass);
        assert_eq!(look.judge(true, br#"{"ctrlChannel":"102938","type":"lock"}"#), Verdict::Drop);
        assert_eq!(look.judge(true, b"\xFF"), Verdict::Drop);
    }

    #[test]
    fn a_guest_who_may_touch_is_free_once_the_protocol_is_right() {
        let mut gate = Gate::new(vec![Choice::OneOf(&[1, 6, 8, 9])], false, false);
        assert!(gate.is_watching(false));
        assert_eq!(gate.judge(true, b"1"), Verdict::Pass);
        assert!(!gate.is_watching(false) && !gate.is_watching(true));
    }

    #[test]
    fn another_protocol_ends_it() {
        for chosen in [&b"1"[..], b"5", b"10", b"", b"x", b"\xFF"] {
            assert_eq!(
                Gate::new(vec![Choice::OneOf(&[2])], true, false).judge(false, chosen),
                Verdict::End,
                "{chosen:?}"
            );
        }
    }
}
