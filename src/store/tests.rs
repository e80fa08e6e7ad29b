use super::*;
use crate::model::{Entry, Tree};

fn about(kind: &str) -> About {
    About { unit: "x".into(), kind: kind.into(), elapsed_ms: 7, is_clean: true, largest_bytes: 0 }
}

/// Keeps a tree of one file as the result of a key.
fn result(store: &Store, key: &str, content: &str) -> (Digest, Record) {
    let scratch = store.scratch().unwrap();
    let folder = scratch.path().join("out");
    fs::create_dir_all(folder.join("bin")).unwrap();
    fs::write(folder.join("bin/x"), content).unwrap();
    std::os::unix::fs::symlink("x", folder.join("bin/y")).unwrap();
    let (output, tree) = store.adopt_tree(&folder).unwrap();
    let record = Record { output, size_bytes: tree.size_bytes(), observed: None };
    let key = Digest::of(key.as_bytes());
    store.put_record(&key, &record, &about("compile")).unwrap();
    (key, record)
}

/// Makes a record one of another start of the machine.
fn of_another_boot(store: &Store, key: &Digest) {
    let kept = store.kept(key).unwrap();
    store.write_record(key, &records::Kept { boot: "other".into(), ..kept }).unwrap();
}

fn age(path: &Path, days: u64) {
    let file = fs::File::open(path).unwrap();
    let now = file.metadata().unwrap().modified().unwrap();
    file.set_modified(now - Duration::from_secs(days * 24 * 60 * 60)).unwrap();
}

#[test]
fn trees_are_kept_by_content_and_records_only_when_whole() {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    assert_eq!(store.record(&Digest::of(b"key")), None);
    let (key, record) = result(&store, "key", "hello");
    let tree = describe(&store.tree_path(&record.output)).unwrap();
    assert!(matches!(tree.entries["bin/x"], Entry::File { size_bytes: 5, .. }));
    assert_eq!(Tree::digest(&tree), record.output);
    assert_eq!(store.record(&key), Some(record.clone()));
    trees::remove(&store.tree_path(&record.output)).unwrap();
    assert_eq!(store.record(&key), None, "a record without its tree is no result");
}

#[test]
fn scratch_of_dead_processes_is_swept() {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    let stale = store.root().join("scratch/4194999-x");
    let elsewhere = store.root().join("scratch/4194998-x");
    fs::create_dir_all(&stale).unwrap();
    fs::create_dir_all(&elsewhere).unwrap();
    // A process of another container has no number here.
    let lock = fs::File::open(&elsewhere).unwrap();
    lock.try_lock().unwrap();
    Store::open(cache.path()).unwrap();
    assert!(!stale.exists());
    assert!(elsewhere.exists());
    let scratch = store.scratch().unwrap();
    let own = scratch.path().to_owned();
    Store::open(cache.path()).unwrap();
    assert!(own.exists());
    drop(scratch);
    drop(store);
    assert!(!own.parent().unwrap().exists());
}

#[test]
fn a_result_of_another_boot_is_hashed_once_before_it_is_used() {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    let ((good, _), (bad, record)) = (result(&store, "good", "a"), result(&store, "bad", "b"));
    of_another_boot(&store, &good);
    of_another_boot(&store, &bad);
    let file = store.tree_path(&record.output).join("bin/x");
    fs::write(&file, "").unwrap();
    let store = Store::open(cache.path()).unwrap();
    let record = store.record(&good).unwrap();
    assert!(store.prove(&record).unwrap());
    assert_eq!(store.kept(&good).unwrap().boot, *store.boot());
    // The digest alone may be used: it is what the key gave.
    let record = store.record(&bad).unwrap();
    assert!(!store.prove(&record).unwrap());
    assert_eq!(store.record(&bad), None, "it is made anew");
    result(&store, "bad", "b");
    let store = Store::open(cache.path()).unwrap();
    let record = store.record(&bad).unwrap();
    assert!(store.prove(&record).unwrap());
    // In the same boot what is damaged is found where all of it is read.
    fs::write(&file, "c").unwrap();
    assert!(store.prove(&record).unwrap());
    assert!(!store.prove_fully(&record).unwrap());
    assert_eq!(store.record(&bad), None);
}

