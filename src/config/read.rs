//! From the tree of keys to the typed configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use outpost_wire::id::UserId;
use serde_json::{Map, Value};

use super::document::Document;
use super::known;
use super::reader::{Problem, Section};
use super::wording;
use super::{
    Config, Discovery, Domain, DomainLimits, Expiry, InterUserMessaging, IpCheck, Limits, LoginLimit,
    LoginTokenRule, Mode, PasswordPolicy, Places, SelfUpdate, SessionRecording, Settings, Upkeep,
};
use crate::model::SiteRights;

/// Consent flags of `userConsentFlags` (config §1.5).
const CONSENT_FLAGS: [(&str, u32); 7] = [
    ("desktopnotify", 1),
    ("terminalnotify", 2),
    ("filenotify", 4),
    ("desktopprompt", 8),
    ("terminalprompt", 16),
    ("fileprompt", 32),
    ("desktopprivacybar", 64),
];

pub(super) fn config(document: &Document, data_folder: PathBuf) -> (Config, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut root = document.root.clone();
    let settings = root.remove("settings");
    let defaults = root.remove("domaindefaults");
    let domains = root.remove("domains");

    let mut section = Section::new("settings".into(), settings, &mut problems);
    let files_folder =
        section.text("filespath").map_or_else(|| sibling(&data_folder, "files"), PathBuf::from);
    // The folder was needed to find this file; here it is only taken.
    let _ = section.text("datapath");
    let settings = read_settings(&mut section);
    section.finish(known::SETTINGS);

    let domains = read_domains(domains, defaults, &mut problems);
    for (key, value) in root {
        if key.starts_with('_') || key == "$schema" {
            continue;
        }
        let known = known::SECTIONS.contains(&key.as_str());
        let empty = value.as_object().is_some_and(Map::is_empty);
        if !(known && empty) {
            let message = if known {
                "known to MeshCentral, has no effect in this release"
            } else {
                "unknown section, ignored"
            };
            problems.push(Problem { path: key, message: message.into() });
        }
    }
    let recordings_folder = sibling(&data_folder, "recordings");
    let places = Places::default();
    (Config { data_folder, files_folder, recordings_folder, places, settings, domains }, problems)
}

fn sibling(data_folder: &Path, name: &str) -> PathBuf {
    let base =
        data_folder.file_name().map_or_else(|| "outpost".into(), |name| name.to_string_lossy().into_owned());
    let stem = base.strip_suffix("-data").unwrap_or(&base);
    data_folder.with_file_name(format!("{stem}-{name}"))
}

