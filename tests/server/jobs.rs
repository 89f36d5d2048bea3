//! Commands for many devices: at once, when they return, once, and by whom.

use std::sync::Arc;
use std::time::Duration;

use outpost_agent::identity::Identity;
use outpost_wire::message::{AgentMsg, FromAgent};
use serde_json::{Value, json};

use crate::agents::{self, BareAgent, Claims, RealAgent};
use crate::world::{Control, TestServer, until};

/// A server with a device that was there once, and the identity that it comes back with.
struct Away {
    server: TestServer,
    control: Control,
    group: String,
    device: String,
    identity: Arc<Identity>,
}

async fn away() -> Away {
    let server = TestServer::start().await;
    let mut admin = server.admin().await;
    let mut control = admin.control().await;
    let group = control.group("Lab").await;
    let identity = Arc::new(Identity::generate().unwrap());
    let agent = agents::run(&mut admin, &group, identity.clone()).await;
    until("the device", || server.site().agents.all().iter().any(|agent| agent.is_ready())).await;
    drop(agent);
    until("the device away", || server.site().agents.count() == 0).await;
    let device = control.devices().await[0]["_id"].as_str().unwrap().to_owned();
    Away { server, control, group, device, identity }
}

impl Away {
    async fn back(&self) -> RealAgent {
        let mut browser = crate::world::Browser::new(self.server.address);
        browser.login("Admin", crate::world::PASSWORD).await;
        agents::run(&mut browser, &self.group, self.identity.clone()).await
    }

    async fn queue(&mut self, script: &str) -> String {
        let asked = json!({ "action": "queuecommands", "nodeids": [self.device], "cmds": script });
        let answer = self.control.ask(asked).await;
        assert_eq!((answer["result"].as_str(), &answer["refused"]), (Some("ok"), &json!([])), "{answer}");
        answer["jobid"].as_str().unwrap().to_owned()
    }
}

async fn run_of(control: &mut Control, job: &str) -> Value {
    let shown = control.ask(json!({ "action": "job", "jobid": job })).await;
    shown["runs"][0].clone()
}

