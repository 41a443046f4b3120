//! Files: whole or not there, modes, devices, full disks.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "encode_support/mod.rs"]
mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rprof::encode::{FileError, Format, read_file, write_file};
use rprof::profile::Profile;
use support::*;

fn write(path: &Path, profile: &Profile) -> Result<(), FileError> {
    write_file(path, Format::by_name("pprof").unwrap(), profile)
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// A profile that does not fit into a few pages, compressed.
fn large_profile() -> Profile {
    let mut profile = server_profile();
    let mut number = 1_u64;
    for _ in 0..200_000 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        profile.comment(&format!("{number:x}"));
    }
    profile
}

#[test]
fn a_file_is_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cpu.pb.gz");
    write(&path, &server_profile()).unwrap();
    assert_eq!(read_file(&path).unwrap(), server_profile());
    assert_eq!(files(folder.path()), ["cpu.pb.gz"], "nothing is left behind");
    write(&path, &Profile::default()).unwrap();
    assert_eq!(read_file(&path).unwrap(), Profile::default(), "replaced");
}

#[test]
fn files_are_their_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cpu.pb.gz");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    write(&path, &server_profile()).unwrap();
    assert_eq!(mode(&path), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    write(&path, &server_profile()).unwrap();
    assert_eq!(mode(&path), 0o600, "whoever made the file before has no say");
}

#[test]
fn a_link_is_replaced_and_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (link, target) = (folder.path().join("latest"), folder.path().join("cpu.pb.gz"));
    fs::write(&target, "old").unwrap();
    symlink(&target, &link).unwrap();
    write(&link, &server_profile()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_file());
    assert_eq!(read_file(&link).unwrap(), server_profile());
    assert_eq!(fs::read(&target).unwrap(), b"old");
}

#[test]
fn a_full_device_is_an_error_that_says_so() {
    let error = write(Path::new("/dev/full"), &server_profile()).unwrap_err().to_string();
    assert!(error.starts_with("cannot write /dev/full: No space left on device"), "{error}");
    write(Path::new("/dev/null"), &server_profile()).unwrap();
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let mount = |args: &[&str]| Command::new("mount").args(args).arg(folder.path()).status().unwrap().success();
    assert!(mount(&["-t", "tmpfs", "-o", "size=64k", "none"]), "this test needs root to mount a small disk");
    let path = folder.path().join("cpu.pb.gz");
    let first = write(&path, &server_profile());
    let error = write(&path, &large_profile());
    let (read, left) = (read_file(&path), files(folder.path()));
    assert!(Command::new("umount").arg(folder.path()).status().unwrap().success());
    first.unwrap();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("cpu.pb.gz: No space left on device (os error 28); make room in "), "{error}");
    assert!(error.ends_with("or name another file with -o"), "{error}");
    assert_eq!(read.unwrap(), server_profile(), "the old file is whole");
    assert_eq!(left, ["cpu.pb.gz"]);
}

#[test]
fn errors_tell_path_cause_and_mend() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no/such/cpu.pb.gz");
    let error = write(&missing, &server_profile()).unwrap_err().to_string();
    let parent = missing.parent().unwrap().display();
    let expected = format!(
        "cannot write {}: No such file or directory (os error 2); make the folder first: mkdir -p {parent}",
        missing.display()
    );
    assert_eq!(error, expected);
    let error = write(folder.path(), &server_profile()).unwrap_err().to_string();
    assert!(error.ends_with("; name a file in it"), "{error}");
    let error = write(Path::new("/proc/cpu.pb.gz"), &server_profile()).unwrap_err().to_string();
    assert!(error.starts_with("cannot write /proc/cpu.pb.gz: "), "{error}");
    let error = read_file(&missing).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot read {}: No such file", missing.display())), "{error}");
}

#[test]
fn a_fifo_is_written_directly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let reader = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut bytes = Vec::new();
            fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        }
    });
    write(&path, &server_profile()).unwrap();
    assert_eq!(rprof::encode::decode(&reader.join().unwrap()).unwrap(), server_profile());
    assert_eq!(files(folder.path()), ["pipe"]);
}

#[test]
fn no_recording_is_made_of_a_profile() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("cpu.pb.gz");
    write(&profile, &server_profile()).unwrap();
    for (name, options) in [("cpu.data", &[][..]), ("cpu.perf", &[]), ("cpu", &["--format", "perf.data"])] {
        let recording = folder.path().join(name);
        let mut rprof = Command::new(env!("CARGO_BIN_EXE_rprof"));
        let refused = rprof.arg("convert").args(options).arg(&profile).arg(&recording).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("sums by stack, and no samples in time") && said.lines().count() == 1, "{said}");
        assert_eq!(refused.status.code(), Some(129));
    }
    assert_eq!(files(folder.path()), ["cpu.pb.gz"]);
}

#[test]
fn any_format_is_gzipped_where_the_name_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["stacks.folded.gz", "tracks.json.gz"] {
        let path = folder.path().join(name);
        write_file(&path, Format::for_path(&path).unwrap(), &server_profile()).unwrap();
        let (mut zipped, mut plain) = (String::new(), Vec::new());
        flate2::read::GzDecoder::new(fs::File::open(&path).unwrap()).read_to_string(&mut zipped).unwrap();
        let format = Format::for_path(Path::new(name.strip_suffix(".gz").unwrap())).unwrap();
        (format.write)(&server_profile(), &Default::default(), &mut plain).unwrap();
        assert!(zipped.as_bytes() == plain, "{name}");
    }
    let mut again = Vec::new();
    let read = read_file(&folder.path().join("stacks.folded.gz")).unwrap();
    (Format::by_name("folded").unwrap().write)(&read, &Default::default(), &mut again).unwrap();
    let mut first = Vec::new();
    (Format::by_name("folded").unwrap().write)(&server_profile(), &Default::default(), &mut first).unwrap();
    assert_eq!(String::from_utf8(again), String::from_utf8(first));
}

#[test]
fn endings_of_other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["cpu.png", "cpu.zip", "cpu.flamegraph", "cpu.gz"] {
        let path = folder.path().join(name);
        let mut rprof = Command::new(env!("CARGO_BIN_EXE_rprof"));
        let output = rprof.args(["record", "-o"]).arg(&path).args(["--", "true"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(129) && said.contains(".svg") && !path.exists(), "{name}: {said}");
    }
}

#[test]
fn a_line_of_two_counts_is_refused() {
    let error = rprof::encode::decode(b"main;work 10 12\nmain 1 0\n").unwrap_err().to_string();
    assert!(error.contains("line 1 has two counts") && error.contains("rprof diff"), "{error}");
}
