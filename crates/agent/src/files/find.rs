//! Looking for names below a folder.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outpost_wire::files::to_text;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Hits told of.
const MOST: usize = 10_000;
/// Hits that may wait for the client.
const WAITING: usize = 64;

/// A search under way; it ends when this is dropped.
pub(super) struct Search {
    found: mpsc::Receiver<String>,
    told: usize,
    reqid: Value,
    stop: Arc<AtomicBool>,
}

impl Search {
    /// Begins to look below `path` for names that fit `pattern`, in which `*` is any text and `?` any character.
    pub(super) fn begin(path: Vec<u8>, pattern: String, reqid: Value) -> Search {
        let (tell, found) = mpsc::channel(WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        tokio::task::spawn_blocking(move || walk(&path, &pattern, &tell, &stopped));
        Search { found, told: 0, reqid, stop }
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The next answer of a search: a path below the folder, or `null` at its end; without a search waits for ever.
pub(super) async fn next(search: &mut Option<Search>) -> Value {
    let Some(under_way) = search else { return std::future::pending().await };
    let hit = under_way.found.recv().await;
    under_way.told += 1;
    let mut answer = json!({ "action": "findfile", "r": hit, "reqid": under_way.reqid });
    if hit.is_none() {
        if under_way.told > MOST {
            answer["limit"] = MOST.into();
        }
        *search = None;
    }
    answer
}

fn walk(path: &[u8], pattern: &str, tell: &mpsc::Sender<String>, stop: &AtomicBool) {
    let root = PathBuf::from(OsStr::from_bytes(path));
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let mut folders = vec![root.clone()];
    let mut hits = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.filter_map(Result::ok) {
            if stop.load(Ordering::Relaxed) || hits >= MOST {
                return;
            }
            let name = to_text(entry.file_name().as_bytes());
            let below = entry.path();
            if fits(&pattern, &name.to_lowercase().chars().collect::<Vec<_>>())
                && let Ok(relative) = below.strip_prefix(&root)
            {
                hits += 1;
                if tell.blocking_send(to_text(relative.as_os_str().as_bytes())).is_err() {
                    return;
                }
            }
            // The kind of the entry itself: links are not followed, so the walk ends.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(below);
            }
        }
    }
}

/// Whether a name fits a pattern, in time linear in both but for the last star.
fn fits(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some('?') => (p, n) = (p + 1, n + 1),
            Some(c) if *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_people_expect() {
        let fits = |pattern: &str, name: &str| {
            fits(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
        };
        for (pattern, name) in
            [("*", ""), ("*.log", "a.log"), ("a*b*c", "axxbyyc"), ("?.?", "a.b"), ("☃*", "☃")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "a"), ("*.log", "a.logx"), ("a*b*c", "acb"), ("??", "a")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
        assert!(!fits(&"*a".repeat(60), &"a".repeat(59)));
    }

    #[tokio::test]
    async fn hits_come_and_then_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("a/b")).expect("made");
        fs::write(folder.path().join("a/b/Wanted.TXT"), "").expect("written");
        fs::write(folder.path().join("other"), "").expect("written");
        std::os::unix::fs::symlink("..", folder.path().join("a/loop")).expect("linked");
        let path = folder.path().as_os_str().as_bytes().to_vec();
        let mut search = Some(Search::begin(path, "*.txt".into(), json!(7)));
        assert_eq!(
            next(&mut search).await,
            json!({ "action": "findfile", "r": "a/b/Wanted.TXT", "reqid": 7 })
        );
        assert_eq!(next(&mut search).await, json!({ "action": "findfile", "r": null, "reqid": 7 }));
        assert!(search.is_none());
    }
}
