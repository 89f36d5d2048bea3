//! Reports over a span of time: sessions, traffic, logins, and what the store holds.
//!
//! Rows are written in the order of their columns, because command lines print them as they come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::context::Context;
use super::reply::{Answer, Refusal};
use crate::clock;
use crate::model::{Rights, SiteRights};
use crate::store::EventQuery;

/// Most events that a report looks at, newest first.
const MOST_EVENTS: usize = 20_000;
/// Numbers of the events that end a session (control-protocol §6.4).
const SESSION_ENDS: [u64; 10] = [5, 10, 11, 12, 122, 123, 124, 125, 126, 144];
/// Numbers of good and bad logins.
const LOGINS: [u64; 4] = [107, 108, 109, 110];

/// `report` (control-protocol §4.8).
#[derive(Deserialize)]
pub struct Report {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(rename = "groupBy")]
    group_by: u8,
    /// Unix seconds.
    start: i64,
    end: i64,
    #[serde(rename = "devGroup")]
    device_group: Option<String>,
    /// Minutes that the reader's clock is behind UTC.
    #[serde(default)]
    tf: f64,
    /// The reader's language.
    l: Option<String>,
    #[serde(rename = "showTraffic", default)]
    show_traffic: bool,
}

#[derive(Serialize)]
struct Document {
    action: &'static str,
    data: Data,
}

#[derive(Default, Serialize)]
struct Data {
    groups: BTreeMap<String, Group>,
    #[serde(rename = "groupFormat", skip_serializing_if = "Option::is_none")]
    group_format: Option<&'static str>,
    columns: Vec<Column>,
}

#[derive(Default, Serialize)]
struct Group {
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Column {
    id: &'static str,
    title: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    align: Option<&'static str>,
    #[serde(rename = "sumBy", skip_serializing_if = "Option::is_none")]
    sum_by: Option<Value>,
}

/// A column; `format` tells browsers how to write its values.
fn column(id: &'static str, title: &'static str, format: &'static str) -> Column {
    let format = Some(format).filter(|format| !format.is_empty());
    Column { id, title, format, align: None, sum_by: None }
}

impl Column {
    fn centred(self) -> Column {
        Column { align: Some("center"), ..self }
    }

