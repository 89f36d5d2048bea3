//! The requests of the control socket: parsed once, typed, dispatched.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::context::Context;
use super::reply::{Answer, Refusal};
use super::{account, actions, devices, groups, history, inventory, invites, server, user_groups, users};

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
    ($($action:literal => $variant:ident($fields:ty) by $handler:path;)*) => {
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

/// An action without fields.
#[derive(serde::Deserialize)]
pub struct Plain {}

requests! {
    "ping" => Ping(Plain) by server::ping;
    "pong" => Pong(Plain) by server::pong;
    "authcookie" => AuthCookie(Plain) by server::auth_cookie;
    "serverversion" => ServerVersion(Plain) by server::version;
    "serverstats" => ServerStats(server::Stats) by server::stats;

    "websessions" => WebSessions(Plain) by account::web_sessions;
    "revokewebsession" => RevokeWebSession(account::RevokeWebSession) by account::revoke_web_session;
    "changepassword" => ChangePassword(account::ChangePassword) by account::change_password;
    "changeemail" => ChangeEmail(account::ChangeEmail) by account::change_email;
    "previousLogins" => PreviousLogins(account::PreviousLogins) by account::previous_logins;

    "users" => Users(Plain) by users::list;
    "wssessioncount" => SessionCount(Plain) by users::session_count;
    "adduser" => AddUser(users::AddUser) by users::add;
    "edituser" => EditUser(users::EditUser) by users::edit;
    "deleteuser" => DeleteUser(users::DeleteUser) by users::delete;
    "changeuserpass" => ChangeUserPassword(users::ChangeUserPassword) by users::change_password;

    "usergroups" => UserGroups(Plain) by user_groups::list;
    "createusergroup" => CreateUserGroup(user_groups::CreateUserGroup) by user_groups::create;
    "editusergroup" => EditUserGroup(user_groups::EditUserGroup) by user_groups::edit;
    "deleteusergroup" => DeleteUserGroup(user_groups::DeleteUserGroup) by user_groups::delete;
    "addusertousergroup" => AddToUserGroup(user_groups::AddMembers) by user_groups::add_members;
    "removeuserfromusergroup" => RemoveFromUserGroup(user_groups::RemoveMember) by user_groups::remove_member;

    "meshes" => Groups(Plain) by groups::list;
    "createmesh" => CreateGroup(groups::CreateGroup) by groups::create;
    "editmesh" => EditGroup(groups::EditGroup) by groups::edit;
    "deletemesh" => DeleteGroup(groups::DeleteGroup) by groups::delete;
    "addmeshuser" => AddGroupUser(groups::AddGroupUser) by groups::add_user;
    "removemeshuser" => RemoveGroupUser(groups::RemoveGroupUser) by groups::remove_user;
    "createInviteLink" => CreateInviteLink(invites::CreateInviteLink) by invites::create_link;

    "nodes" => Devices(devices::List) by devices::list;
    "changedevice" => ChangeDevice(devices::ChangeDevice) by devices::change;
    "changeDeviceMesh" => MoveDevices(devices::MoveDevices) by devices::move_to_group;
    "removedevices" => RemoveDevices(devices::NodeIds) by devices::remove;
    "adddeviceuser" => AddDeviceUser(devices::AddDeviceUser) by devices::add_user;
    "setNotes" => SetNotes(devices::SetNotes) by devices::set_notes;
    "getNotes" => GetNotes(devices::GetNotes) by devices::get_notes;

    "getsysinfo" => SystemInformation(inventory::SystemInformation) by inventory::system;
    "getnetworkinfo" => NetworkInformation(inventory::OfDevice) by inventory::network;
    "lastconnect" => LastConnect(inventory::OfDevice) by inventory::last_connect;
    "lastconnects" => LastConnects(Plain) by inventory::last_connects;
    "getDeviceDetails" => DeviceDetails(inventory::Details) by inventory::details;

    "events" => Events(history::Events) by history::events;
    "powertimeline" => PowerTimeline(history::PowerTimeline) by history::power_timeline;

    "msg" => Message(actions::Message) by actions::message;
    "runcommands" => RunCommands(actions::RunCommands) by actions::run_commands;
    "poweraction" => PowerAction(actions::PowerAction) by actions::power;
    "wakedevices" => Wake(actions::NodeIds) by actions::wake;
    "toast" => Toast(actions::Toast) by actions::toast;
    "uninstallagent" => UninstallAgent(actions::NodeIds) by actions::uninstall_agent;
    "agentdisconnect" => DisconnectAgent(actions::DisconnectAgent) by actions::disconnect_agent;
}
