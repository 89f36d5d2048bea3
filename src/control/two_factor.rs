//! Setting up the second factor of one's own account (control-protocol §4.11).

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::context::{Context, safe_user};
use super::reply::{Answer, Refusal, fields};
use super::request::Plain;
use crate::auth::SecondFactor;
use crate::auth::second_factor::{self, BackupCode};
use crate::clock;
use crate::model::{SiteRights, User};

/// Longest secret taken from a client, in characters.
const LONGEST_SECRET: usize = 128;
/// What clients are told when the second factor cannot be changed (control-protocol §4.11).
const TOKEN_SESSION: u32 = 3;
const NOT_OFFERED: u32 = 4;
const SETTINGS_LOCKED: u32 = 5;

/// Whether the account's second factor may be changed in this session, or the number of the reason.
fn changeable(context: &Context) -> Result<Arc<User>, u32> {
    if context.session.token.is_some() {
        return Err(TOKEN_SESSION);
    }
    if !context.site.config.settings.second_factor {
        return Err(NOT_OFFERED);
    }
    let user = context.user().map_err(|_| SETTINGS_LOCKED)?;
    if user.siteadmin.restricted_by(SiteRights::LOCKED_SETTINGS) || context.site.is_no_users_account(&user.id)
    {
        return Err(SETTINGS_LOCKED);
    }
    Ok(user)
}

fn with_reason(reason: u32) -> Refusal {
    let text = match reason {
        TOKEN_SESSION => "Access denied",
        NOT_OFFERED => "This server offers no second factor",
        _ => "The settings of this account are locked",
    };
    Refusal::new(text).with("err", reason)
}

/// `otpauth-request`: a new secret for an authenticator app. Nothing is stored before it has proved to work.
///
/// # Errors
/// With `err`: 3 login token, 4 switched off, 5 settings locked.
pub async fn request(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    let user = changeable(context).map_err(with_reason)?;
    let secret = second_factor::new_secret();
    let host = context.host.rsplit_once(':').map_or(context.host.as_str(), |(host, _)| host);
    let issuer = context.site.config.settings.cert.as_deref().unwrap_or(host);
    let url = second_factor::app_url(&secret, issuer, &user.name);
    Ok(Answer::Body(fields! { "secret" => secret, "url" => url }))
}

/// `otpauth-setup`.
#[derive(Deserialize)]
pub struct Setup {
    secret: String,
    /// The app's code; a number loses its leading zeros on the way.
    #[serde(deserialize_with = "code")]
    token: String,
}

fn code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text.chars().filter(|c| !c.is_whitespace()).collect()),
        Value::Number(number) => Ok(format!("{number:0>6}")),
        _ => Err(serde::de::Error::custom("expected the code")),
    }
}

/// Sets the app up, when its code is that of the secret.
///
/// # Errors
/// As [`request`]; a wrong code is `success:false`.
pub async fn set_up(context: &Context, request: Setup) -> Result<Answer, Refusal> {
    let user = changeable(context).map_err(with_reason)?;
    let fits = request.secret.len() <= LONGEST_SECRET
        && second_factor::fits(&request.secret, &request.token, clock::now_seconds());
    if fits {
        change(context, &user, 90, "Added authentication application", move |user| {
            user.extra.insert("otpsecret".into(), request.secret.into());
        })
        .await?;
    }
    Ok(Answer::Body(fields! { "success" => fits }))
}

/// `otpauth-clear`: removes the app; backup codes alone are no factor and go with it.
///
/// # Errors
/// As [`request`].
pub async fn clear(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    let user = changeable(context).map_err(with_reason)?;
    let had = SecondFactor::of(&user).has_app();
    if had {
        change(context, &user, 91, "Removed authentication application", |user| {
            user.extra.remove("otpsecret");
            if !SecondFactor::of(user).is_set_up() {
                user.extra.remove("otpkeys");
            }
        })
        .await?;
    }
    Ok(Answer::Body(fields! { "success" => had }))
}

/// `otpauth-getpasswords`.
#[derive(Deserialize)]
pub struct BackupCodes {
    /// 0 list, 1 new ones, 2 none.
    #[serde(default)]
    subaction: u8,
}

/// The backup codes; they exist only beside another factor.
///
/// # Errors
/// As [`request`].
pub async fn backup_codes(context: &Context, request: BackupCodes) -> Result<Answer, Refusal> {
    let user = changeable(context).map_err(with_reason)?;
    let factor = SecondFactor::of(&user);
    if !factor.is_set_up() {
        return Ok(Answer::Body(fields! { "passwords" => Value::Null }));
    }
    let codes = match request.subaction {
        0 => factor.backup_codes().to_vec(),
        1 => {
            let codes = second_factor::new_backup_codes();
            let stored: Vec<Value> = codes.iter().map(|code| code.to_json()).collect();
            change(context, &user, 92, "New backup codes", |user| {
                user.extra.insert("otpkeys".into(), json!({ "keys": stored }));
            })
            .await?;
            codes
        }
        2 => {
            change(context, &user, 93, "Removed backup codes", |user| {
                user.extra.remove("otpkeys");
            })
            .await?;
            Vec::new()
        }
        other => return Err(Refusal::new(format!("subaction: expected 0, 1 or 2, found {other}"))),
    };
    let passwords =
        (!codes.is_empty()).then(|| codes.into_iter().map(BackupCode::to_json).collect::<Vec<_>>());
    Ok(Answer::Body(fields! { "passwords" => passwords }))
}

/// `otp-hkey-get`: security keys, which this server does not offer.
///
/// # Errors
/// None.
pub async fn security_keys(_: &Context, _: Plain) -> Result<Answer, Refusal> {
    Ok(Answer::Body(fields! { "keys" => Value::Array(Vec::new()) }))
}

async fn change(
    context: &Context,
    user: &User,
    msgid: u32,
    text: &str,
    edit: impl FnOnce(&mut User),
) -> Result<(), Refusal> {
    let (domain, now) = (context.domain().to_owned(), clock::now_seconds());
    context
        .site
        .change(|change| {
            let stored = change.directory().user(&user.id).cloned();
            let mut user = (*stored.ok_or_else(|| Refusal::new("This account no longer exists"))?).clone();
            edit(&mut user);
            user.extra.insert(second_factor::CHANGED.into(), now.into());
            let user = change.put_user(user);
            let event = crate::model::Event::new("user", "accountchange", &domain)
                .by(&user)
                .with("account", safe_user(&user))
                .says(msgid, &[], text.to_owned())
                .to_account(&user.id);
            Ok::<_, Refusal>(((), vec![event]))
        })
        .await
}
