use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use outpost_wire::id::{DeviceId, UserId};
use outpost_wire::recording::{BlockKind, Ending, Index};

use super::*;
use crate::config::Document;

fn policy(json: &str) -> Arc<SessionRecording> {
    let text = format!(r#"{{"domains":{{"":{{"sessionRecording":{json}}}}}}}"#);
    let document = Document::parse(&text, std::path::Path::new("config.json")).expect("JSON");
    let (config, problems) = crate::config::read(&document, PathBuf::from("/srv/outpost-data"));
    assert!(problems.is_empty(), "{problems:?}");
    config.domain("").session_recording.clone().expect("a policy")
}

fn session(id: &str, protocol: u16) -> Session {
    Session {
        user: UserId::from_name("", "bob").expect("an id"),
        username: "Bob".into(),
        guest: None,
        id: id.into(),
        viewer: [127, 0, 0, 1].into(),
        agent: [127, 0, 0, 1].into(),
        protocol: Some(protocol),
        device: DeviceId::new("", &"a".repeat(64)).expect("an id"),
        devicename: "pc".into(),
        started: clock::now_ms(),
    }
}

struct Place {
    // Removed with the test.
    _root: tempfile::TempDir,
    folder: Arc<Folder>,
}

fn place() -> Place {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Arc::new(Folder::new(root.path().join("recordings")));
    Place { _root: root, folder }
}

async fn begin(place: &Place, policy: &Arc<SessionRecording>, session: Session) -> Result<Tape, TapeError> {
    Tape::begin(place.folder.clone(), policy.clone(), session, Arc::new(Semaphore::new(1))).await
}

/// The messages of a finished file.
fn messages(place: &Place, name: &str) -> Vec<(bool, bool, Vec<u8>)> {
    let bytes = fs::read(place.folder.path().join(name)).expect("the file");
    let mut at = 0;
    let mut found = Vec::new();
    while let Some(head) = bytes.get(at..at + HEAD) {
        let head = BlockHead::parse(head.try_into().expect("16 bytes")).expect("a head");
        let data = &bytes[at + HEAD..at + HEAD + head.size as usize];
        if let BlockKind::Message { binary, from_viewer } = head.kind {
            found.push((binary, from_viewer, data.to_vec()));
        }
        at += HEAD + head.size as usize;
    }
    assert_eq!(at, bytes.len(), "blocks to the last byte");
    found
}

#[tokio::test]
async fn both_directions_are_kept_in_whole_blocks() {
    let place = place();
    let tape = begin(&place, &policy("true"), session("t1", 1)).await.expect("a tape");
    tape.message(Way::FromViewer, false, b"1").await.expect("written");
    // A long message of unknown length; the other side types meanwhile, more than can wait.
    tape.start(Way::FromDevice, true, None).await.expect("started");
    let part = vec![7; 20_000];
    tape.piece(Way::FromDevice, &part).await.expect("written");
    tape.message(Way::FromViewer, true, b"ls\n").await.expect("set aside");
    let (big, rest) = tokio::join!(tape.message(Way::FromViewer, true, &[1; 15_900]), async {
        tokio::task::yield_now().await;
        tape.message(Way::FromViewer, true, &[2; 400]).await?;
        tape.piece(Way::FromDevice, &part).await?;
        tape.end(Way::FromDevice).await
    });
    big.and(rest).expect("written");
    // One that never ends is left out, what came beside it is not.
    tape.start(Way::FromDevice, true, Some(1000)).await.expect("started");
    tape.piece(Way::FromDevice, &[9; 10]).await.expect("written");
    tape.message(Way::FromViewer, true, b"q").await.expect("set aside");
    let part_file = fs::metadata(&tape.part).expect("the file");
    assert_eq!(part_file.permissions().mode() & 0o777, 0o600);
    let recording = tape.finish().await.expect("finished").expect("a recording");
    assert!(tape.finish().await.expect("only once").is_none());
    let found = messages(&place, &recording.name);
    let lengths: Vec<usize> = found.iter().map(|(.., data)| data.len()).collect();
    assert_eq!((lengths[0], &lengths[1..3], lengths.len()), (1, &[40_000, 3][..], 6), "{lengths:?}");
    assert_eq!(found.last().expect("one"), &(true, true, b"q".to_vec()));
    assert!(
        recording.end.is_some() && recording.about.as_ref().is_some_and(|about| about.protocol == Some(1))
    );
}

#[tokio::test]
async fn a_desktop_gets_an_index_unless_told_otherwise() {
    let place = place();
    for (json, indexed) in [("true", true), (r#"{"index":false}"#, false)] {
        let tape = begin(&place, &policy(json), session("t2", 2)).await.expect("a tape");
        tape.message(Way::FromDevice, true, &[0, 7, 0, 8, 0, 64, 0, 64]).await.expect("written");
        let recording = tape.finish().await.expect("finished").expect("a recording");
        let bytes = fs::read(place.folder.path().join(&recording.name)).expect("the file");
        let tail = bytes.last_chunk().expect("an end");
        match Ending::parse(tail).expect("an end") {
            Ending::Indexed(at) => {
                assert!(indexed);
                let json = &bytes[at as usize + HEAD..bytes.len() - 32];
                assert_eq!(serde_json::from_slice::<Index>(json).expect("an index").index_interval, 10);
            }
            Ending::Plain(_) => assert!(!indexed),
        }
        assert!(recording.end.is_some());
    }
}

#[tokio::test]
async fn the_limit_of_bytes_holds_and_older_recordings_make_room() {
    let place = place();
    let policy = policy(r#"{"maxRecordingSizeMegabytes":2,"index":false}"#);
    for id in ["a", "b"] {
        let tape = begin(&place, &policy, session(id, 5)).await.expect("a tape");
        for _ in 0..15 {
            tape.message(Way::FromDevice, true, &[3; 60_000]).await.expect("written");
        }
        tape.finish().await.expect("finished").expect("a recording");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let tape = begin(&place, &policy, session("c", 5)).await.expect("a tape");
    let mut written = 0;
    let refused = loop {
        match tape.message(Way::FromDevice, true, &[4; 60_000]).await {
            Ok(()) => written += 60_000,
            Err(error) => break error,
        }
        assert!(written < 4 << 20, "it never ends");
    };
    assert_eq!(refused, TapeError::Limit);
    assert_eq!(tape.keep().await, TapeError::Limit);
    assert!(written > 1 << 20, "the older ones made room: {written}");
    let recording = tape.finish().await.expect("finished").expect("what there is");
    assert!(
        messages(&place, &recording.name).iter().all(|(.., data)| data.len() == 60_000),
        "whole messages only"
    );
    assert_eq!(place.folder.list().expect("a list").len(), 1);
    assert!(place.folder.used() <= 2 << 20);
}

#[tokio::test]
async fn a_full_disk_is_seen_before_anything_is_written() {
    let place = place();
    let policy = policy(r#"{"keepFreeMegabytes":1073741824}"#);
    let refused = begin(&place, &policy, session("t", 1)).await.err();
    assert_eq!(refused, Some(TapeError::DiskFull));
    assert!(place.folder.parts().expect("a list").is_empty());
}

#[tokio::test]
async fn what_a_dead_server_left_is_mended() {
    let place = place();
    let policy = policy("true");
    let tape = begin(&place, &policy, session("t", 2)).await.expect("a tape");
    tape.message(Way::FromViewer, false, b"2").await.expect("written");
    tape.message(Way::FromDevice, true, &[0, 7, 0, 8, 0, 64, 0, 64]).await.expect("written");
    {
        let state = &mut *tape.state.lock().await;
        tape.hand_over(state).await.expect("handed over");
        state.settle().await.expect("written");
    }
    assert!(
        completion::recover(&place.folder, true).expect("looked").is_empty(),
        "it is still being written"
    );
    let (part, name) = (tape.part.clone(), tape.name.clone());
    drop(tape);
    let mut torn = fs::read(&part).expect("the file");
    torn.extend(message_head(Way::FromDevice, true, 500).bytes());
    torn.extend([1; 30]);
    fs::write(&part, torn).expect("torn");
    let recovered = completion::recover(&place.folder, true).expect("mended");
    assert_eq!((recovered.len(), recovered[0].recovered), (1, true));
    assert_eq!(messages(&place, &name).len(), 2);
    assert!(recovered[0].end.is_some() && !part.exists());
}