#[test]
fn a_damaged_tree_that_no_record_names_is_replaced() {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    let (key, record) = result(&store, "key", "hello");
    let file = store.tree_path(&record.output).join("bin/x");
    fs::remove_file(store.record_path(&key)).unwrap();
    fs::write(&file, "").unwrap();
    let store = Store::open(cache.path()).unwrap();
    result(&store, "key", "hello");
    assert_eq!(fs::read_to_string(&file).unwrap(), "hello");
}

#[test]
fn a_damaged_blob_is_removed() {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    let (file, digest) = (cache.path().join("x"), Digest::of(b"x"));
    assert_eq!(store.blob(&digest), Found::Nothing);
    fs::write(&file, "x").unwrap();
    let place = store.adopt_blob(&file, &digest).unwrap();
    assert_eq!(store.blob(&digest), Found::Whole(place.clone()));
    fs::remove_file(&place).unwrap();
    fs::write(&place, "y").unwrap();
    let store = Store::open(cache.path()).unwrap();
    assert_eq!(store.blob(&digest), Found::Damaged(place));
    assert_eq!(store.blob(&digest), Found::Nothing);
}

#[test]
fn a_key_is_claimed_once() {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    let key = Digest::of(b"key");
    let claim = store.claim(&key).unwrap();
    assert!(claim.is_some());
    assert!(store.claim(&key).unwrap().is_none());
    drop(claim);
    assert!(store.claim(&key).unwrap().is_some());
    let hold = store.hold(&mut || false);
    assert!(hold.is_ok());
    let mut looks = 0;
    let stopped = store.hold_alone(&mut || {
        looks += 1;
        looks < 3
    });
    assert!(matches!(stopped, Err(Stopped::Unwanted)));
    assert_eq!(looks, 3);
}

#[test]
fn what_was_not_used_for_long_goes_first() {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    let large = "x".repeat(100_000);
    let (old, _) = result(&store, "old", &large);
    let (older, record) = result(&store, "older", "y");
    let (same, _) = result(&store, "same", "y");
    let (new, _) = result(&store, "new", "z");
    age(&store.record_path(&old), 20);
    age(&store.record_path(&older), 30);
    let projects = store.state("projects");
    for (name, folder) in [("gone", "/no/such/folder"), ("there", "/")] {
        let uses = ProjectUses { folder: folder.into(), ..ProjectUses::default() };
        fs::create_dir_all(projects.join(name)).unwrap();
        let json = serde_json::to_vec(&uses).unwrap();
        fs::write(projects.join(name).join(PROJECT_FILE), json).unwrap();
    }
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    let unused = |days: Duration| Limits { unused: Some(days), keep_bytes: None };
    let would = store.collect(unused(days(25)), true).unwrap();
    assert!(store.record(&older).is_some(), "nothing was done");
    // Looking at it was a use.
    age(&store.record_path(&older), 30);
    let did = store.collect(unused(days(25)), false).unwrap();
    assert_eq!((did.results, did.projects), (1, 1));
    assert_eq!(would, Collected { dry_run: true, ..did });
    assert!(!projects.join("gone").exists() && projects.join("there").exists());
    assert_eq!(store.kept(&older), None);
    assert!(store.tree_path(&record.output).is_dir(), "another record names it");
    let keep = Limits { keep_bytes: Some(did.left_bytes - 50_000), unused: None };
    let did = store.collect(keep, false).unwrap();
    assert_eq!(did.results, 1, "the oldest was large enough");
    assert!(did.removed_bytes > 90_000, "{did:?}");
    assert_eq!(store.kept(&old), None);
    assert!(store.record(&same).is_some() && store.record(&new).is_some());
    store.collect(Limits { keep_bytes: Some(0), unused: None }, false).unwrap();
    assert_eq!(fs::read_dir(store.root().join("trees")).unwrap().count(), 0);
}

