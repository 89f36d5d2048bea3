//! The requests of the control socket: parsed once, typed, dispatched.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::context::Context;
use super::reply::{Answer, Refusal};
use super::{
    account, actions, agentless, chat, console, cookies, cores, devices, groups, history, inventory, invites,
    jobs, messages, preferences, recordings, reports, server, server_files, shares, tokens, two_factor,
    user_groups, users,
};

/// Reads the fields of an action; the error names the field.
fn fields<T: DeserializeOwned>(action: &str, message: Map<String, Value>) -> Result<Box<T>, Refusal> {
    serde_path_to_error::deserialize(Value::Object(message)).map(Box::new).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner();
        if path == "." {
            Refusal::new(format!("{action}: {reason}"))
        } else {
            Refusal::new(format!("{action}: field `{path}`: {reason}"))
        }
    })
}

macro_rules! requests {
    ($($action:literal => $variant:ident($fields:ty) by $handler:path, $echo:ident;)*) => {
        /// Every request there is.
        pub enum Request {
            $(#[doc = concat!("`", $action, "`")] $variant(Box<$fields>),)*
        }

        impl Request {
            /// Reads a request.
            ///
            /// # Errors
            /// A [`Refusal`] that names the unknown action or the bad field.
            pub fn parse(action: &str, message: Map<String, Value>) -> Result<Request, Refusal> {
                match action {
                    $($action => fields::<$fields>(action, message).map(Request::$variant),)*
                    _ => Err(Refusal::new(format!("Unknown action `{action}`"))),
                }
            }

            /// Which ids of a request its answers carry. Where an action is unknown, all of them help.
            pub fn echo(action: &str) -> Echo {
                match action {
                    $($action => Echo::$echo,)*
                    _ => Echo::BOTH,
                }
            }

            /// Does what is asked, as far as the user's rights go.
            ///
            /// # Errors
            /// A [`Refusal`]; nothing was changed then.
            pub async fn handle(self, context: &Context) -> Result<Answer, Refusal> {
                match self {
                    $(Request::$variant(fields) => Box::pin($handler(context, *fields)).await,)*
                }
            }
        }
    };
}

/// The ids that a client may give its request, and that answers may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// None of them.
    Neither,
    /// `responseid`.
    Response,
    /// `tag`.
    Tag,
    /// Both.
    Both,
}

impl Ids {
    /// Whether an id of this name is among them.
    pub fn include(self, name: &str) -> bool {
        match self {
            Ids::Neither => false,
            Ids::Response => name == "responseid",
            Ids::Tag => name == "tag",
            Ids::Both => true,
        }
    }
}

/// What an action's answers carry of its request's ids (control-protocol §0.3). libmeshctrl finds the waiting
/// caller by them, and by the action where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// In good answers.
    pub good: Ids,
    /// In refusals.
    pub refused: Ids,
}

impl Echo {
    const BOTH: Echo = Echo { good: Ids::Both, refused: Ids::Both };
    const BOTH_OR_RESPONSE: Echo = Echo { good: Ids::Both, refused: Ids::Response };
    const RESPONSE: Echo = Echo { good: Ids::Response, refused: Ids::Response };
    const TAG: Echo = Echo { good: Ids::Tag, refused: Ids::Tag };
    const TAG_OR_RESPONSE: Echo = Echo { good: Ids::Tag, refused: Ids::Response };
    const NEITHER: Echo = Echo { good: Ids::Neither, refused: Ids::Neither };
    const NEITHER_OR_RESPONSE: Echo = Echo { good: Ids::Neither, refused: Ids::Response };
    const NEITHER_OR_TAG: Echo = Echo { good: Ids::Neither, refused: Ids::Tag };
}

/// An action without fields.
#[derive(serde::Deserialize)]
pub struct Plain {}

