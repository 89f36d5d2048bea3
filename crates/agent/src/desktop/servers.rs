//! The X servers that run on this device, as `/proc` shows them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::display::Display;

/// Largest environment or table of sockets that is looked through.
const LARGEST: u64 = 4 << 20;

/// All of them, by name. Those on virtual terminals know theirs.
pub fn running() -> Vec<Display> {
    let mut found = BTreeMap::new();
    for folder in processes() {
        let Some(server) = fs::read(folder.join("cmdline")).ok().and_then(|line| server(&line)) else {
            continue;
        };
        let links = links(&folder);
        // Servers that choose their number themselves do not have it on their command line.
        let Some(name) = server.name.or_else(|| socket_name(&links)) else { continue };
        let terminal = server.terminal.or_else(|| links.iter().find_map(|link| terminal(link)));
        let authority = server.authority.or_else(|| authority_of_clients(&name));
        found.insert(name.clone(), Display { name, authority, terminal });
    }
    found.into_values().collect()
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let is_number = |name: &OsString| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter(move |entry| is_number(&entry.file_name())).map(|entry| entry.path())
}

/// What a command line says of an X server.
#[derive(Debug, Default, PartialEq, Eq)]
struct Server {
    name: Option<String>,
    terminal: Option<u32>,
    authority: Option<PathBuf>,
}

fn server(command_line: &[u8]) -> Option<Server> {
    let words: Vec<OsString> =
        command_line.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
    let program = Path::new(words.first()?).file_name()?.to_string_lossy().into_owned();
    if !matches!(program.as_str(), "X" | "Xorg" | "Xorg.bin" | "Xvfb" | "Xvnc" | "Xtigervnc" | "Xephyr") {
        return None;
    }
    let mut server = Server::default();
    let mut chooses_number = false;
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if let Some(number) = text.strip_prefix(':').filter(|number| number.parse::<u16>().is_ok()) {
            server.name = Some(format!(":{number}"));
        } else if let Some(number) = text.strip_prefix("vt").and_then(|number| number.parse().ok()) {
            server.terminal = Some(number);
        } else if text == "-auth" {
            server.authority = words.next().map(PathBuf::from);
        } else if text == "-displayfd" {
            chooses_number = true;
        }
    }
    if server.name.is_none() && !chooses_number {
        server.name = Some(":0".into());
    }
    Some(server)
}

/// Where the open files of a process lead.
fn links(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("fd")).into_iter().flatten().filter_map(Result::ok);
    let target = |entry: fs::DirEntry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned());
    entries.filter_map(target).collect()
}

fn terminal(link: &str) -> Option<u32> {
    // tty0 stands for whichever is in front.
    link.strip_prefix("/dev/tty").and_then(|number| number.parse().ok()).filter(|number| *number > 0)
}

/// The display of which a process holds the socket.
fn socket_name(links: &[String]) -> Option<String> {
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    let of_line = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(6);
        let (inode, path) = (words.next()?, words.next()?);
        let number = path.trim_start_matches('@').strip_prefix("/tmp/.X11-unix/X")?;
        links.contains(&format!("socket:[{inode}]")).then(|| format!(":{number}"))
    };
    table.lines().find_map(of_line)
}

/// The authority file that a client of the display uses, for servers that were started with one in another way.
fn authority_of_clients(name: &str) -> Option<PathBuf> {
    processes().find_map(|folder| {
        let file = fs::File::open(folder.join("environ")).ok()?;
        let mut environment = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, LARGEST), &mut environment).ok()?;
        authority(&environment, name)
    })
}

fn authority(environment: &[u8], name: &str) -> Option<PathBuf> {
    let value = |key: &str| {
        let prefix = format!("{key}=");
        environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(prefix.as_bytes()))
    };
    let display = String::from_utf8_lossy(value("DISPLAY")?).into_owned();
    // A display may be followed by the number of its screen.
    let is_it = display == name || display.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    let file = value("XAUTHORITY").filter(|file| !file.is_empty() && is_it)?;
    Some(PathBuf::from(OsString::from_vec(file.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_of_servers_are_read() {
        let line =
            b"/usr/lib/xorg/Xorg\0:1\0-seat\0seat0\0-auth\0/run/user/1/auth file\0-nolisten\0tcp\0vt7\0";
        let server = super::server(line).expect("a server");
        assert_eq!((server.name.as_deref(), server.terminal), (Some(":1"), Some(7)));
        assert_eq!(server.authority, Some(PathBuf::from("/run/user/1/auth file")));
        let name = |line: &[u8]| super::server(line).expect("a server").name;
        assert_eq!(name(b"Xvfb\x00:99\x00-screen\x000\x001024x768x24\x00").as_deref(), Some(":99"));
        assert_eq!(name(b"/usr/bin/X\0").as_deref(), Some(":0"));
        assert_eq!(name(b"/usr/lib/xorg/Xorg\0vt2\0-displayfd\x003\0"), None, "its socket says");
        assert_eq!(super::server(b"grep\0Xorg\0:0\0"), None);
        assert_eq!(super::server(b""), None);
    }

    #[test]
    fn terminals_and_authorities_are_found() {
        assert_eq!(
            (terminal("/dev/tty7"), terminal("/dev/tty0"), terminal("/dev/ttyS0")),
            (Some(7), None, None)
        );
        let environment = b"HOME=/home/ada\0DISPLAY=:1.0\0XAUTHORITY=/run/user/1000/auth\0";
        assert_eq!(authority(environment, ":1"), Some("/run/user/1000/auth".into()));
        assert_eq!(authority(environment, ":0"), None);
        assert_eq!(authority(b"DISPLAY=:10\0XAUTHORITY=/x\0", ":1"), None);
        assert_eq!(authority(b"DISPLAY=:1\0", ":1"), None);
    }
}