/// The run of a job once it is in this state.
async fn reached(control: &mut Control, job: &str, state: &str) -> Value {
    for _ in 0..200 {
        let run = run_of(control, job).await;
        if run["state"] == state {
            return run;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{job} never was {state}: {}", run_of(control, job).await);
}

#[tokio::test]
async fn a_device_that_was_away_gets_its_commands_once_over_a_restart() {
    let mut away = away().await;
    let file = away.server.folder.path().join("ran");
    let first = away.queue(&format!("echo one >> {0}; echo first; exit 3", file.display())).await;
    let second = away.queue(&format!("echo two >> {0}; echo ä€ second", file.display())).await;
    assert_eq!(run_of(&mut away.control, &first).await["state"], "waiting");

    away.server = away.server.restart("{}").await;
    let mut browser = crate::world::Browser::new(away.server.address);
    browser.login("Admin", crate::world::PASSWORD).await;
    away.control = browser.control().await;
    assert_eq!(run_of(&mut away.control, &second).await["state"], "waiting");

    let agent = away.back().await;
    let run = reached(&mut away.control, &first, "done").await;
    assert_eq!((run["exit"].as_i64(), run["output"].as_str()), (Some(3), Some("first\n")));
    let run = reached(&mut away.control, &second, "done").await;
    assert_eq!((run["exit"].as_i64(), run["output"].as_str()), (Some(0), Some("ä€ second\n")));
    drop(agent);

    // Neither another connection nor another start of the server brings them back.
    let restarted = away.server.restart("{}").await;
    let mut browser = crate::world::Browser::new(restarted.address);
    browser.login("Admin", crate::world::PASSWORD).await;
    let mut control = browser.control().await;
    let _agent = agents::run(&mut browser, &away.group, away.identity.clone()).await;
    until("the device back", || restarted.site().agents.all().iter().any(|agent| agent.is_ready())).await;
    outpost::jobs::sweep(restarted.site()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\ntwo\n", "in order, and once");
    let events = control.ask(json!({ "action": "events", "nodeid": away.device })).await;
    let line = |action: &str| {
        let mut found = events["events"].as_array().unwrap().iter();
        found.find(|event| event["action"] == action && event["jobid"] == first.as_str()).cloned()
    };
    assert_eq!(line("runcommands").expect("a line")["userid"], "user//admin");
    let result = line("commandresult").expect("a line");
    assert_eq!((result["output"].as_str(), result["exitcode"].as_i64()), (Some("first\n"), Some(3)));
}

#[tokio::test]
async fn output_is_shown_while_a_script_runs() {
    let mut away = away().await;
    let _agent = away.back().await;
    until("the device", || away.server.site().agents.all().iter().any(|agent| agent.is_ready())).await;
    let go = away.server.folder.path().join("go");
    let job = away
        .queue(&format!("echo early; while ! [ -e {} ]; do sleep 0.1; done; echo late", go.display()))
        .await;
    let heard = away.control.event("joboutput").await;
    assert_eq!((heard["jobid"].as_str(), heard["text"].as_str()), (Some(job.as_str()), Some("early\n")));
    let run = run_of(&mut away.control, &job).await;
    assert_eq!((run["state"].as_str(), run["output"].as_str()), (Some("sent"), Some("early\n")));
    std::fs::write(&go, "").unwrap();
    let run = reached(&mut away.control, &job, "done").await;
    assert_eq!(run["output"], "early\nlate\n");
    // Longer output keeps its end.
    let job = away.queue("head -c 200000 /dev/zero | tr '\\0' x; echo end").await;
    let run = reached(&mut away.control, &job, "done").await;
    assert_eq!((run["output"].as_str().unwrap().len(), &run["cut"]), (2048, &json!(true)));
    let shown = away.control.ask(json!({ "action": "job", "jobid": job, "whole": true })).await;
    let run = &shown["runs"][0];
    let kept = run["output"].as_str().unwrap();
    assert!(kept.len() == 65_536 && kept.ends_with("xend\n"), "{}", kept.len());
    assert_eq!(run["leftOut"], 200_004 - 65_536);
}

#[tokio::test]
async fn an_answer_given_after_the_connection_broke_is_taken() {
    let mut away = away().await;
    let _agent = away.back().await;
    until("the device", || away.server.site().agents.all().iter().any(|agent| agent.is_ready())).await;
    let go = away.server.folder.path().join("go");
    let job =
        away.queue(&format!("while ! [ -e {} ]; do sleep 0.1; done; echo still here", go.display())).await;
    reached(&mut away.control, &job, "sent").await;
    let before = away.server.site().agents.all()[0].clone();
    before.cancel.cancel();
    until("the device away", || {
        away.server.site().agents.all().iter().all(|agent| !Arc::ptr_eq(agent, &before))
    })
    .await;
    std::fs::write(&go, "").unwrap();
    let run = reached(&mut away.control, &job, "done").await;
    assert_eq!(run["output"], "still here\n");
}

#[tokio::test]
async fn what_waits_can_be_taken_back_and_needs_its_right_to_the_end() {
    let mut away = away().await;
    let bob = away.server.member(&mut away.control, "bob").await;
    let file = away.server.folder.path().join("ran");
    let share = |rights: u32| json!({ "action": "addmeshuser", "meshid": away.group, "usernames": ["bob"], "meshadmin": rights });
    let (may_run, may_look) = (share(0x20000), share(0x100));
    let mut bob = bob.control().await;
    let asked = json!({ "action": "queuecommands", "nodeids": [away.device], "cmds": format!("echo x >> {}", file.display()) });
    assert_eq!(bob.ask(asked.clone()).await["result"], "Invalid nodeid", "not seen");
    away.control.ask(may_look.clone()).await;
    assert_eq!(bob.ask(asked.clone()).await["result"], "Access denied");
    away.control.ask(may_run).await;

    let job = bob.ask(asked.clone()).await["jobid"].as_str().unwrap().to_owned();
    let hidden = away.queue("true").await;
    assert_eq!(bob.ask(json!({ "action": "jobs" })).await["jobs"].as_array().unwrap().len(), 2);
    let taken = away.control.ask(json!({ "action": "canceljob", "jobid": job })).await;
    assert_eq!(taken["cancelled"], 1);
    assert_eq!(run_of(&mut bob, &job).await["state"], "cancelled");
    assert_eq!(bob.ask(json!({ "action": "removejob", "jobid": hidden })).await["result"], "Access denied");

    let job = bob.ask(asked).await["jobid"].as_str().unwrap().to_owned();
    away.control.ask(may_look).await;
    let seen = bob.ask(json!({ "action": "job", "jobid": hidden })).await;
    assert_eq!(seen["result"], "There are no such commands", "the right to see it went with that to run");
    let _agent = away.back().await;
    let run = reached(&mut away.control, &job, "refused").await;
    assert!(run["reason"].as_str().unwrap().contains("may no longer"), "{run}");
    reached(&mut away.control, &hidden, "done").await;
    assert!(!file.exists());
    assert_eq!(away.control.ask(json!({ "action": "removejob", "jobid": hidden })).await["result"], "ok");
    assert_eq!(
        away.control.ask(json!({ "action": "job", "jobid": hidden })).await["result"],
        "There are no such commands"
    );
}

#[tokio::test]
async fn an_agent_answers_for_its_own_device_only() {
    let mut away = away().await;
    let job = away.queue("echo mine").await;
    let other = Identity::generate().unwrap();
    let claims = Claims {
        identity: &other,
        group: agents::group_hash(&away.group),
        host_name: "liar",
        server_id: away.server.site().identity.agent.server_id,
    };
    let mut liar = BareAgent::connect(away.server.address, claims).await;
    assert!(liar.is_in());
    let mut lie =
        AgentMsg::reply("runcommands", None, &[("result", json!("not mine")), ("exitcode", json!(0))]);
    lie.responseid = Some(format!("job-{job}"));
    liar.say(serde_json::from_str(&FromAgent::Msg(Box::new(lie.clone())).to_json()).unwrap()).await;
    lie.responseid = Some("job-0000000000000000".into());
    liar.say(serde_json::from_str(&FromAgent::Msg(Box::new(lie)).to_json()).unwrap()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(run_of(&mut away.control, &job).await["state"], "waiting");
    let bad = away.control.ask(json!({ "action": "job", "jobid": "../../x" })).await;
    assert!(bad["result"].as_str().unwrap().contains("16 hexadecimal digits"), "{bad}");
    for (field, value) in
        [("hours", json!(0)), ("hours", json!(9999)), ("runAsUser", json!(3)), ("cmds", json!(" "))]
    {
        let mut asked = json!({ "action": "queuecommands", "nodeids": [away.device], "cmds": "true" });
        asked[field] = value;
        let answer = away.control.ask(asked).await;
        assert!(answer["result"].as_str().unwrap().starts_with(field), "{answer}");
    }
}