requests! {
    "ping" => Ping(Plain) by server::ping, NEITHER;
    "pong" => Pong(Plain) by server::pong, NEITHER;
    "authcookie" => AuthCookie(Plain) by cookies::auth, NEITHER;
    "logincookie" => LoginCookie(Plain) by cookies::login, NEITHER_OR_RESPONSE;
    "twoFactorCookie" => TwoFactorCookie(Plain) by cookies::two_factor, NEITHER_OR_RESPONSE;
    "getcookie" => DeviceCookie(cookies::DeviceCookie) by cookies::device, BOTH;
    "serverversion" => ServerVersion(Plain) by server::version, NEITHER_OR_RESPONSE;
    "serverstats" => ServerStats(server::Stats) by server::stats, NEITHER_OR_RESPONSE;

    "files" => Files(Plain) by server_files::list, NEITHER_OR_RESPONSE;
    "fileoperation" => FileOperation(server_files::Operation) by server_files::operate, BOTH_OR_RESPONSE;
    "serverconsole" => ServerConsole(console::Console) by console::ask, TAG;
    "recordings" => Recordings(recordings::List) by recordings::list, TAG;
    "removerecording" => RemoveRecording(recordings::Remove) by recordings::remove, BOTH_OR_RESPONSE;
    "meshToolInfo" => ToolInfo(Plain) by server::tool_info, NEITHER_OR_RESPONSE;
    "webrelay" => WebRelay(Plain) by server::web_relay, BOTH_OR_RESPONSE;

    "changelang" => ChangeLanguage(preferences::ChangeLanguage) by preferences::change_language, RESPONSE;
    "changemeshnotify" => ChangeGroupNotify(preferences::ChangeGroupNotify) by preferences::change_group_notify, RESPONSE;
    "changeusernotify" => ChangeDeviceNotify(preferences::ChangeDeviceNotify) by preferences::change_device_notify, RESPONSE;
    "userWebState" => WebState(preferences::WebState) by preferences::web_state, RESPONSE;
    "updateUserImage" => UserImage(preferences::UserImage) by preferences::user_image, RESPONSE;
    "websessions" => WebSessions(Plain) by account::web_sessions, RESPONSE;
    "revokewebsession" => RevokeWebSession(account::RevokeWebSession) by account::revoke_web_session, RESPONSE;
    "changepassword" => ChangePassword(account::ChangePassword) by account::change_password, RESPONSE;
    "changeemail" => ChangeEmail(account::ChangeEmail) by account::change_email, RESPONSE;
    "previousLogins" => PreviousLogins(account::PreviousLogins) by account::previous_logins, NEITHER_OR_RESPONSE;

    "createLoginToken" => CreateLoginToken(tokens::CreateLoginToken) by tokens::create, NEITHER_OR_RESPONSE;
    "loginTokens" => LoginTokens(tokens::ListLoginTokens) by tokens::list, NEITHER_OR_RESPONSE;
    "otpauth-request" => AppSecret(Plain) by two_factor::request, NEITHER_OR_RESPONSE;
    "otpauth-setup" => AppSetup(two_factor::Setup) by two_factor::set_up, NEITHER_OR_RESPONSE;
    "otpauth-clear" => AppClear(Plain) by two_factor::clear, NEITHER_OR_RESPONSE;
    "otpauth-getpasswords" => BackupCodes(two_factor::BackupCodes) by two_factor::backup_codes, NEITHER_OR_RESPONSE;
    "otp-hkey-get" => SecurityKeys(Plain) by two_factor::security_keys, NEITHER_OR_RESPONSE;

    "createDeviceShareLink" => CreateShare(shares::CreateShare) by shares::create, BOTH_OR_RESPONSE;
    "deviceShares" => DeviceShares(shares::OfDevice) by shares::of_device, NEITHER_OR_RESPONSE;
    "deviceMeshShares" => GroupShares(shares::OfGroup) by shares::of_group, NEITHER_OR_RESPONSE;
    "removeDeviceShare" => RemoveShare(shares::RemoveShare) by shares::remove, RESPONSE;

    "users" => Users(Plain) by users::list, TAG_OR_RESPONSE;
    "wssessioncount" => SessionCount(Plain) by users::session_count, TAG;
    "adduser" => AddUser(users::AddUser) by users::add, RESPONSE;
    "adduserbatch" => AddUsers(users::AddUsers) by users::add_batch, RESPONSE;
    "edituser" => EditUser(users::EditUser) by users::edit, RESPONSE;
    "deleteuser" => DeleteUser(users::DeleteUser) by users::delete, RESPONSE;
    "changeuserpass" => ChangeUserPassword(users::ChangeUserPassword) by users::change_password, RESPONSE;

    "usergroups" => UserGroups(Plain) by user_groups::list, TAG;
    "createusergroup" => CreateUserGroup(user_groups::CreateUserGroup) by user_groups::create, RESPONSE;
    "editusergroup" => EditUserGroup(user_groups::EditUserGroup) by user_groups::edit, RESPONSE;
    "deleteusergroup" => DeleteUserGroup(user_groups::DeleteUserGroup) by user_groups::delete, RESPONSE;
    "addusertousergroup" => AddToUserGroup(user_groups::AddMembers) by user_groups::add_members, RESPONSE;
    "removeuserfromusergroup" => RemoveFromUserGroup(user_groups::RemoveMember) by user_groups::remove_member, RESPONSE;

    "meshes" => Groups(Plain) by groups::list, TAG;
    "createmesh" => CreateGroup(groups::CreateGroup) by groups::create, RESPONSE;
    "editmesh" => EditGroup(groups::EditGroup) by groups::edit, RESPONSE;
    "deletemesh" => DeleteGroup(groups::DeleteGroup) by groups::delete, RESPONSE;
    "addmeshuser" => AddGroupUser(groups::AddGroupUser) by groups::add_user, RESPONSE;
    "removemeshuser" => RemoveGroupUser(groups::RemoveGroupUser) by groups::remove_user, RESPONSE;
    "inviteAgent" => InviteAgent(invites::InviteAgent) by invites::invite_agent, RESPONSE;
    "createInviteLink" => CreateInviteLink(invites::CreateInviteLink) by invites::create_link, BOTH_OR_RESPONSE;

    "nodes" => Devices(devices::List) by devices::list, BOTH_OR_RESPONSE;
    "addlocaldevice" => AddLocalDevice(agentless::AddLocalDevice) by agentless::add_local, RESPONSE;
    "addamtdevice" => AddAmtDevice(agentless::AddAmtDevice) by agentless::add_amt, RESPONSE;
    "changedevice" => ChangeDevice(devices::ChangeDevice) by devices::change, RESPONSE;
    "changeDeviceMesh" => MoveDevices(devices::MoveDevices) by devices::move_to_group, RESPONSE;
    "removedevices" => RemoveDevices(devices::NodeIds) by devices::remove, RESPONSE;
    "adddeviceuser" => AddDeviceUser(devices::AddDeviceUser) by devices::add_user, RESPONSE;
    "setNotes" => SetNotes(devices::SetNotes) by devices::set_notes, RESPONSE;
    "getNotes" => GetNotes(devices::GetNotes) by devices::get_notes, NEITHER_OR_RESPONSE;

    "getsysinfo" => SystemInformation(inventory::SystemInformation) by inventory::system, TAG;
    "getnetworkinfo" => NetworkInformation(inventory::OfDevice) by inventory::network, NEITHER_OR_TAG;
    "lastconnect" => LastConnect(inventory::OfDevice) by inventory::last_connect, NEITHER_OR_TAG;
    "lastconnects" => LastConnects(Plain) by inventory::last_connects, TAG;
    "getDeviceDetails" => DeviceDetails(inventory::Details) by inventory::details, NEITHER_OR_RESPONSE;

    "userbroadcast" => Broadcast(messages::Broadcast) by messages::broadcast, RESPONSE;
    "notifyuser" => NotifyUser(messages::NotifyUser) by messages::notify_user, RESPONSE;
    "interuser" => InterUser(messages::InterUser) by messages::inter_user, RESPONSE;
    "intersession" => InterSession(messages::InterSession) by messages::inter_session, RESPONSE;
    "emailuser" => EmailUser(messages::Elsewhere) by messages::email_user, RESPONSE;
    "smsuser" => SmsUser(messages::Elsewhere) by messages::sms_user, RESPONSE;
    "msguser" => MessageUser(messages::Elsewhere) by messages::message_user, RESPONSE;
    "meshmessenger" => Messenger(chat::Messenger) by chat::begin, BOTH_OR_RESPONSE;
    "report" => Report(reports::Report) by reports::report, NEITHER_OR_RESPONSE;

    "msg" => Message(actions::Message) by actions::message, BOTH;
    "getClip" => GetClip(actions::Clip) by actions::get_clip, BOTH;
    "setClip" => SetClip(actions::Clip) by actions::set_clip, BOTH;
    "runcommands" => RunCommands(actions::RunCommands) by actions::run_commands, RESPONSE;
    "queuecommands" => QueueCommands(jobs::Queue) by jobs::queue, BOTH;
    "jobs" => Jobs(Plain) by jobs::list, BOTH;
    "job" => Job(jobs::Show) by jobs::show, BOTH;
    "canceljob" => CancelJob(jobs::Cancel) by jobs::cancel, BOTH;
    "removejob" => RemoveJob(jobs::Remove) by jobs::remove, BOTH;
    "poweraction" => PowerAction(actions::PowerAction) by actions::power, RESPONSE;
    "wakedevices" => Wake(actions::NodeIds) by actions::wake, RESPONSE;
    "toast" => Toast(actions::Toast) by actions::toast, RESPONSE;
    "uninstallagent" => UninstallAgent(actions::NodeIds) by actions::uninstall_agent, RESPONSE;
    "uploadagentcore" => UploadCore(cores::UploadCore) by cores::upload, RESPONSE;
    "updateAgents" => UpdateAgents(devices::NodeIds) by cores::update, RESPONSE;
    "agentdisconnect" => DisconnectAgent(actions::DisconnectAgent) by actions::disconnect_agent, RESPONSE;

    "events" => Events(history::Events) by history::events, TAG;
    "setDeviceEvent" => DeviceEvent(history::DeviceEvent) by history::device_event, RESPONSE;
    "powertimeline" => PowerTimeline(history::PowerTimeline) by history::power_timeline, TAG;
}