fn read_settings(section: &mut Section<'_>) -> Settings {
    let cert = section.text("cert").and_then(|cert| {
        let name = cert.split(',').next().unwrap_or_default().trim().to_owned();
        if name.is_empty() || name.contains(['@', '/', ':', ' ']) {
            section.wrong("cert", "expected a DNS name such as `outpost.example.com`".into());
            return None;
        }
        Some(name)
    });
    let lan_only = section.flag("lanonly", false);
    let wan_only = section.flag("wanonly", false);
    if lan_only && wan_only {
        section.wrong("wanonly", "cannot be set together with `lanonly`; LAN mode is used".into());
    }
    // A name without a dot cannot be reached from elsewhere (config §3).
    let has_name = cert.as_ref().is_some_and(|cert| cert.contains('.'));
    let mode = match (lan_only, wan_only, has_name) {
        (true, _, _) => Mode::Lan,
        (false, true, _) => Mode::Wan,
        (false, false, true) => Mode::Hybrid,
        (false, false, false) => Mode::Lan,
    };
    let redir_port = match section.take("redirport") {
        None => Some(80),
        Some(Value::Number(number)) if number.as_u64() == Some(0) => None,
        Some(Value::Bool(false)) => None,
        Some(Value::Number(number)) if number.as_u64().is_some_and(|port| port <= 65_535) => {
            number.as_u64().and_then(|port| u16::try_from(port).ok())
        }
        Some(_) => {
            section.wrong("redirport", "expected a port, or 0 for no redirection; none is started".into());
            None
        }
    };
    let max_invalid_login = read_login_limit(section, "maxinvalidlogin");
    let max_invalid_2fa = read_login_limit(section, "maxinvalid2fa");
    let mut local = section.section("localdiscovery");
    let discovery_texts = (local.text("name"), local.text("info"), local.text("key"));
    local.finish(&["name", "info", "key"]);
    if discovery_texts.2.as_ref().is_some_and(|key| key.starts_with("0x")) {
        section.wrong(
            "localdiscovery.key",
            "must not start with 0x: agents would read it as hexadecimal".into(),
        );
    }
    let discovery = Discovery {
        name: discovery_texts.0,
        info: discovery_texts.1,
        key: discovery_texts.2,
        enabled: section.flag("meshscanner", true),
    };
    let mut expire = section.section("dbexpire");
    let expiry = Expiry {
        events: expire.seconds("events").unwrap_or(Duration::from_secs(1_728_000)),
        power: expire.seconds("powerevents").unwrap_or(Duration::from_secs(864_000)),
    };
    expire.finish(&["statsevents"]);
    let session_key = match section.take("sessionkey") {
        Some(Value::String(key)) if key.len() >= 16 => Some(key),
        None | Some(Value::Null) => None,
        Some(_) => {
            section.wrong(
                "sessionkey",
                "expected a text of at least 16 characters; a random one is used".into(),
            );
            None
        }
    };
    let agent_idle_timeout = match section.take("agentidletimeout") {
        None => Some(Duration::from_secs(150)),
        Some(Value::Number(number)) if number.as_u64() == Some(0) => None,
        Some(Value::Number(number)) if number.as_u64().is_some_and(|seconds| seconds >= 10) => {
            number.as_u64().map(Duration::from_secs)
        }
        Some(_) => {
            section.wrong(
                "agentidletimeout",
                "expected seconds, at least 10, or 0 for never; 150 is used".into(),
            );
            Some(Duration::from_secs(150))
        }
    };
    Settings {
        cert,
        mode,
        port: section.port("port").unwrap_or(443),
        port_bind: section.address("portbind"),
        alias_port: section.port("aliasport"),
        redir_port,
        redir_port_bind: section.address("redirportbind"),
        exact_ports: section.flag("exactports", false),
        session_key,
        session_time: section
            .number("sessiontime", 1..=5_256_000)
            .map(|minutes| Duration::from_secs(minutes * 60)),
        cookie_ip_check: read_ip_check(section),
        login_cookie_encryption_key: section.text("logincookieencryptionkey").filter(|key| {
            let valid = key.len() == 160 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !valid {
                section.wrong(
                    "logincookieencryptionkey",
                    "expected 160 hexadecimal digits; the stored key is used".into(),
                );
            }
            valid
        }),
        default_user: section.text("user"),
        no_users: section.flag("nousers", false),
        max_invalid_login,
        max_invalid_2fa,
        second_factor: !section.flag("no2factorauth", false),
        allow_login_token: section.flag("allowlogintoken", false),
        discovery,
        agent_idle_timeout,
        agent_ping: section.seconds("agentping"),
        agent_pong: section.seconds("agentpong"),
        browser_ping: section.seconds("browserping"),
        agent_config: section.assignments("agentconfig"),
        upkeep: Upkeep::read(section),
        self_update: SelfUpdate::read(section),
        manage_all_device_groups: read_user_ids(section, "managealldevicegroups", ""),
        inter_user_messaging: read_inter_user(section),
        expiry,
        debug: section.texts("debug"),
        allow_framing: section.flag("allowframing", false),
        lock_agent_download: section.flag("lockagentdownload", false),
        keep_certs: section.flag("keepcerts", false),
        limits: read_limits(section),
    }
}

fn read_login_limit(section: &mut Section<'_>, key: &str) -> Option<LoginLimit> {
    match section.take(key) {
        Some(Value::Bool(false)) => None,
        Some(Value::Object(fields)) => Some(login_limit(fields, section, key)),
        None | Some(Value::Bool(true) | Value::Null) => Some(LoginLimit::default()),
        Some(_) => {
            section.wrong(key, "expected {time, count, coolofftime} or false; the default is used".into());
            Some(LoginLimit::default())
        }
    }
}