#[test]
fn results_travel_in_a_folder() {
    let cache = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    let ((one, _), (two, _)) = (result(&store, "one", "a"), result(&store, "two", "b"));
    let blob = cache.path().join("x");
    fs::write(&blob, "x").unwrap();
    store.adopt_blob(&blob, &Digest::of(b"x")).unwrap();
    let mut wanted = Wanted { keys: vec![one, two], blobs: BTreeSet::from([Digest::of(b"x")]) };
    wanted.keys.push(Digest::of(b"nothing"));
    let first = store.export(folder.path(), &wanted).unwrap();
    assert_eq!((first.results, first.missing, first.files_new), (2, 1, 7));
    assert_eq!(store.export(folder.path(), &wanted).unwrap().files_new, 0);
    let there = Store::open(other.path()).unwrap();
    let imported = there.import(folder.path()).unwrap();
    assert_eq!((imported.results, imported.results_new), (2, 2));
    assert_eq!(there.record(&one), store.record(&one));
    assert!(there.prove_fully(&there.record(&two).unwrap()).unwrap());
    assert!(matches!(there.blob(&Digest::of(b"x")), Found::Whole(_)));
    assert_eq!(there.import(folder.path()).unwrap().results_new, 0);
    // What is not needed any more goes.
    let less = store.export(folder.path(), &Wanted { keys: vec![two], ..Wanted::default() });
    assert_eq!(less.unwrap().files_removed, 4);
    // Something wrong anywhere: nothing is trusted.
    let damaged = |change: &dyn Fn(&Path)| {
        let (fresh, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        duplicate(folder.path(), copy.path()).unwrap();
        change(copy.path());
        let fresh = Store::open(fresh.path()).unwrap();
        let error = fresh.import(copy.path()).unwrap_err().to_string();
        assert_eq!(fs::read_dir(fresh.root().join("records")).unwrap().count(), 0);
        error.replace(&copy.path().display().to_string(), "DIR")
    };
    let replace = |path: &Path, bytes: &[u8]| {
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let place = exchange::blob_place(Path::new(""), &Digest::of(b"b"));
    let error = damaged(&|copy| replace(&copy.join(&place), b"c"));
    assert!(error.ends_with("is damaged: it is not what its name says"), "{error}");
    let error = damaged(&|copy| fs::remove_file(copy.join(&place)).unwrap());
    assert!(error.contains("is damaged: No such file"), "{error}");
    let tree = Path::new("trees").join(store.record(&two).unwrap().output.hex());
    damaged(&|copy| replace(&copy.join(&tree), b"{}"));
    damaged(&|copy| replace(&copy.join("records").join(two.hex()), b"{"));
    let error = damaged(&|copy| replace(&copy.join(MARKER), b"{}"));
    assert!(error.starts_with("DIR is no exported cache: xstitch-cache.json says"), "{error}");
    let error = damaged(&|copy| fs::remove_file(copy.join(MARKER)).unwrap());
    assert_eq!(error, "DIR is no exported cache: it has no xstitch-cache.json");
    let foreign = store.export(cache.path(), &wanted).unwrap_err().to_string();
    assert!(foreign.ends_with("is no exported cache: it has no xstitch-cache.json"), "{foreign}");
}

#[test]
fn no_path_leaves_its_tree() {
    for (name, folder) in [("../x", ".."), ("/x", ""), ("a/b", "b"), ("a//b", "a"), ("./a", ".")] {
        let cache = tempfile::tempdir().unwrap();
        let folder_of = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        let (key, _) = result(&store, "key", "a");
        let wanted = Wanted { keys: vec![key], ..Wanted::default() };
        store.export(folder_of.path(), &wanted).unwrap();
        let link = Entry::Link { target: "/".into() };
        let mut tree = Tree::default();
        tree.entries.insert(name.into(), Entry::Link { target: "x".into() });
        tree.entries.insert(folder.into(), Entry::Folder { mode: 0o755 });
        tree.entries.entry("a".into()).or_insert(link);
        let output = tree.digest();
        fs::write(folder_of.path().join("trees").join(output.hex()), tree.to_json()).unwrap();
        let kept = records::Kept { output, ..store.kept(&key).unwrap() };
        let json = serde_json::to_vec(&kept).unwrap();
        fs::write(folder_of.path().join("records").join(key.hex()), json).unwrap();
        let fresh = tempfile::tempdir().unwrap();
        let fresh = Store::open(fresh.path()).unwrap();
        let error = fresh.import(folder_of.path()).unwrap_err().to_string();
        assert!(error.contains("is no path in a tree"), "{name}: {error}");
    }
}