    fn summed(self, by: impl Into<Value>) -> Column {
        Column { sum_by: Some(by.into()), ..self.centred() }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Session(Session),
    Traffic(Traffic),
    Login(Login),
    Records { record: String, recordcount: u64 },
}

#[derive(Serialize)]
struct Session {
    time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodeid: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meshid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guestname: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    userid: Option<Value>,
    protocol: Value,
    length: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytesin: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytesout: Option<u64>,
}

#[derive(Serialize)]
struct Traffic {
    userid: String,
    length: u64,
    bytesin: u64,
    bytesout: u64,
}

#[derive(Serialize)]
struct Login {
    time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    userid: Option<Value>,
    ip: Value,
    browser: Value,
    os: Value,
    twofactor: Value,
    msg: u64,
}

/// What happened in a span of time.
///
/// # Errors
/// A bad type, grouping or span, a group that may not be seen, and the store's report without full rights.
pub async fn report(context: &Context, request: Report) -> Result<Answer, Refusal> {
    make(context, request).await.map_err(|refusal| {
        // Command lines print the columns whatever the result is, and fall over where there are none.
        let told = json!({ "groups": {}, "columns": [{ "id": refusal.text, "title": refusal.text }] });
        refusal.with("data", told)
    })
}

async fn make(context: &Context, request: Report) -> Result<Answer, Refusal> {
    if !(1..=3).contains(&request.group_by) {
        return Err(Refusal::new("groupBy: expected 1 (user), 2 (device) or 3 (day)"));
    }
    if request.start >= request.end {
        return Err(Refusal::new("start: expected a time before `end`"));
    }
    let group = match &request.device_group {
        Some(id) => Some(context.group(Some(id), None, Rights::NONE)?.0.id.as_str().to_owned()),
        None => None,
    };
    let data = match request.kind {
        1 => sessions(context, &request, group.as_deref()).await?,
        2 => traffic(context, &request, group.as_deref()).await?,
        3 => logins(context, &request).await?,
        4 => records(context).await?,
        _ => {
            return Err(Refusal::new("type: expected 1 (sessions), 2 (traffic), 3 (logins) or 4 (database)"));
        }
    };
    Ok(Answer::typed(&Document { action: "report", data }))
}

/// The events of one action within the span.
async fn events(
    context: &Context,
    request: &Report,
    any_of: Vec<String>,
    action: &str,
) -> Result<Vec<Map<String, Value>>, Refusal> {
    let query = EventQuery {
        any_of,
        domain: context.domain().to_owned(),
        action: Some(action.to_owned()),
        between: Some((
            clock::iso8601(request.start.saturating_mul(1000)),
            clock::iso8601(request.end.saturating_mul(1000)),
        )),
        limit: MOST_EVENTS,
    };
    Ok(context.site.store.events(query).await?)
}

fn number(event: &Map<String, Value>, field: &str) -> u64 {
    event.get(field).and_then(Value::as_u64).unwrap_or(0)
}

fn text(event: &Map<String, Value>, field: &str) -> String {
    event.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn argument(event: &Map<String, Value>, n: usize) -> Value {
    event.get("msgArgs").and_then(|args| args.get(n)).cloned().unwrap_or_else(|| "".into())
}

fn time(event: &Map<String, Value>) -> i64 {
    event.get("time").and_then(Value::as_str).and_then(clock::seconds_of_iso8601).unwrap_or(0) * 1000
}

/// Seconds that a session took; its ending event says them.
fn seconds(event: &Map<String, Value>) -> u64 {
    let at = match number(event, "msgid") {
        10..=12 => 3,
        122..=126 => 0,
        144 => 1,
        _ => return 0,
    };
    match argument(event, at) {
        Value::Number(number) => number.as_u64().unwrap_or(0),
        Value::String(text) => text.parse().unwrap_or(0),
        _ => 0,
    }
}

/// The day of an event on the reader's calendar, as the reader writes it.
fn day(request: &Report, time: i64) -> String {
    // A float of at most a day in minutes.
    #[allow(clippy::cast_possible_truncation, reason = "clamped to a day")]
    let behind = (request.tf.clamp(-1440.0, 1440.0) * 60_000.0) as i64;
    let iso = clock::iso8601(time - behind);
    let (year, month, day) = (&iso[..4], &iso[5..7], &iso[8..10]);
    if request.l.as_deref().is_some_and(|language| language == "en" || language.starts_with("en-")) {
        format!("{}/{}/{year}", month.trim_start_matches('0'), day.trim_start_matches('0'))
    } else {
        format!("{year}-{month}-{day}")
    }
}

/// The ends of sessions that the user may know of.
async fn ended_sessions(
    context: &Context,
    request: &Report,
    any_of: Vec<String>,
    group: Option<&str>,
) -> Result<Vec<Map<String, Value>>, Refusal> {
    let mut ended = events(context, request, any_of, "relaylog").await?;
    let directory = context.site.store.directory();
    ended.retain_mut(|event| {
        if !SESSION_ENDS.contains(&number(event, "msgid")) {
            return false;
        }
        // The group that the device is in now; events do not keep it.
        let id = outpost_wire::id::DeviceId::parse(&text(event, "nodeid")).ok();
        let of = id.and_then(|id| directory.device(&id).map(|device| device.group.clone()));
        if let Some(of) = &of {
            event.insert("meshid".into(), of.as_str().into());
        }
        group.is_none_or(|group| of.is_some_and(|of| of.as_str() == group))
    });
    Ok(ended)
}

async fn sessions(context: &Context, request: &Report, group: Option<&str>) -> Result<Data, Refusal> {
    let user = context.user()?;
    let own = user.id.as_str().to_owned();
    let targets = if !user.siteadmin.contains(SiteRights::MANAGE_USERS) {
        vec![own]
    } else if let Some(group) = group {
        vec![own, group.to_owned()]
    } else if context.site.manages_all(&user) {
        vec!["*".to_owned()]
    } else {
        std::iter::once(own).chain(user.links.keys().cloned()).collect()
    };
    let ended = ended_sessions(context, request, targets, group).await?;
    let guests = ended.iter().any(|event| event.contains_key("guestname"));
    let mut columns = vec![match request.group_by {
        3 => column("time", "time", "time"),
        _ => column("time", "time", "datetime"),
    }];
    if request.group_by != 2 {
        columns.push(column("nodeid", "device", "node"));
        columns.push(column("meshid", "devgroup", "mesh"));
    }
    if guests {
        columns.push(column("guestname", "guest", "").centred());
    }
    if request.group_by != 1 {
        columns.push(column("userid", "user", "user"));
    }
    columns.push(column("protocol", "session", "protocol").centred());
    columns.push(column("length", "length", "seconds").summed("protocol"));
    if request.show_traffic {
        columns.push(column("bytesin", "bytesin", "bytes").summed("protocol"));
        columns.push(column("bytesout", "bytesout", "bytes").summed("protocol"));
    }
    let mut data = Data {
        group_format: match request.group_by {
            1 => Some("user"),
            2 => Some("nodemesh"),
            _ => None,
        },
        columns,
        ..Data::default()
    };
    for event in ended {
        let meshid = Some(text(&event, "meshid")).filter(|id| !id.is_empty());
        let key = match (request.group_by, &meshid) {
            (1, _) => text(&event, "userid"),
            (2, Some(group)) => format!("{}/{group}", text(&event, "nodeid")),
            (2, None) => text(&event, "nodeid"),
            _ => day(request, time(&event)),
        };
        let entry = Session {
            time: time(&event),
            nodeid: event.get("nodeid").filter(|_| request.group_by != 2).cloned(),
            meshid: meshid.filter(|_| request.group_by != 2),
            guestname: event.get("guestname").cloned().or_else(|| guests.then(|| "".into())),
            userid: event.get("userid").filter(|_| request.group_by != 1).cloned(),
            protocol: event.get("protocol").cloned().unwrap_or(Value::Null),
            length: seconds(&event),
            bytesin: request.show_traffic.then(|| number(&event, "bytesin")),
            bytesout: request.show_traffic.then(|| number(&event, "bytesout")),
        };
        data.groups.entry(key).or_default().entries.push(Entry::Session(entry));
    }
    Ok(data)
}

/// Whose events count in reports about everybody: one's own without the right to manage users.
fn about_whom(context: &Context) -> Result<Vec<String>, Refusal> {
    let user = context.user()?;
    let all = user.siteadmin.contains(SiteRights::MANAGE_USERS);
    Ok(vec![if all { "*".to_owned() } else { user.id.as_str().to_owned() }])
}

async fn traffic(context: &Context, request: &Report, group: Option<&str>) -> Result<Data, Refusal> {
    let mut sums: BTreeMap<String, Traffic> = BTreeMap::new();
    for event in ended_sessions(context, request, about_whom(context)?, group).await? {
        let userid = text(&event, "userid");
        let sum =
            sums.entry(userid.clone()).or_insert(Traffic { userid, length: 0, bytesin: 0, bytesout: 0 });
        sum.length += seconds(&event);
        sum.bytesin += number(&event, "bytesin");
        sum.bytesout += number(&event, "bytesout");
    }
    let entries = sums.into_values().map(Entry::Traffic).collect();
    Ok(Data {
        groups: BTreeMap::from([("0".to_owned(), Group { entries })]),
        group_format: None,
        columns: vec![
            column("userid", "user", "user"),
            column("length", "length", "seconds").summed(true),
            column("bytesin", "bytesin", "bytes").summed(true),
            column("bytesout", "bytesout", "bytes").summed(true),
        ],
    })
}

async fn logins(context: &Context, request: &Report) -> Result<Data, Refusal> {
    if request.group_by == 2 {
        return Err(Refusal::new("groupBy: logins are grouped by 1 (user) or 3 (day)"));
    }
    let mut found = events(context, request, about_whom(context)?, "login").await?;
    found.extend(events(context, request, about_whom(context)?, "authfail").await?);
    found.retain(|event| LOGINS.contains(&number(event, "msgid")));
    found.sort_by_key(|event| std::cmp::Reverse(time(event)));
    let by_user = request.group_by == 1;
    let mut columns = vec![column("time", "time", if by_user { "datetime" } else { "time" })];
    if !by_user {
        columns.push(column("userid", "user", "user"));
    }
    columns.extend([
        column("ip", "ip", ""),
        column("browser", "browser", ""),
        column("os", "os", ""),
        column("twofactor", "twofactor", "2fa"),
        column("msg", "msg", "msg"),
    ]);
    let mut data = Data { group_format: by_user.then_some("user"), columns, ..Data::default() };
    for event in found {
        let key = if by_user { text(&event, "userid") } else { day(request, time(&event)) };
        let entry = Login {
            time: time(&event),
            userid: event.get("userid").filter(|_| !by_user).cloned(),
            ip: argument(&event, 0),
            browser: argument(&event, 1),
            os: argument(&event, 2),
            twofactor: event.get("twoFactorType").cloned().unwrap_or_else(|| "".into()),
            msg: number(&event, "msgid"),
        };
        data.groups.entry(key).or_default().entries.push(Entry::Login(entry));
    }
    Ok(data)
}

async fn records(context: &Context) -> Result<Data, Refusal> {
    if !context.user()?.siteadmin.is_full() {
        return Err(Refusal::new("Access denied"));
    }
    let site = context.site.clone();
    let counts = site.store.counts().await?;
    let entries = counts
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(record, recordcount)| Entry::Records { record: record.to_owned(), recordcount })
        .collect();
    Ok(Data {
        groups: BTreeMap::from([("0".to_owned(), Group { entries })]),
        group_format: None,
        columns: vec![column("record", "Record", "records"), column("recordcount", "Count", "").summed(true)],
    })
}