fn login_limit(fields: Map<String, Value>, section: &mut Section<'_>, key: &str) -> LoginLimit {
    let default = LoginLimit::default();
    let minutes = |value: Option<&Value>| {
        value.and_then(Value::as_u64).map(|minutes| Duration::from_secs(minutes * 60))
    };
    let exclude = match fields.get("exclude") {
        Some(Value::String(text)) => text.split(',').map(str::to_owned).collect(),
        Some(Value::Array(items)) => {
            items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    let mut addresses = Vec::new();
    for text in exclude.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        match text.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => {
                let key = format!("{key}.exclude");
                section.wrong(&key, format!("expected IP addresses, found `{text}`"))
            }
        }
    }
    LoginLimit {
        time: minutes(fields.get("time")).filter(|time| !time.is_zero()).unwrap_or(default.time),
        count: fields
            .get("count")
            .and_then(Value::as_u64)
            .and_then(|count| usize::try_from(count).ok())
            .filter(|count| *count > 0)
            .unwrap_or(default.count),
        cool_off: minutes(fields.get("coolofftime")).filter(|time| !time.is_zero()),
        exclude: addresses,
    }
}

fn read_ip_check(section: &mut Section<'_>) -> IpCheck {
    match section.take("cookieipcheck") {
        None | Some(Value::Bool(true)) => IpCheck::Lax,
        Some(Value::Bool(false)) => IpCheck::None,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("none") => IpCheck::None,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("lax") => IpCheck::Lax,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("strict") => IpCheck::Strict,
        Some(_) => {
            section.wrong("cookieipcheck", "expected none, lax or strict; lax is used".into());
            IpCheck::Lax
        }
    }
}

/// Bytes; `-1` for none at all.
fn read_quota(section: &mut Section<'_>, key: &str) -> Option<u64> {
    match section.take(key)? {
        Value::Number(number) if number.as_i64() == Some(-1) => Some(0),
        Value::Number(number) if number.as_u64().is_some() => number.as_u64(),
        _ => {
            section.wrong(key, "expected a number of bytes, or -1 for none; there is no limit".into());
            None
        }
    }
}

fn read_inter_user(section: &mut Section<'_>) -> InterUserMessaging {
    match section.take("interusermessaging") {
        None | Some(Value::Bool(false)) => InterUserMessaging::Off,
        Some(Value::Bool(true)) => InterUserMessaging::Everybody,
        Some(Value::Array(names)) => InterUserMessaging::With(
            names.iter().filter_map(|name| UserId::complete("", name.as_str()?).ok()).collect(),
        ),
        Some(_) => {
            section.wrong("interusermessaging", "expected true, false or user ids; it stays off".into());
            InterUserMessaging::Off
        }
    }
}

fn read_limits(section: &mut Section<'_>) -> Limits {
    let mut limits = section.section("limits");
    let default = Limits::default();
    let read = Limits {
        unauthenticated_connections: limits
            .count("unauthenticatedconnections", 1_000_000)
            .unwrap_or(default.unauthenticated_connections),
        unauthenticated_per_network: limits
            .count("unauthenticatedpernetwork", 1_000_000)
            .unwrap_or(default.unauthenticated_per_network),
        agents: limits.count("agents", 1_000_000).unwrap_or(default.agents),
        sessions: limits.count("sessions", 1_000_000).unwrap_or(default.sessions),
        tunnels: limits.count("tunnels", 1_000_000).unwrap_or(default.tunnels),
        devices: limits.count("devices", 1_000_000).unwrap_or(default.devices),
    };
    limits.finish(&[]);
    read
}

fn read_user_ids(section: &mut Section<'_>, key: &str, domain: &str) -> Vec<UserId> {
    let mut ids = Vec::new();
    for text in section.texts(key) {
        match UserId::complete(domain, &text) {
            Ok(id) => ids.push(id),
            Err(error) => section.wrong(key, format!("expected user ids, found `{text}` ({error})")),
        }
    }
    ids
}

