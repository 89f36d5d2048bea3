use std::path::Path;

use outpost_wire::arch;

use super::*;
use crate::agents::bundle::import_archive;
use crate::agents::bundle::tests::package::Package;

fn bundle(folder: &Path) -> Arc<Bundle> {
    import_archive(&Package::new().listed().tgz()[..], folder).expect("imported");
    Arc::new(Bundle::load(folder).expect("readable").expect("there"))
}

fn text(bundle: &Bundle, name: CoreName, minified: bool) -> String {
    String::from_utf8(assemble(bundle, name, minified).expect("readable").expect("there")).expect("UTF-8")
}

#[test]
fn a_core_has_the_modules_of_its_system_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = bundle(folder.path());
    let modules = |id: u32| {
        let name = CoreName::main(arch::by_id(id).expect("a row")).expect("a core");
        let text = text(&bundle, name, false);
        let found: Vec<String> = text
            .split("addedModules.push(\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap_or_default().to_owned())
            .collect();
        assert!(text.starts_with("var addedModules = [];\r\n"));
        assert!(text.ends_with("var core = \"ü\";"));
        assert!(text.contains("var words = JSON.parse('"));
        found
    };
    assert_eq!(modules(4), ["amt-lme", "smbios", "sysinfo", "win-console"]);
    assert_eq!(modules(6), ["amt-lme", "linux-dhcp", "smbios", "sysinfo"]);
    assert_eq!(modules(26), ["linux-dhcp", "sysinfo"]);
    assert_eq!(CoreName::main(arch::by_id(23).expect("a row")), None);
    let recovery = text(&bundle, CoreName::Recovery { windows: true }, false);
    assert_eq!(
        recovery,
        "var addedModules = [];\r\ntry { addModule(\"win-console\", \"win();\"); \
         addedModules.push(\"win-console\"); } catch (ex) { }\r\nvar recovery = 1;"
    );
    let linux = CoreName::recovery(arch::by_id(6).expect("a row"));
    assert_eq!(text(&bundle, linux, false), "var addedModules = [];\r\nvar recovery = 1;");
    assert_eq!(text(&bundle, CoreName::Tiny, false), "var addedModules = [];\r\nvar tiny = 1;");
}

#[test]
fn sources_are_quoted_for_javascript() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = text(&bundle(folder.path()), CoreName::Main { windows: true, amt: true }, false);
    // Module text is ASCII; what is not vanishes, and so do control characters.
    assert!(core.contains(r#"addModule("amt-lme", "amt(\'\"\\\');\r\n\t");"#), "{core}");
    // JSON keeps its letters.
    assert!(core.contains(r#"JSON.parse('{\"ja\": \"はい\", \"q\": \"it\'s\"}');"#), "{core}");
}

#[test]
fn the_minified_core_is_one_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(
        text(&bundle(folder.path()), CoreName::Main { windows: false, amt: true }, true),
        "var addedModules = [];\r\ntry { addModule(\"sysinfo\", \"i();\"); addedModules.push(\"sysinfo\"); } \
         catch (ex) { }\r\nvar core=1;"
    );
}

#[test]
fn a_core_is_sent_packed_or_plain_with_the_same_hash() {
    let core = Core::of(b"var a = 1;").expect("made");
    let whole = [&[0; 4][..], b"var a = 1;"].concat();
    assert_eq!(core.hash, Hash384::of(&whole));
    let ServerCommand::InstallCore { hash, core: plain } =
        ServerCommand::decode(&core.message(false)).expect("a command")
    else {
        panic!("not a core");
    };
    assert_eq!((hash, plain), (core.hash, whole));
    assert!(matches!(
        ServerCommand::decode(&core.message(true)).expect("a command"),
        ServerCommand::CompressedCore { hash, .. } if hash == core.hash
    ));
    assert!(Core::of(&vec![b' '; MAX_CORE]).is_err());
}

#[tokio::test]
async fn few_cores_are_kept_and_each_is_made_once() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let bundle = bundle(folder.path());
    let cores = Cores::default();
    let linux = CoreName::Main { windows: false, amt: true };
    let get = |name| cores.get(&bundle, name, false);
    let first = get(linux).await.expect("readable").expect("there");
    assert!(Arc::ptr_eq(&first, &get(linux).await.expect("readable").expect("there")));
    for name in [
        CoreName::Tiny,
        CoreName::Main { windows: true, amt: true },
        linux,
        CoreName::Recovery { windows: true },
        CoreName::Recovery { windows: false },
    ] {
        get(name).await.expect("readable").expect("there");
        assert!(cores.made.lock().expect("alone").cores.len() <= MOST_KEPT);
    }
    assert!(Arc::ptr_eq(&first, &get(linux).await.expect("readable").expect("there")), "used lately");
    // Another bundle has cores of its own.
    let package = Package::new().with("agents/meshcore.js", b"other").listed();
    import_archive(&package.tgz()[..], other.path()).expect("imported");
    let newer = Arc::new(Bundle::load(other.path()).expect("readable").expect("there"));
    let changed = cores.get(&newer, linux, false).await.expect("readable").expect("there");
    assert_ne!(changed.hash, first.hash);
}
