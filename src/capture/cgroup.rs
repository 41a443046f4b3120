//! What a process's cgroups tell: its container, its systemd unit.
//!
//! `/proc/PID/cgroup` has a line `hierarchy:controllers:path` for each hierarchy (cgroups(7)); version 2 is hierarchy 0 without
//! controllers. Runtimes of containers name their cgroups by the container's id, systemd names them by the unit.

use std::path::Path;

/// The cgroups of a process.
#[derive(Debug)]
pub struct Membership<'a> {
    /// The paths; version 2 first, then systemd's own hierarchy.
    paths: Vec<&'a str>,
}

/// Endings of the units that processes belong to (systemd.unit(5)); slices and targets have none of their own.
const UNITS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// Digits of a container's id.
const ID_DIGITS: usize = 64;

impl<'a> Membership<'a> {
    /// Reads the text of `/proc/PID/cgroup`; lines that are none are passed over.
    #[must_use]
    pub fn parse(text: &'a str) -> Membership<'a> {
        let mut lines: Vec<(u8, &str)> = text.lines().filter_map(line).collect();
        lines.sort_by_key(|(rank, _)| *rank);
        Membership { paths: lines.into_iter().map(|(_, path)| path).collect() }
    }

    /// The container: the id of docker, containerd, CRI-O, podman, Kubernetes or ECS, or the name that LXC or systemd-nspawn
    /// gave it. Of containers within containers the innermost. `None` outside of any, and where the process is in the root of our
    /// own cgroup namespace.
    #[must_use]
    pub fn container(&self) -> Option<String> {
        self.paths.iter().find_map(|path| container(path))
    }

    /// The systemd unit: the innermost service or scope, unescaped.
    #[must_use]
    pub fn unit(&self) -> Option<String> {
        self.paths.iter().find_map(|path| components(path).filter(|name| is_unit(name)).last()).map(unescape)
    }

    /// Whether it belongs to a unit (unescaped), directly or by a unit within it.
    #[must_use]
    pub fn is_of_unit(&self, matches: impl Fn(&str) -> bool) -> bool {
        self.paths.iter().any(|path| components(path).any(|name| is_unit(name) && matches(&unescape(name))))
    }

    /// Whether it is in a cgroup or below it; the path has no mount point and no leading `/`.
    #[must_use]
    pub fn is_below(&self, cgroup: &Path) -> bool {
        self.paths.iter().any(|path| Path::new(path.trim_start_matches('/')).starts_with(cgroup))
    }
}

fn line(line: &str) -> Option<(u8, &str)> {
    let mut fields = line.splitn(3, ':');
    let (hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let rank = match (hierarchy, controllers) {
        ("0", "") => 0,
        (_, "name=systemd") => 1,
        _ => 2,
    };
    Some((rank, path.strip_suffix(" (deleted)").unwrap_or(path)))
}

/// The names in a path. In a cgroup namespace, what lies above its root is shown by `..`.
fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty() && *name != "..")
}

fn container(path: &str) -> Option<String> {
    let mut above = "";
    let mut found = None;
    for name in components(path) {
        found = container_of(above, name).or(found);
        above = name;
    }
    found
}

/// The container whose cgroup has this name, below another.
fn container_of(above: &str, name: &str) -> Option<String> {
    let bare = name.strip_suffix(".scope").unwrap_or(name);
    // `docker-ID`, `cri-containerd-ID`, and where the runtime and systemd disagree: `kubepods-…-podUID.slice:cri-containerd:ID`.
    let (runtime, id) = bare.rsplit_once(['-', ':']).unwrap_or(("", bare));
    if is_id(id) {
        // Who watches over a container is not in it.
        return (!runtime.ends_with("conmon")).then(|| id.to_owned());
    }
    if let Some(name) = bare.strip_prefix("lxc.payload.") {
        return Some(name.to_owned());
    }
    match above {
        "lxc" | "lxc.payload" => return Some(name.to_owned()),
        // A virtual machine's or a container's of systemd-nspawn, started from a shell or as a service.
        "machine.slice" => {
            let machine = bare.strip_prefix("machine-").filter(|_| name != bare);
            let service = name.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service"));
            return machine.or(service).map(unescape);
        }
        _ => {}
    }
    is_task_of_fargate(name).then(|| name.to_owned())
}

fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && is_hexadecimal(text)
}

/// ECS on Fargate: the task's 32 digits, and a number.
fn is_task_of_fargate(name: &str) -> bool {
    let parts = name.split_once('-');
    parts.is_some_and(|(task, number)| {
        task.len() == 32
            && is_hexadecimal(task)
            && (6..=10).contains(&number.len())
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_unit(name: &str) -> bool {
    UNITS.iter().any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

/// Takes back what systemd does to names: `_` before those that look like a file of the kernel's, `\x2d` for a `-` within a part.
pub(super) fn unescape(name: &str) -> String {
    let name = name.strip_prefix('_').unwrap_or(name);
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "8ee5d7b6d0a1bb1e9ac60a9b4c1d0b7e7f2c52b5a7a9b3f0d7b8f1e2c3d4a5b6";
    const INNER: &str = "1111111111111111111111111111111111111111111111111111111111111111";

    /// Spellings of `/proc/PID/cgroup` with `ID` for a container's id, the container and the unit.
    const SPELLINGS: &[(&str, Option<&str>, Option<&str>)] = &[
        // Nothing of a container.
        ("0::/", None, None),
        ("0::/init.scope", None, Some("init.scope")),
        ("0::/system.slice/nginx.service", None, Some("nginx.service")),
        ("0::/user.slice/user-1000.slice/session-3.scope", None, Some("session-3.scope")),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.kde.konsole\\x2d99.scope",
            None,
            Some("app-org.kde.konsole-99.scope"),
        ),
        ("0::/system.slice/system-getty.slice/getty@tty1.service", None, Some("getty@tty1.service")),
        ("0::/system.slice/web.service/workers", None, Some("web.service")),
        ("0::/system.slice/web.service (deleted)", None, Some("web.service")),
        // docker with the drivers cgroupfs and systemd, versions 1, 2 and both.
        ("0::/docker/ID", Some("ID"), None),
        ("0::/system.slice/docker-ID.scope", Some("ID"), Some("docker-ID.scope")),
        (
            "12:pids:/docker/ID\n1:name=systemd:/docker/ID\n0::/system.slice/containerd.service",
            Some("ID"),
            Some("containerd.service"),
        ),
        (
            "11:memory:/system.slice/docker-ID.scope\n1:name=systemd:/system.slice/docker-ID.scope",
            Some("ID"),
            Some("docker-ID.scope"),
        ),
        // docker in docker, and systemd in docker.
        ("0::/docker/INNER/docker/ID", Some("ID"), None),
        ("0::/docker/ID/system.slice/sshd.service", Some("ID"), Some("sshd.service")),
        // Kubernetes with the drivers cgroupfs and systemd.
        ("0::/kubepods/burstable/pod2b5ca7b1-9d3c-4a6f-8b55-3c1e5f1f9a10/ID", Some("ID"), None),
        ("0::/kubepods/pod2b5ca7b1-9d3c-4a6f-8b55-3c1e5f1f9a10/ID", Some("ID"), None),
        (
            "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod2b5ca7b1_9d3c.slice/cri-containerd-ID.scope",
            Some("ID"),
            Some("cri-containerd-ID.scope"),
        ),
        ("0::/kubepods.slice/kubepods-pod2b5c.slice/crio-ID.scope", Some("ID"), Some("crio-ID.scope")),
        ("0::/kubepods.slice/kubepods-pod2b5c.slice/crio-ID.scope/container", Some("ID"), Some("crio-ID.scope")),
        ("0::/kubepods.slice/kubepods-pod2b5c.slice/crio-conmon-ID.scope", None, Some("crio-conmon-ID.scope")),
        (
            "9:cpu:/system.slice/containerd.service/kubepods-besteffort-pod2b5c.slice:cri-containerd:ID",
            Some("ID"),
            Some("containerd.service"),
        ),
        ("0::/kubelet/kubepods/besteffort/pod2b5ca7b1/ID", Some("ID"), None),
        ("0::/k8s.io/ID", Some("ID"), None),
        // podman, of root and of a user.
        ("0::/machine.slice/libpod-ID.scope/container", Some("ID"), Some("libpod-ID.scope")),
        ("0::/machine.slice/libpod-conmon-ID.scope", None, Some("libpod-conmon-ID.scope")),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            Some("ID"),
            Some("libpod-ID.scope"),
        ),
        ("7:memory:/libpod_parent/libpod-ID", Some("ID"), None),
        // ECS on EC2 and on Fargate.
        ("4:memory:/ecs/0410eff2-7e59-4111-823e-1e0d98ef7f30/ID", Some("ID"), None),
        (
            "0::/ecs/55091c13b8cf4801b527f8601742204e/55091c13b8cf4801b527f8601742204e-1234567890",
            Some("55091c13b8cf4801b527f8601742204e-1234567890"),
            None,
        ),
        // LXC and LXD, versions 1 and 2.
        ("3:cpuset:/lxc/web", Some("web"), None),
        ("0::/lxc.payload.web/system.slice/nginx.service", Some("web"), Some("nginx.service")),
        ("0::/lxc.payload/web", Some("web"), None),
        ("0::/lxc.monitor.web", None, None),
        // systemd-nspawn and libvirt.
        ("0::/machine.slice/machine-deb\\x2dsid.scope/payload", Some("deb-sid"), Some("machine-deb-sid.scope")),
        ("0::/machine.slice/systemd-nspawn@deb.service/payload", Some("deb"), Some("systemd-nspawn@deb.service")),
        // As seen from within a cgroup namespace.
        ("0::/../../docker-ID.scope", Some("ID"), Some("docker-ID.scope")),
        ("0::/..", None, None),
        // What only looks like one.
        ("4:memory:/process_api/b52a793fbde1992a0b3afa5ebced5524", None, None),
        ("0::/system.slice/.service", None, None),
        ("no line\n1:x\n", None, None),
    ];

    #[test]
    fn containers_and_units_in_all_their_spellings() {
        let full = |text: &str| text.replace("ID", ID).replace("INNER", INNER);
        for (text, container, unit) in SPELLINGS {
            // INNER has no ID in it once its own letters are replaced.
            let text = text.replace("INNER", INNER).replace("ID", ID);
            let found = Membership::parse(&text);
            assert_eq!(found.container(), container.map(full), "{text}");
            assert_eq!(found.unit(), unit.map(full), "{text}");
        }
    }

    #[test]
    fn units_and_cgroups_hold_what_is_below_them() {
        let text = "5:memory:/a/b\n0::/user.slice/user@1000.service/app.slice/x\\x2dy.service";
        let found = Membership::parse(text);
        assert!(found.is_of_unit(|unit| unit == "x-y.service") && found.is_of_unit(|unit| unit == "user@1000.service"));
        assert!(!found.is_of_unit(|unit| unit == "user.slice"));
        assert!(
            found.is_below(Path::new("a"))
                && found.is_below(Path::new("a/b"))
                && found.is_below(Path::new("user.slice"))
        );
        assert!(!found.is_below(Path::new("a/b/c")) && !found.is_below(Path::new("user")));
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape("a\\x2db\\xzz\\x"), "a-b\\xzz\\x");
        assert_eq!(unescape("_cgroup.service"), "cgroup.service");
        assert_eq!(unescape("\\xc3\\xa9"), "é");
    }
}