fn read_domains(
    domains: Option<Value>,
    defaults: Option<Value>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Domain> {
    let defaults = match defaults {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let mut trees = match domains {
        Some(Value::Object(trees)) => trees,
        None => Map::new(),
        Some(_) => {
            problems.push(Problem { path: "domains".into(), message: "expected an object".into() });
            Map::new()
        }
    };
    trees.entry("").or_insert_with(|| Value::Object(Map::new()));
    let mut read = BTreeMap::new();
    for (id, mut tree) in trees {
        let path = format!("domains[\"{id}\"]");
        if id.starts_with('_') {
            continue;
        }
        if known::FORBIDDEN_DOMAINS.contains(&id.as_str()) || id.len() > 64 || id.contains(['/', ' ']) {
            problems.push(Problem { path, message: "not a possible name of a domain, ignored".into() });
            continue;
        }
        if let Value::Object(fields) = &mut tree {
            for (key, value) in &defaults {
                if fields.get(key).is_none_or(Value::is_null) {
                    fields.insert(key.clone(), value.clone());
                }
            }
        }
        let mut section = Section::new(path, Some(tree), problems);
        let domain = read_domain(&id, &mut section);
        section.finish(known::DOMAIN);
        read.insert(id, domain);
    }
    read
}

fn read_domain(id: &str, section: &mut Section<'_>) -> Domain {
    let mut password = section.section("passwordrequirements");
    let default = PasswordPolicy::default();
    let policy = PasswordPolicy {
        min: password.count("min", 256).unwrap_or(default.min),
        max: password.count("max", 1024).filter(|max| *max > 0),
        upper: password.count("upper", 256).unwrap_or(0),
        lower: password.count("lower", 256).unwrap_or(0),
        numeric: password.count("numeric", 256).unwrap_or(0),
        nonalpha: password.count("nonalpha", 256).unwrap_or(0),
    };
    let login_tokens = match password.take("logintokens") {
        None | Some(Value::Bool(true) | Value::Null) => LoginTokenRule::Everybody,
        Some(Value::Bool(false)) => LoginTokenRule::Nobody,
        Some(Value::Array(names)) => {
            let ids = names.iter().filter_map(Value::as_str);
            LoginTokenRule::Only(ids.filter_map(|name| UserId::complete(id, name).ok()).collect())
        }
        Some(_) => {
            password.wrong("logintokens", "expected true, false or user ids; nobody may".into());
            LoginTokenRule::Nobody
        }
    };
    password.finish(known::PASSWORD);
    let mut consent = section.section("userconsentflags");
    let flags =
        CONSENT_FLAGS.iter().filter(|(key, _)| consent.flag(key, false)).fold(0, |all, (_, bit)| all | bit);
    consent.finish(&[]);
    let mut limits = section.section("limits");
    let domain_limits = DomainLimits {
        max_devices: limits.count("maxdevices", 10_000_000),
        max_user_accounts: limits.count("maxuseraccounts", 10_000_000),
        max_user_sessions: limits.count("maxusersessions", 10_000_000),
        max_agent_sessions: limits.count("maxagentsessions", 10_000_000),
        max_single_user_sessions: limits.count("maxsingleusersessions", 10_000_000),
    };
    limits.finish(&[]);
    let new_accounts_rights = match section.take("newaccountsrights") {
        None => SiteRights::NONE,
        Some(Value::Number(number)) => {
            number.as_u64().and_then(|bits| u32::try_from(bits).ok()).map_or(SiteRights::NONE, SiteRights)
        }
        Some(Value::Array(names)) => names.iter().fold(SiteRights::NONE, |rights, name| {
            match name.as_str().and_then(SiteRights::by_name) {
                Some(right) => rights | right,
                None => {
                    section
                        .wrong("newaccountsrights", format!("expected names of site rights, found {name}"));
                    rights
                }
            }
        }),
        Some(_) => {
            section.wrong("newaccountsrights", "expected names of site rights; none are given".into());
            SiteRights::NONE
        }
    };
    Domain {
        title: section.text("title"),
        new_accounts: section.flag("newaccounts", false),
        new_accounts_rights,
        password: policy,
        remember_second_factor: section
            .number("twofactorcookiedurationdays", 0..=365)
            .and_then(|days| u32::try_from(days).ok())
            .unwrap_or(30),
        login_tokens,
        consent: flags,
        session_options: wording::read(section),
        privacy_bar_text: section.text("desktopprivacybartext"),
        manage_all_device_groups: read_user_ids(section, "managealldevicegroups", id),
        agent_config: section.assignments("agentconfig"),
        limits: domain_limits,
        lock_agent_download: section.flag("lockagentdownload", false),
        user_quota: read_quota(section, "userquota"),
        group_quota: read_quota(section, "meshquota"),
        agent_invite_codes: section.flag("agentinvitecodes", false),
        agent_no_proxy: section.flag("agentnoproxy", false),
        allowed_origins: match section.take("allowedorigin") {
            Some(Value::Bool(true)) => vec!["*".into()],
            Some(Value::String(text)) => text.split(',').map(|origin| origin.trim().to_owned()).collect(),
            Some(Value::Array(items)) => {
                items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        },
        session_recording: SessionRecording::read(section).map(Arc::new),
        no_local_recording: !section.flag("localsessionrecording", true),
    }
}
